"""Cutting an image into patches and projecting each to a token."""

from __future__ import annotations

import paddle
from paddle import nn

from ppcls_ext.arch.layers.paddle_fixes import LayerNorm


class PatchEmbed(nn.Layer):
    """Convolution whose kernel equals its stride, then an optional LayerNorm; the output is channels-last."""

    def __init__(self, in_channels: int, dim: int, patch_size: int, norm_epsilon: float | None = None):
        super().__init__()
        self.proj = nn.Conv2D(in_channels, dim, kernel_size=patch_size, stride=patch_size)
        self.norm = nn.Identity() if norm_epsilon is None else LayerNorm(dim, epsilon=norm_epsilon)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[N, in_channels, H, W]``, return ``[N, H / patch, W / patch, dim]``."""
        return self.norm(self.proj(x).transpose([0, 2, 3, 1]))  # (N, C, H, W) -> (N, H, W, C)
