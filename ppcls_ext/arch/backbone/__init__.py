"""The backbones: one file per family; ``base.py`` is the contract that all of them keep."""

from __future__ import annotations

from ppcls_ext.arch.backbone import (
    dilateformer,
    res2net,
    res2net_bl,
    res2net_dla,
    resnet,
    sequencer,
    swin_transformer,
    vision_permutator,
    vit,
)
from ppcls_ext.arch.backbone.base import Backbone

__all__ = [
    "Backbone",
    "dilateformer",
    "res2net",
    "res2net_bl",
    "res2net_dla",
    "resnet",
    "sequencer",
    "swin_transformer",
    "vision_permutator",
    "vit",
]
