"""The pre-norm residual block of transformers."""

from __future__ import annotations

import paddle
from paddle import nn

from ppcls_ext.arch.layers.drop_path import DropPath
from ppcls_ext.arch.layers.frozen import LayerNorm


class TransformerBlock(nn.Layer):
    """LayerNorm, attention, addition; LayerNorm, MLP, addition."""

    def __init__(self, dim: int, attn: nn.Layer, mlp: nn.Layer, epsilon: float, drop_path_rate: float):
        super().__init__()
        self.norm1 = LayerNorm(dim, epsilon=epsilon)
        self.attn = attn
        self.drop_path1 = DropPath(drop_path_rate)
        self.norm2 = LayerNorm(dim, epsilon=epsilon)
        self.mlp = mlp
        self.drop_path2 = DropPath(drop_path_rate)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return what ``attn`` takes and returns, ``dim`` wide on the last axis."""
        x = x + self.drop_path1(self.attn(self.norm1(x)))
        return x + self.drop_path2(self.mlp(self.norm2(x)))
