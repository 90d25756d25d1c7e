"""SWDA and MSDA, the attention of DilateFormer: a window of keys that lie some pixels apart (arXiv 2302.01791).

Unfolding would copy keys and values once for each of the k² places of a window. Here the places are visited one by
one: a place is the padded map, shifted. Query, key, value and probabilities are kept for the backward pass.
"""

from __future__ import annotations

import functools
import math
from typing import Sequence

import paddle
from paddle import nn
from paddle.autograd import PyLayer
from paddle.nn import functional as F

from ppcls_ext.arch.layers.attention_recording import is_recorded, note
from ppcls_ext.arch.layers.linear import Linear
from ppcls_ext.arch.layers.paddle_fixes import is_recording


def _places(kernel_size: int, dilation: int) -> list:
    """Return where the shifted maps begin in the padded one, (row, column) for each key of a window."""
    steps = [dilation * i for i in range(kernel_size)]
    return [(row, column) for row in steps for column in steps]


def _pad(x: paddle.Tensor, before: tuple, after: tuple) -> paddle.Tensor:
    """Put rows and columns of zeros around ``[N, H, W, C]``."""
    return F.pad(x, [0, 0, before[0], after[0], before[1], after[1], 0, 0])


def _cut(x: paddle.Tensor, place: tuple, margin: int) -> paddle.Tensor:
    """Undo ``margin`` of padding on every side, beginning at ``place`` instead of (margin, margin)."""
    row, column = place
    if not paddle.in_dynamic_mode():
        # The ends count from the end of the axes: height and width may be unknown while a graph is traced.
        return x[:, row : row - 2 * margin or None, column : column - 2 * margin or None]
    batch, height, width, channels = x.shape
    height, width = height - 2 * margin, width - 2 * margin
    if x.place.is_cpu_place() and x.dtype in (paddle.float32, paddle.float64):
        # A slice is a strided view, and reading one is some fifty times slower on the CPU than this copy.
        return paddle.crop(x, [batch, height, width, channels], [0, row, column, 0])
    return x[:, row : row + height, column : column + width]


