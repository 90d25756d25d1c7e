"""Softmax attention between all pairs of tokens, as a function and as a layer."""

from __future__ import annotations

import math

import paddle
from paddle import nn
from paddle.base import core
from paddle.nn import functional as F

from ppcls_ext.arch.layers.attention_recording import is_recorded, note
from ppcls_ext.arch.layers.linear import Linear
from ppcls_ext.arch.layers.permute import permute
from ppcls_ext.arch.layers.shape import shape_of

#: What Paddle's flash kernel takes: this compute capability or later, head_dim <= 256 and divisible by 8.
FUSED_CAPABILITY = (8, 0)
FUSED_HEAD_SIZE = 256
HALVES = (paddle.float16, paddle.bfloat16)


def attention(
    query: paddle.Tensor,
    key: paddle.Tensor,
    value: paddle.Tensor,
    drop_rate: float = 0.0,
    training: bool = False,
    scale: float | None = None,
    bias: paddle.Tensor | None = None,
) -> paddle.Tensor:
    """Return softmax(scale query key^T + bias) value, by Paddle's fused kernel where there is one.

    Args:
        query: ``[N, heads, tokens, D]``.
        key: ``[N, heads, keys, D]``.
        value: ``[N, heads, keys, D]``.
        drop_rate: Dropout of the probabilities.
        training: Whether dropout is active.
        scale: Factor of the products; None means 1 / sqrt(D).
        bias: Added to the products: ``[heads, tokens, keys]``, or ``[windows, heads, tokens, keys]`` where the batch
            holds the windows of one image after those of another. No fused kernel is used with it.

    Returns:
        ``[N, heads, tokens, D]``.
    """
    drop_rate = drop_rate if training else 0.0
    root = math.sqrt(query.shape[-1])
    if bias is None and has_fused_kernel(query) and not is_recorded():
        if scale is not None:
            query = query * (scale * root)  # Paddle 2.6 divides by the root and takes no other scale
        query, key, value = (x.transpose([0, 2, 1, 3]) for x in (query, key, value))
        return F.scaled_dot_product_attention(query, key, value, dropout_p=drop_rate).transpose([0, 2, 1, 3])
    factor = 1 / root if scale is None else scale
    if _in_half_precision(query):
        logits = paddle.matmul(query * factor, key, transpose_y=True)  # in float16 the unscaled product can overflow
    else:
        logits = paddle.matmul(query, key, transpose_y=True) * factor  # keeps no second copy of the queries
    if bias is not None:
        logits = _biased(logits, bias)
    probabilities = F.softmax(logits, axis=-1)
    if is_recorded():
        note(probabilities)
    if drop_rate:
        probabilities = F.dropout(probabilities, drop_rate)
    return paddle.matmul(probabilities, value)


def _in_half_precision(query: paddle.Tensor) -> bool:
    """Return whether the product of queries and keys may be in half precision: they are, or autocast may make it so."""
    if query.dtype in HALVES or not paddle.in_dynamic_mode():
        return query.dtype in HALVES
    return paddle.framework._dygraph_tracer()._amp_level != core.AmpLevel.O0


def _biased(logits: paddle.Tensor, bias: paddle.Tensor) -> paddle.Tensor:
    if bias.ndim == 3:
        return logits + bias
    windows = shape_of(bias)[0]
    in_images = logits.reshape([-1, windows, *bias.shape[1:]])
    return (in_images + bias).flatten(0, 1)


def has_fused_kernel(query: paddle.Tensor) -> bool:
    """Return whether Paddle has a fused kernel for heads ``[N, heads, tokens, D]`` like these.

    It has one for half precision on recent GPUs. Elsewhere, on CPUs too, its function computes what :func:`attention`
    does, in the same time. An exported graph has to run anywhere, so none is used while a graph is traced.
    """
    if not paddle.in_dynamic_mode() or not query.place.is_gpu_place():
        return False
    size = query.shape[-1]
    fits = size % 8 == 0 and size <= FUSED_HEAD_SIZE
    return query.dtype in HALVES and fits and paddle.device.cuda.get_device_capability() >= FUSED_CAPABILITY


class SelfAttention(nn.Layer):
    """Multi-head self-attention (MHSA) over all tokens of a sequence or of a map.

    Args:
        dim: Channels C.
        heads: Heads that they are split into.
        bias: Whether queries, keys and values have a bias.
        scale: Factor of the products of queries and keys; None means 1 / sqrt(dim / heads).
        attn_drop_rate: Dropout of the probabilities.
        drop_rate: Dropout of the result.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        bias: bool = True,
        scale: float | None = None,
        attn_drop_rate: float = 0.0,
        drop_rate: float = 0.0,
    ):
        super().__init__()
        self.heads = heads
        self.scale = scale
        self.attn_drop_rate = attn_drop_rate
        # Output channels: query, key, value; each split by head.
        self.qkv = Linear(dim, 3 * dim, bias_attr=None if bias else False)
        self.proj = Linear(dim, dim)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return ``[N, tokens, C]`` or ``[N, H, W, C]``."""
        tokens = x.flatten(1, 2) if x.ndim == 4 else x
        qkv = self.qkv(tokens).reshape([0, 0, 3, self.heads, x.shape[-1] // self.heads])
        query, key, value = permute(qkv, [2, 0, 3, 1, 4]).unbind(0)  # each (N, heads, tokens, D)
        mixed = attention(query, key, value, self.attn_drop_rate, self.training, self.scale)
        mixed = self.drop(self.proj(permute(mixed, [0, 2, 1, 3]).flatten(2)))
        return mixed.reshape(shape_of(x)) if x.ndim == 4 else mixed

    def multiply_adds(self, x: paddle.Tensor, output: paddle.Tensor) -> int:
        """Return the products of queries with keys, and of probabilities with values."""
        return 2 * math.prod(output.shape) * math.prod(output.shape[1:-1])
