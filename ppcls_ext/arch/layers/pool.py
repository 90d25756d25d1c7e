"""Pooling in front of a classifier."""

from __future__ import annotations

import paddle
from paddle import nn


class GlobalAveragePool(nn.Layer):
    """Mean over height and width of a channels-last map."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[N, H, W, C]``, return ``[N, C]``."""
        return x.mean(axis=[1, 2])