def _head_sums(channels: int, heads: int, dtype) -> paddle.Tensor:
    """Return the matrix ``[channels, heads]`` that adds up the channels of each head; its transpose spreads them.

    On the CPU both products are many times faster than a sum over an axis and a broadcast.
    """
    return paddle.eye(heads).repeat_interleave(channels // heads, axis=0).astype(dtype)


def _softmax(logits: list) -> list:
    """Return the softmax over the list, in single precision at least."""
    dtype = logits[0].dtype
    is_half = dtype in (paddle.float16, paddle.bfloat16)
    if is_half:
        logits = [logit.astype("float32") for logit in logits]
    highest = functools.reduce(paddle.maximum, logits)
    exponentials = [paddle.exp(logit - highest) for logit in logits]
    total = functools.reduce(paddle.add, exponentials)
    probabilities = [exponential / total for exponential in exponentials]
    return [p.astype(dtype) for p in probabilities] if is_half else probabilities


def _attend(query, key, value, heads: int, kernel_size: int, dilation: int, masks: list) -> tuple:
    """Return the output, padded key and value, and the probabilities of each place; see :func:`dilated_attention`."""
    places, margin = _places(kernel_size, dilation), dilation * (kernel_size // 2)
    sums = _head_sums(query.shape[-1], heads, query.dtype)
    key, value = (_pad(x, (margin, margin), (margin, margin)) for x in (key, value))
    probabilities = _softmax([paddle.matmul(query * _cut(key, place, margin), sums) for place in places])
    if is_recorded():
        note(paddle.stack(probabilities, axis=-1))
    dropped = [p * mask for p, mask in zip(probabilities, masks)] if masks else probabilities
    # One place at a time: the nine products are never there together.
    output = None
    for place, p in zip(places, dropped):
        product = paddle.matmul(p, sums, transpose_y=True) * _cut(value, place, margin)
        output = product if output is None else output + product
    return output, key, value, probabilities


class _RecordedAttention(PyLayer):
    """:func:`_attend` with its derivative, which needs no more than q, k, v and the probabilities.

    With L the logits, p the probabilities, v_j the value at place j and g the output's gradient:
    dL_j = p_j (g·v_j - sum_i p_i g·v_i), dq = sum_j dL_j k_j, and dk and dv add up dL_j q and p_j g, shifted back.
    """

    @staticmethod
    def forward(ctx, query, key, value, heads, kernel_size, dilation, masks):
        ctx.options = heads, kernel_size, dilation
        ctx.frozen = [x.stop_gradient for x in (query, key, value)]
        with paddle.amp.auto_cast(enable=False):
            output, key, value, probabilities = _attend(query, key, value, heads, kernel_size, dilation, masks)
        ctx.save_for_backward(query, key, value, *probabilities, *masks)
        return output

    @staticmethod
    def backward(ctx, gradient):
        if paddle.is_grad_enabled():  # create_graph=True; the probabilities were kept as constants
            raise RuntimeError("dilated attention has no second derivative: create_graph must be False")
        heads, kernel_size, dilation = ctx.options
        query, key, value, *rest = ctx.saved_tensor()
        places, margin = _places(kernel_size, dilation), dilation * (kernel_size // 2)
        probabilities, masks = rest[: len(places)], rest[len(places) :]
        sums = _head_sums(query.shape[-1], heads, query.dtype)
        slopes = [paddle.matmul(gradient * _cut(value, place, margin), sums) for place in places]
        dropped = probabilities
        if masks:
            slopes = [slope * mask for slope, mask in zip(slopes, masks)]
            dropped = [p * mask for p, mask in zip(probabilities, masks)]
        mean = functools.reduce(paddle.add, [p * slope for p, slope in zip(probabilities, slopes)])
        totals: list[paddle.Tensor] = []
        for i, place in enumerate(places):
            after = tuple(2 * margin - begin for begin in place)
            logit = paddle.matmul(probabilities[i] * (slopes[i] - mean), sums, transpose_y=True)
            spread = paddle.matmul(dropped[i], sums, transpose_y=True)
            parts = (
                logit * _cut(key, place, margin),
                _pad(logit * query, place, after),
                _pad(spread * gradient, place, after),
            )
            totals = [total + part for total, part in zip(totals, parts)] if totals else list(parts)
        middle = margin, margin
        found = totals[0], _cut(totals[1], middle, margin), _cut(totals[2], middle, margin)
        return tuple(None if frozen else gradient for gradient, frozen in zip(found, ctx.frozen))


def dilated_attention(
    query: paddle.Tensor,
    key: paddle.Tensor,
    value: paddle.Tensor,
    heads: int,
    kernel_size: int,
    dilation: int,
    drop_rate: float = 0.0,
) -> paddle.Tensor:
    """Return SWDA, sliding window dilated attention, for one dilation (arXiv 2302.01791, equations 2 and 3).

    Each query meets the ``kernel_size``² keys around it, ``dilation`` pixels apart. As in the official code a key
    outside the map is zero and takes its part of the softmax (its logit is 0).

    Args:
        query: ``[N, H, W, C]``, scaled.
        key: ``[N, H, W, C]``.
        value: ``[N, H, W, C]``.
        heads: Heads that the channels are split into.
        kernel_size: Keys along each axis, odd.
        dilation: Pixels between two of them.
        drop_rate: Dropout of the probabilities.

    Returns:
        ``[N, H, W, C]``.
    """
    masks = []
    if drop_rate:
        one = query[..., :heads]
        masks = [F.dropout(paddle.ones_like(one), drop_rate) for _ in range(kernel_size**2)]
    arguments = query, key, value, heads, kernel_size, dilation, masks
    if is_recording() and not all(x.stop_gradient for x in arguments[:3]):
        return _RecordedAttention.apply(*arguments)
    return _attend(*arguments)[0]


class DilatedAttention(nn.Layer):
    """MSDA, multi-scale dilated attention (arXiv 2302.01791, section 3.2): heads are split over ``dilations``."""

    def __init__(self, dim: int, heads: int, dilations: Sequence[int], kernel_size: int, bias: bool, drop_rate: float):
        super().__init__()
        self.heads = heads
        self.dilations = list(dilations)
        self.kernel_size = kernel_size
        self.drop_rate = drop_rate
        # Output channels: query, key, value; each split by dilation, then by head.
        self.qkv = Linear(dim, 3 * dim, bias_attr=None if bias else False)
        self.proj = Linear(dim, dim)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return ``[N, H, W, C]``."""
        count = len(self.dilations)
        scale = math.sqrt(self.heads / x.shape[-1])
        groups = self.qkv(x).chunk(3 * count, axis=-1)
        options = self.heads // count, self.kernel_size
        drop_rate = self.drop_rate if self.training else 0.0
        outputs = []
        for i, dilation in enumerate(self.dilations):
            query, key, value = groups[i::count]
            outputs.append(dilated_attention(query * scale, key, value, *options, dilation, drop_rate))
        return self.proj(paddle.concat(outputs, axis=-1))

    def multiply_adds(self, x: paddle.Tensor, output: paddle.Tensor) -> int:
        """Return the products of queries with keys, and of probabilities with values."""
        return 2 * math.prod(output.shape) * self.kernel_size**2
