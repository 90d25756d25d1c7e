"""Softmax attention between all pairs of tokens."""

from __future__ import annotations

import math

import paddle
from paddle.nn import functional as F


def attention(
    query: paddle.Tensor,
    key: paddle.Tensor,
    value: paddle.Tensor,
    drop_rate: float = 0.0,
    training: bool = False,
    scale: float | None = None,
) -> paddle.Tensor:
    """Return softmax(scale query key^T) value.

    Args:
        query: ``[N, heads, tokens, D]``.
        key: ``[N, heads, keys, D]``.
        value: ``[N, heads, keys, E]``.
        drop_rate: Dropout of the probabilities.
        training: Whether dropout is active.
        scale: Factor of the products; None means 1 / sqrt(D).

    Returns:
        ``[N, heads, tokens, E]``.
    """
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1])
    logits = paddle.matmul(query * scale, key, transpose_y=True)
    probabilities = F.softmax(logits, axis=-1)
    if drop_rate:
        probabilities = F.dropout(probabilities, drop_rate, training=training)
    return paddle.matmul(probabilities, value)
