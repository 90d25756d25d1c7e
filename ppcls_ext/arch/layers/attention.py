"""Softmax attention between all pairs of tokens."""

from __future__ import annotations

import math

import paddle
from paddle.nn import functional as F


def attention(
    query: paddle.Tensor, key: paddle.Tensor, value: paddle.Tensor, drop_rate: float = 0.0, training: bool = False
) -> paddle.Tensor:
    """Return softmax(query key^T / sqrt(D)) value.

    Args:
        query: ``[N, heads, tokens, D]``.
        key: ``[N, heads, keys, D]``.
        value: ``[N, heads, keys, E]``.
        drop_rate: Dropout of the probabilities.
        training: Whether dropout is active.

    Returns:
        ``[N, heads, tokens, E]``.
    """
    logits = paddle.matmul(query * (1 / math.sqrt(query.shape[-1])), key, transpose_y=True)
    probabilities = F.softmax(logits, axis=-1)
    if drop_rate:
        probabilities = F.dropout(probabilities, drop_rate, training=training)
    return paddle.matmul(probabilities, value)
