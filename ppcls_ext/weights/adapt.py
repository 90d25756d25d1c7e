"""Adapting a published tensor to a model with different input channels or a different image size.

Both rules keep what the network computes: an image whose channels are all alike gives the same response, and a position
embedding is resampled as the model itself resamples it for an image of that size.
"""

from __future__ import annotations

import math
from typing import Optional

import numpy as np
import paddle
import paddle.nn.functional as F


def adapt(model: paddle.nn.Layer, name: str, array: np.ndarray, shape: tuple) -> Optional[tuple[np.ndarray, str]]:
    """Return ``array`` in ``shape`` and a sentence on what was done; None if no rule applies.

    Args:
        model: where the tensor goes; ``in_channels``, ``position_tables`` and ``position_grid`` of it say what may be
            adapted.
        name: the tensor's name.
        array: the tensor as published.
        shape: the shape that the model has.
    """
    if name in getattr(model, "position_tables", ()) and len(shape) == 4 and array.shape[::3] == shape[::3]:
        height, width = shape[1:3]
        return resize_position_table(array, height, width), f"resampled from {array.shape[1:3]} to {(height, width)}"
    grid = getattr(model, "position_grid", None)
    if name in getattr(model, "position_tables", ()) and grid and len(shape) == 3 == array.ndim:
        side = math.isqrt(array.shape[1] - 1)
        if side * side == array.shape[1] - 1 and array.shape[2] == shape[2]:
            return resize_token_positions(array, side, *grid), f"resampled from {(side, side)} to {tuple(grid)}"
    if name in getattr(model, "position_tables", ()) and len(shape) == 2 == array.ndim and array.shape[1] == shape[1]:
        before, after = math.isqrt(array.shape[0]), math.isqrt(shape[0])
        if (before * before, after * after) == (array.shape[0], shape[0]):
            table = resize_position_table(array.reshape(1, before, before, -1), after, after)
            return table.reshape(shape), f"resampled for windows of {(after + 1) // 2}, from {(before + 1) // 2}"
    channels = getattr(model, "in_channels", None)
    other_channels = len(shape) == 4 == array.ndim and array.shape[:1] + array.shape[2:] == shape[:1] + shape[2:]
    if other_channels and shape[1] == channels and name == _first_convolution(model):
        return adapt_input_channels(array, channels), f"input channels from {array.shape[1]} to {channels}"
    return None


def adapt_input_channels(weight: np.ndarray, channels: int) -> np.ndarray:
    """Return a convolution's weight ``[out, in, kh, kw]`` for a different number of input channels.

    The sum over the input channels stays the same, and with it the response to an image whose channels are all alike.
    More channels repeat the given ones in turn, each shared out among its copies; fewer share out the sum.
    """
    given = weight.shape[1]
    if channels < given:
        return np.repeat(weight.sum(axis=1, keepdims=True) / channels, channels, axis=1).astype(weight.dtype)
    source = np.arange(channels) % given
    copies = np.bincount(source, minlength=given)
    return (weight[:, source] / copies[source].reshape(1, -1, 1, 1)).astype(weight.dtype)


def resize_position_table(table: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a position table ``[1, H, W, C]`` resampled (bicubic) to a different grid."""
    maps = paddle.to_tensor(table).transpose([0, 3, 1, 2])  # (1, H, W, C) -> (1, C, H, W)
    return F.interpolate(maps, size=[height, width], mode="bicubic").transpose([0, 2, 3, 1]).numpy()


def resize_token_positions(table: np.ndarray, side: int, height: int, width: int) -> np.ndarray:
    """Return positions ``[1, 1 + side², C]`` of a class token and a square grid, resampled to a different grid."""
    grid = table[:, 1:].reshape(1, side, side, -1)
    return np.concatenate([table[:, :1], resize_position_table(grid, height, width).reshape(1, height * width, -1)], 1)


def _first_convolution(model: paddle.nn.Layer) -> Optional[str]:
    layers = model.named_sublayers()
    return next((f"{name}.weight" for name, layer in layers if isinstance(layer, paddle.nn.Conv2D)), None)
