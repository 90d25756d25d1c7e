"""Pooling in front of a classifier."""

from __future__ import annotations

import paddle
from paddle import nn


class GlobalAveragePool(nn.Layer):
    """Mean over height and width of a map, channels-last by default."""

    def __init__(self, channels_last: bool = True):
        super().__init__()
        self.axes = [1, 2] if channels_last else [2, 3]

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[N, H, W, C]`` (or ``[N, C, H, W]``), return ``[N, C]``."""
        return x.mean(axis=self.axes)
