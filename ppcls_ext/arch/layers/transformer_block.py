"""The pre-norm residual block of transformers."""

from __future__ import annotations

import paddle
from paddle import nn

from ppcls_ext.arch.layers.drop_path import DropPath
from ppcls_ext.arch.layers.paddle_fixes import LayerNorm


class TransformerBlock(nn.Layer):
    """LayerNorm, attention, addition; LayerNorm, MLP, addition.

    Args:
        dim: Width of the tokens.
        attn: What mixes them: attention, or a layer in its place.
        mlp: What follows.
        epsilon: Of both LayerNorms.
        drop_path_rate: Stochastic depth of each branch.
        cpe: A layer in front of the block that tells the tokens where they are (conditional position encoding).
        skip_lam: What each branch is divided by.
    """

    def __init__(
        self,
        dim: int,
        attn: nn.Layer,
        mlp: nn.Layer,
        epsilon: float,
        drop_path_rate: float,
        cpe: nn.Layer | None = None,
        skip_lam: float = 1.0,
    ):
        super().__init__()
        self.cpe = cpe
        self.norm1 = LayerNorm(dim, epsilon=epsilon)
        self.attn = attn
        self.drop_path1 = DropPath(drop_path_rate)
        self.norm2 = LayerNorm(dim, epsilon=epsilon)
        self.mlp = mlp
        self.drop_path2 = DropPath(drop_path_rate)
        self.skip_lam = skip_lam

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return what ``attn`` takes and returns, ``dim`` wide on the last axis."""
        if self.cpe is not None:
            x = self.cpe(x)
        x = x + self._divided(self.drop_path1(self.attn(self.norm1(x))))
        return x + self._divided(self.drop_path2(self.mlp(self.norm2(x))))

    def _divided(self, branch: paddle.Tensor) -> paddle.Tensor:
        return branch if self.skip_lam == 1 else branch / self.skip_lam
