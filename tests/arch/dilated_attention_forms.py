"""Multi-scale dilated attention by unfolding, as the paper's text describes it: the independent reference.

``F.unfold`` lays out the keys and values of every window, nine copies of each, and batched products do the rest. It
works on channels-first maps from a 1 x 1 convolution and shares no code with the package.
"""

from __future__ import annotations

import paddle
from paddle.nn import functional as F


def unfolded(x, heads: int, kernel_size: int, dilation: int) -> paddle.Tensor:
    """Return ``[N, heads, H * W, kernel_size², D]``: the window around each pixel of ``[N, heads * D, H, W]``."""
    n, channels = x.shape[:2]
    margin = dilation * (kernel_size - 1) // 2
    windows = F.unfold(x, kernel_size, strides=1, paddings=margin, dilations=dilation)
    return windows.reshape([n, heads, channels // heads, kernel_size**2, -1]).transpose([0, 1, 4, 3, 2])


def unfold_attention(query, key, value, heads: int, kernel_size: int, dilation: int) -> paddle.Tensor:
    """Take ``[N, C, H, W]`` each, return the same shape; the query is scaled already."""
    n, channels, height, width = query.shape
    query = query.reshape([n, heads, channels // heads, height * width, 1]).transpose([0, 1, 3, 4, 2])
    logits = paddle.matmul(query, unfolded(key, heads, kernel_size, dilation), transpose_y=True)
    mixed = paddle.matmul(F.softmax(logits, axis=-1), unfolded(value, heads, kernel_size, dilation))
    return mixed.squeeze(3).transpose([0, 1, 3, 2]).reshape([n, channels, height, width])


def unfold_module(x, weight, bias, heads: int, kernel_size: int, dilations: list) -> paddle.Tensor:
    """Take ``[N, H, W, C]`` and the projection to 3C channels, return every dilation's output ``[N, H, W, C]``."""
    n, height, width, channels = x.shape
    count = len(dilations)
    kernel = weight.transpose([1, 0]).reshape([3 * channels, channels, 1, 1])
    qkv = F.conv2d(x.transpose([0, 3, 1, 2]), kernel, bias)
    qkv = qkv.reshape([n, 3, count, channels // count, height, width])
    outputs = []
    for i, dilation in enumerate(dilations):
        query, key, value = (qkv[:, part, i] for part in range(3))
        query = query * (channels // heads) ** -0.5
        outputs.append(unfold_attention(query, key, value, heads // count, kernel_size, dilation))
    return paddle.concat(outputs, axis=1).transpose([0, 2, 3, 1])
