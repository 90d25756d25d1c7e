"""How publishers name the tensors of Swin; :mod:`ppcls_ext.utils.key_rules` explains the rules."""

from __future__ import annotations

from ppcls_ext.utils.key_rules import PADDLE, Rule, Source, unchanged

#: What the code computes anew from the sizes of the window and the image.
_COMPUTED = (r".*\.relative_position_index", r".*\.relative_position_bias", r".*\.attn_mask")
_BLOCKS = (
    Rule("patch_embed.{rest}", "stem.{rest}"),
    Rule("layers.{s}.blocks.{i}.{rest}", "stages.{s}.blocks.{i}.{rest}"),
    *unchanged("norm"),
)
#: A stage ends there with the merging, with which the next one begins here.
_OFFICIAL = (
    *_BLOCKS,
    Rule("layers.{s}.downsample.{rest}", "stages.{s+1}.downsample.{rest}"),
    *unchanged("head"),
)
_TIMM = (
    *_BLOCKS,
    Rule("layers.{s}.downsample.{rest}", "stages.{s}.downsample.{rest}"),
    Rule("head.fc.{rest}", "head.{rest}"),
)

SOURCES = (
    Source("swin", "microsoft/Swin-Transformer, PyTorch", _OFFICIAL, dropped=_COMPUTED),
    Source("timm", "timm, PyTorch", _TIMM, dropped=_COMPUTED),
    Source("paddleclas", "PaddleClas, Paddle", _OFFICIAL, PADDLE, _COMPUTED),
)
