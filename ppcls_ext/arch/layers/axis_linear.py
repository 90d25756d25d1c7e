"""A linear layer along one axis of a token grid, at any length of that axis.

The layer mixes ``native`` positions of ``width`` channels each: its weight is a matrix of ``native * width`` rows and
columns, in which position and channel can be told apart: ``W[p', s', p, s]`` leads from position p' and channel s' to
position p and channel s. For a different number of positions both position axes are resampled,

    ``W2[i', s', i, s] = sum_p' sum_p  into[i', p'] W[p', s', p, s] out[i, p]``,

where a *rule* gives ``into``, which keeps the scale of the sum over the input positions, and ``out``, which
interpolates between the output positions.
"""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from typing import Callable, NamedTuple, Optional

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from ppcls_ext.arch.layers.linear import linear
from ppcls_ext.arch.layers.paddle_fixes import is_recording


class Resampling(NamedTuple):
    """How a weight for ``native`` positions becomes one for ``length``; both matrices are ``[length, native]``.

    ``mask`` ``[length, length]``, if there is one, says which input position (row) reaches which output position.
    """

    into: np.ndarray
    out: np.ndarray
    mask: Optional[np.ndarray] = None


def _linear(distance: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(distance), 0)


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Return Keys's kernel with a = -1/2, which reproduces parabolas."""
    t = np.abs(distance)
    return np.where(t < 1, (1.5 * t - 2.5) * t**2 + 1, np.where(t < 2, ((-0.5 * t + 2.5) * t - 4) * t + 2, 0))


KERNELS = {"linear": _linear, "cubic": _cubic}


def interpolation(length: int, native: int, kernel: str, antialias: bool = True) -> np.ndarray:
    """Return the matrix ``[length, native]`` that resamples ``native`` values to ``length``; every row sums to 1.

    Positions are the centres of equal cells, so the outermost ones of two lengths do not coincide. When the axis
    shrinks, ``antialias`` widens the kernel accordingly. ``area`` averages over the part of the axis that a new cell
    covers.
    """
    scale = native / length
    if kernel == "area":
        edges = np.arange(length + 1)[:, None] * scale - np.arange(native)  # of the new cells, from each native one
        covered = np.clip(edges[1:], 0, 1) - np.clip(edges[:-1], 0, 1)
    else:
        centres = (np.arange(length) + 0.5) * scale - 0.5
        stretch = max(scale, 1.0) if antialias else 1.0
        covered = KERNELS[kernel]((centres[:, None] - np.arange(native)) / stretch)
    return covered / covered.sum(axis=1, keepdims=True)


def resample(length: int, native: int, kernel: str = "cubic", antialias: bool = True) -> Resampling:
    """Read the weight as a function of two continuous positions and sample it anew."""
    out = interpolation(length, native, kernel, antialias)
    return Resampling(out * (native / length), out)


def pool(length: int, native: int, kernel: str = "linear") -> Resampling:
    """Average the positions down (or repeat them up) to the native grid, mix there, and interpolate back."""
    return Resampling(interpolation(native, length, "area").T, interpolation(length, native, kernel))


def pad(length: int, native: int) -> Resampling:
    """Fill up with zeros to the native grid, mix, and cut; a longer axis is cut into pieces of the native length."""
    place = np.eye(native)[np.arange(length) % native]
    piece = np.arange(length) // native
    return Resampling(place, place, (piece[:, None] == piece).astype(np.float64))


#: How the weights for a different grid are made.
RULES: dict[str, Callable[[int, int], Resampling]] = {"resample": resample, "pool": pool, "pad": pad}


@functools.lru_cache(maxsize=256)
def _resampling(rule: str, length: int, native: int) -> Resampling:
    return RULES[rule](length, native)


class _Resampled:
    """Resampled weights by length, the most recent few; valid as long as the native weights have the same values.

    Paddle has no counter that optimizers, ``set_value`` and ``set_state_dict`` advance (``inplace_version`` stays as it
    is), so a copy of the native weights is kept and compared.
    """

    LENGTHS = 2

    def __init__(self):
        self.native: list = []
        self.by_length: OrderedDict = OrderedDict()

    def __deepcopy__(self, memo: dict) -> _Resampled:
        return _Resampled()

    def get(self, length: int, native: list, make: Callable[[], list]) -> list:
        """Return what ``make()`` returned for these values and this length."""
        if not (len(self.native) == len(native) and all(map(_same, self.native, native))):
            self.by_length.clear()
            self.native = [tensor.detach().clone() for tensor in native]
        if length not in self.by_length:
            self.by_length[length] = make()
            while len(self.by_length) > self.LENGTHS:
                self.by_length.popitem(last=False)
        self.by_length.move_to_end(length)
        return self.by_length[length]


