"""Stochastic depth (arXiv 1603.09382): a residual branch is left out per sample."""

from __future__ import annotations

import paddle
from paddle import nn

from ppcls_ext.arch.layers.shape import shape_of


def drop_path_rates(rate: float, depths: list[int]) -> list[list[float]]:
    """Return one rate per block, stage by stage: a linear ramp from 0 at the first block to ``rate`` at the last."""
    last = max(sum(depths) - 1, 1)
    starts = [sum(depths[:stage]) for stage in range(len(depths))]
    return [[rate * (start + block) / last for block in range(depth)] for start, depth in zip(starts, depths)]


class DropPath(nn.Layer):
    """Zeroes a sample's whole branch with probability ``rate`` in training and scales the others by 1 / (1 - rate)."""

    def __init__(self, rate: float = 0.0):
        super().__init__()
        self.rate = rate

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return ``[N, ...]``."""
        if self.rate == 0 or not self.training:
            return x
        keep = paddle.full([shape_of(x)[0]] + [1] * (x.ndim - 1), 1 - self.rate)
        return x * (paddle.bernoulli(keep) / (1 - self.rate)).astype(x.dtype)

    def extra_repr(self) -> str:
        """Show the rate in ``print(model)``."""
        return f"rate={self.rate:.4g}"
