"""Linear layers and broadcasts that cost little on a CPU.

Paddle's CPU kernels for sums and products with a broadcast operand, and for their gradients, take many times as long as
those for operands of one shape; a product of matrices with ones spreads the operand faster, and so is its gradient.
"""

from __future__ import annotations

import math

import paddle
from paddle import nn
from paddle.nn import functional as F

from ppcls_ext.arch.layers.paddle_fixes import is_recording


class Linear(nn.Linear):
    """``nn.Linear``; on a CPU, while a backward pass is recorded, the bias is added by :func:`spread`."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[..., in_features]``, return ``[..., out_features]``."""
        return linear(x, self.weight, self.bias)


def linear(x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor | None) -> paddle.Tensor:
    """Return ``x weight + bias``: ``F.linear``, with the bias by :func:`spread` where that is faster."""
    if bias is None or not is_recording() or bias.stop_gradient:
        return F.linear(x, weight, bias)
    product = paddle.matmul(x, weight)
    return product + spread(bias, product)


def spread(values: paddle.Tensor, x: paddle.Tensor) -> paddle.Tensor:
    """Return values of channels in a shape that meets ``x`` in a sum or product: that of ``x`` where it is faster.

    Args:
        values: ``[C]``, or ``[N, C]`` for each sample its own.
        x: ``[N, ..., C]``.
    """
    # Autocast makes one of two types half, and would do so with the product here.
    if not paddle.in_dynamic_mode() or not x.place.is_cpu_place() or values.dtype != x.dtype:
        return values if values.ndim == 1 else values.reshape([-1] + [1] * (x.ndim - 2) + [values.shape[-1]])
    # By shapes: Paddle 2.6 takes the attribute `size` for a method in what it has converted for tracing.
    ones = paddle.ones([math.prod(x.shape[values.ndim - 1 : -1]), 1], dtype=values.dtype)
    return paddle.matmul(ones, values.unsqueeze(-2)).reshape(x.shape)
