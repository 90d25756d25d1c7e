"""Making a channels-last map smaller or wider between two stages."""

from __future__ import annotations

import paddle
from paddle import nn


class Downsample(nn.Layer):
    """Convolution whose kernel equals its stride, on channels-last maps; with stride 1 it still mixes channels."""

    def __init__(self, dim_in: int, dim_out: int, stride: int):
        super().__init__()
        self.down = nn.Conv2D(dim_in, dim_out, kernel_size=stride, stride=stride)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[N, H, W, dim_in]``, return ``[N, H / stride, W / stride, dim_out]``."""
        x = self.down(x.transpose([0, 3, 1, 2]))  # (N, H, W, C) -> (N, C, H, W)
        return x.transpose([0, 2, 3, 1])
