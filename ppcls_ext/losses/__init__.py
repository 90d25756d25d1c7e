"""Training losses under PaddleClas's names, built from the ``Loss`` section of a YAML."""

from __future__ import annotations

from .celoss import CELoss
from .combined import CombinedLoss, build_loss
from .token_label import TokenLabelLoss

__all__ = ["CELoss", "CombinedLoss", "TokenLabelLoss", "build_loss"]
