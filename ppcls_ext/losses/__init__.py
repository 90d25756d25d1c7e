"""Training losses under PaddleClas's names, built from the ``Loss`` section of a YAML."""

from __future__ import annotations

from ppcls_ext.losses.bce import BCEWithLogitsLoss
from ppcls_ext.losses.celoss import CELoss
from ppcls_ext.losses.class_weights import balanced_weights
from ppcls_ext.losses.combined import CombinedLoss, build_loss
from ppcls_ext.losses.focal import FocalLoss
from ppcls_ext.losses.token_label import TokenLabelLoss

__all__ = [
    "BCEWithLogitsLoss",
    "CELoss",
    "CombinedLoss",
    "FocalLoss",
    "TokenLabelLoss",
    "balanced_weights",
    "build_loss",
]
