"""The backbones: one file per family; ``base.py`` is the contract that all of them keep."""

from __future__ import annotations

from ppcls_ext.arch.backbone import dilateformer, resnet, sequencer, vision_permutator, vit
from ppcls_ext.arch.backbone.base import Backbone

__all__ = ["Backbone", "dilateformer", "resnet", "sequencer", "vision_permutator", "vit"]