def _same(a: paddle.Tensor, b: paddle.Tensor) -> bool:
    # Paddle 2.6 finds no two places equal, hence the strings.
    return a.dtype == b.dtype and str(a.place) == str(b.place) and bool(paddle.equal_all(a, b))


class AxisLinear(nn.Layer):
    """``[..., positions * width] -> [..., positions * width]``, positions slower than channels.

    With ``native`` positions it is a plain linear layer. With a different number its weight is resampled: in every pass
    while gradients of the weight are recorded, otherwise once, until the weight changes. A traced graph contains the
    resampling, unless :meth:`fold` was called.

    Args:
        native: Positions that the weight is for.
        width: Channels of a position.
        bias: Whether there is a bias, of every position and channel.
        rule: One of :data:`RULES`.
    """

    #: The weight is [in, out], as that of nn.Linear: what reads PyTorch's files transposes it.
    weight_is_in_out = True

    def __init__(self, native: int, width: int, bias: bool = False, rule: str = "resample"):
        super().__init__()
        self.native = native
        self.width = width
        self.rule = rule
        self.weight = self.create_parameter([native * width, native * width])
        self.bias = self.create_parameter([native * width], is_bias=True) if bias else None
        self._resampled = _Resampled()
        self._folded_length = native

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return ``[..., positions * width]``; the size of the last axis has to be known."""
        length = x.shape[-1] // self.width
        if length == self.native:
            return linear(x, self.weight, self.bias)
        if length == self._folded_length and not self.training and not paddle.in_dynamic_mode():
            return F.linear(x, self.folded_weight, None if self.bias is None else self.folded_bias)
        weight, bias = self.at_length(length)
        return F.linear(x, weight, bias)

    def fold(self, length: int) -> None:
        """Let a graph that is traced in evaluation hold the weight for ``length`` positions as a constant.

        Such a graph does not follow later changes of the weight. Nothing else changes.
        """
        self._folded_length = length
        if length == self.native:
            return
        native = [self.weight] if self.bias is None else [self.weight, self.bias]
        with paddle.no_grad():
            for name, tensor in zip(("folded_weight", "folded_bias"), self._make(length, native)):
                if name in self._buffers and self._buffers[name].shape == tensor.shape:
                    self._buffers[name].set_value(tensor)  # a graph that was traced with it needs that very tensor
                else:
                    self.register_buffer(name, tensor, persistable=False)

    def at_length(self, length: int) -> tuple:
        """Return weight and bias (None, if there is none) for ``length`` positions."""
        native = [self.weight] if self.bias is None else [self.weight, self.bias]
        frozen = all(tensor.stop_gradient for tensor in native)
        if not paddle.in_dynamic_mode() or (is_recording() and not frozen):
            made = self._make(length, native)
        else:
            made = self._resampled.get(length, native, lambda: self._make(length, native))
        return made[0], made[1] if self.bias is not None else None

    def _make(self, length: int, native: list) -> list:
        """Return the native ``[weight]`` or ``[weight, bias]`` for ``length`` positions."""
        if not paddle.in_dynamic_mode():
            return self._resample(length, native)
        # Mixed precision would round the weights, and what is kept for later passes must not depend on it.
        with paddle.amp.auto_cast(enable=False):
            return self._resample(length, native)

    def _resample(self, length: int, native: list) -> list:
        rule = _resampling(self.rule, length, self.native)
        dtype = self.weight.dtype
        precision = dtype if dtype in (paddle.float32, paddle.float64) else paddle.float32
        into, out = (paddle.to_tensor(matrix, dtype=precision) for matrix in rule[:2])
        size = length * self.width
        weight = native[0].astype(precision).reshape([self.native, -1])
        weight = paddle.matmul(into, weight).reshape([size, self.native, self.width])  # (i' s', p, s)
        weight = paddle.matmul(out, weight)  # (i' s', i, s)
        if rule.mask is not None:
            mask = paddle.to_tensor(rule.mask, dtype=precision).reshape([length, 1, length, 1])
            weight = weight.reshape([length, self.width, length, self.width]) * mask
        made = [weight.reshape([size, size]).astype(dtype)]
        if len(native) > 1:
            bias = native[1].astype(precision).reshape([self.native, self.width])
            made.append(paddle.matmul(out, bias).reshape([size]).astype(dtype))
        return made

    def multiply_adds(self, x: paddle.Tensor, output: paddle.Tensor) -> int:
        """Return the multiply-adds of a pass; resampling, done once per size, is not counted."""
        return math.prod(output.shape) * x.shape[-1]

    def extra_repr(self) -> str:
        """Show the sizes in ``print(model)``."""
        return f"native={self.native}, width={self.width}, rule={self.rule}"
