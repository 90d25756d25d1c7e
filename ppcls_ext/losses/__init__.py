"""Training losses under PaddleClas's names, built from the ``Loss`` section of a YAML."""

from __future__ import annotations

from ppcls_ext.losses.celoss import CELoss
from ppcls_ext.losses.combined import CombinedLoss, build_loss
from ppcls_ext.losses.token_label import TokenLabelLoss

__all__ = ["CELoss", "CombinedLoss", "TokenLabelLoss", "build_loss"]
