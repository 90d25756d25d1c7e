"""A linear layer whose bias costs little on a CPU."""

from __future__ import annotations

import paddle
from paddle import nn
from paddle.nn import functional as F

from ppcls_ext.arch.layers.paddle_fixes import is_recording


class Linear(nn.Linear):
    """``nn.Linear``; on a CPU, while a backward pass is recorded, the bias is added by :func:`add_bias`."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[..., in_features]``, return ``[..., out_features]``."""
        return linear(x, self.weight, self.bias)


def linear(x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor | None) -> paddle.Tensor:
    """Return ``x weight + bias``: ``F.linear``, with the bias by :func:`add_bias` where that is faster."""
    if bias is None or not is_recording() or bias.stop_gradient or not x.place.is_cpu_place():
        return F.linear(x, weight, bias)
    return add_bias(paddle.matmul(x, weight), bias)


def add_bias(x: paddle.Tensor, bias: paddle.Tensor) -> paddle.Tensor:
    """Return ``x + bias`` for ``[..., C]`` and ``[C]``, with a fast gradient of the bias on a CPU.

    Paddle's kernel for the gradient of a broadcast addition takes about as long there as a product. Spread by a product
    with ones, the bias has another product as its gradient.
    """
    if x.dtype != bias.dtype:  # autocast has made one of them half
        return x + bias
    ones = paddle.ones([x.size // bias.size, 1], dtype=bias.dtype)
    return x + paddle.matmul(ones, bias.unsqueeze(0)).reshape(x.shape)
