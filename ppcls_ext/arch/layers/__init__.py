"""Layers that two or more families share, and nothing else."""

from __future__ import annotations

from ppcls_ext.arch.layers.attention import attention
from ppcls_ext.arch.layers.batch_norm import BatchNorm2D
from ppcls_ext.arch.layers.conv_bn import ConvBN
from ppcls_ext.arch.layers.downsample import Downsample
from ppcls_ext.arch.layers.drop_path import DropPath, drop_path_rates
from ppcls_ext.arch.layers.frozen import LayerNorm, is_recording, run_rnn
from ppcls_ext.arch.layers.init import he_normal, truncated_normal
from ppcls_ext.arch.layers.mlp import ACTIVATIONS, Mlp
from ppcls_ext.arch.layers.patch_embed import PatchEmbed
from ppcls_ext.arch.layers.permute import permute
from ppcls_ext.arch.layers.pool import GlobalAveragePool
from ppcls_ext.arch.layers.recompute import RecomputeSequential
from ppcls_ext.arch.layers.transformer_block import TransformerBlock

__all__ = [
    "ACTIVATIONS",
    "BatchNorm2D",
    "ConvBN",
    "Downsample",
    "DropPath",
    "GlobalAveragePool",
    "LayerNorm",
    "Mlp",
    "PatchEmbed",
    "RecomputeSequential",
    "TransformerBlock",
    "attention",
    "drop_path_rates",
    "he_normal",
    "is_recording",
    "permute",
    "run_rnn",
    "truncated_normal",
]
