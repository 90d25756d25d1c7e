"""Layers that two or more families share, and two of one family that fill a file of their own."""

from __future__ import annotations

from ppcls_ext.arch.layers.attention import SelfAttention, attention
from ppcls_ext.arch.layers.batch_norm import BatchNorm2D
from ppcls_ext.arch.layers.conv_bn import ConvBN
from ppcls_ext.arch.layers.downsample import Downsample
from ppcls_ext.arch.layers.drop_path import DropPath, drop_path_rates
from ppcls_ext.arch.layers.init import he_normal, init_like_torch, init_linear, lecun_normal, truncated_normal
from ppcls_ext.arch.layers.linear import Linear
from ppcls_ext.arch.layers.mlp import ACTIVATIONS, Mlp
from ppcls_ext.arch.layers.paddle_fixes import LayerNorm, is_recording, run_rnn
from ppcls_ext.arch.layers.patch_embed import PatchEmbed
from ppcls_ext.arch.layers.permute import permute
from ppcls_ext.arch.layers.pool import GlobalAveragePool
from ppcls_ext.arch.layers.recompute import RecomputeSequential
from ppcls_ext.arch.layers.shape import shape_of
from ppcls_ext.arch.layers.stage import Stage
from ppcls_ext.arch.layers.transformer_block import TransformerBlock

__all__ = [
    "ACTIVATIONS",
    "BatchNorm2D",
    "ConvBN",
    "Downsample",
    "DropPath",
    "GlobalAveragePool",
    "LayerNorm",
    "Linear",
    "Mlp",
    "PatchEmbed",
    "RecomputeSequential",
    "SelfAttention",
    "Stage",
    "TransformerBlock",
    "attention",
    "drop_path_rates",
    "he_normal",
    "init_like_torch",
    "init_linear",
    "is_recording",
    "lecun_normal",
    "permute",
    "run_rnn",
    "shape_of",
    "truncated_normal",
]
