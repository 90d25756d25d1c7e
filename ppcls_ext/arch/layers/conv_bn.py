"""Convolution, BatchNorm, activation: what convolutional families are made of."""

from __future__ import annotations

import paddle
from paddle import nn

from ppcls_ext.arch.layers.batch_norm import BatchNorm2D


class ConvBN(nn.Layer):
    """Convolution without bias, BatchNorm and by default ReLU, on ``[N, C, H, W]``.

    The padding keeps the size at stride 1: an odd kernel's output has ceil(side / stride) pixels.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel_size: int, stride: int = 1, groups: int = 1, act: bool = True
    ):
        super().__init__()
        self.conv = nn.Conv2D(
            channels_in,
            channels_out,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            bias_attr=False,
        )
        self.norm = BatchNorm2D(channels_out)
        self.act = nn.ReLU() if act else nn.Identity()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[N, channels_in, H, W]``, return ``[N, channels_out, ceil(H / stride), ceil(W / stride)]``."""
        return self.act(self.norm(self.conv(x)))
