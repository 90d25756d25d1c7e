"""Transposing large maps on a CPU."""

from __future__ import annotations

from typing import Sequence

import numpy as np
import paddle
from paddle.autograd import PyLayer


def permute(x: paddle.Tensor, axes: Sequence[int]) -> paddle.Tensor:
    """Return ``x.transpose(axes)``, in memory in the new order.

    In dygraph Paddle's ``transpose`` only notes the new strides, and whatever reads the tensor next copies it, on a CPU
    element by element: for the windows of Swin that takes longer than attention itself. ``einsum`` copies in blocks.
    """
    if not paddle.in_dynamic_mode() or not x.place.is_cpu_place():
        return x.transpose(axes)
    return _Permutation.apply(x, list(axes))


def _copy(x: paddle.Tensor, axes: Sequence[int]) -> paddle.Tensor:
    letters = "abcdefgh"[: x.ndim]
    return paddle.einsum(f"{letters}->{''.join(letters[axis] for axis in axes)}", x)


class _Permutation(PyLayer):
    """What ``einsum`` does, without keeping its input for the backward pass."""

    @staticmethod
    def forward(ctx, x: paddle.Tensor, axes: list) -> paddle.Tensor:
        ctx.inverse = np.argsort(axes).tolist()
        return _copy(x, axes)

    @staticmethod
    def backward(ctx, gradient: paddle.Tensor) -> paddle.Tensor:
        return _copy(gradient, ctx.inverse)
