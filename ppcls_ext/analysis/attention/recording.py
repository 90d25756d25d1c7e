"""Taking attention, position embeddings and feature maps out of a network."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from ppcls_ext.analysis.attention.geometry import (
    LayerAttention,
    dilated_attention,
    global_attention,
    window_attention,
)
from ppcls_ext.arch.backbone.base import Backbone
from ppcls_ext.arch.backbone.swin_transformer import WindowAttention
from ppcls_ext.arch.backbone.vit import TokenEmbedding
from ppcls_ext.arch.layers.attention_recording import record_attention
from ppcls_ext.arch.layers.dilated_attention import DilatedAttention


class AttentionError(ValueError):
    """A network without what is asked for, or a query outside the image; the message says what there is."""


def attention_layers(model: nn.Layer, image: np.ndarray) -> list[LayerAttention]:
    """Run an image and return the attention of each layer, in the order in which they run.

    Args:
        model: ViT, Swin or DilateFormer in evaluation mode.
        image: float32 ``[C, H, W]``, preprocessed.

    Raises:
        AttentionError: the network has no attention, or its probabilities are not finite.
    """
    layers = dict(model.named_sublayers())
    inputs: dict[str, list[int]] = {}
    handles = [
        layer.register_forward_pre_hook(lambda layer, x, name=name: inputs.__setitem__(name, list(x[0].shape)))
        for name, layer in layers.items()
    ]
    try:
        with record_attention(model) as maps, paddle.no_grad():
            model(paddle.to_tensor(image[None]))
    finally:
        for handle in handles:
            handle.remove()
    if not maps:
        raise AttentionError(f"{type(model).__name__} has no attention; ViT, Swin and DilateFormer have")
    found: list[LayerAttention] = []
    for name, tensors in maps.items():
        arrays = [tensor.astype("float32").numpy() for tensor in tensors]
        if not all(np.isfinite(array).all() for array in arrays):
            raise AttentionError(f"{name}: the attention is NaN or infinite")
        found += _of_layer(name, layers[name], inputs[name], arrays, image.shape[1:])
    return found


def _of_layer(
    name: str, layer: nn.Layer, shape: list[int], arrays: list[np.ndarray], size: tuple[int, ...]
) -> list[LayerAttention]:
    grid = (shape[1], shape[2]) if len(shape) == 4 else _patches(shape[1], size)
    stride = round(size[0] / grid[0])
    if isinstance(layer, DilatedAttention):
        return [
            dilated_attention(f"{name}, dilation {dilation}", array[0], stride, layer.kernel_size, dilation)
            for dilation, array in zip(layer.dilations, arrays)
        ]
    if isinstance(layer, WindowAttention):
        windows = [-(-side // layer.window) for side in grid]
        down, right = (layer.shift_along(count) if layer.shift else 0 for count in windows)
        return [window_attention(name, arrays[0], grid, stride, layer.window, (down, right))]
    return [global_attention(name, arrays[0][0], grid, stride)]


def _patches(tokens: int, size: tuple[int, ...]) -> tuple[int, int]:
    """Return rows and columns of so many tokens, one of which may be a class token, over an image."""
    for count in (tokens, tokens - 1):
        rows = round((count * size[0] / size[1]) ** 0.5)
        if rows and count % rows == 0 and round(size[0] / rows) == round(size[1] / (count // rows)):
            return rows, count // rows
    raise AttentionError(f"{tokens} tokens are no grid over an image of {size[0]}x{size[1]}")


def position_similarity(model: nn.Layer) -> np.ndarray:
    """Return the cosine similarity of ViT's position embeddings, ``[rows, columns, rows, columns]``.

    Raises:
        AttentionError: the network has no table of positions.
    """
    stems = [layer for layer in model.sublayers() if isinstance(layer, TokenEmbedding)]
    if not stems:
        raise AttentionError(f"{type(model).__name__} has no position embeddings; ViT has")
    rows, columns = stems[0].grid
    table = stems[0].pos_embed.numpy()[0, 1:]
    table = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    return (table @ table.T).reshape(rows, columns, rows, columns)


def feature_maps(model: nn.Layer, image: np.ndarray, count: int = 8) -> list[tuple[str, np.ndarray]]:
    """Return of each stage its name and the ``count`` channels that vary most, ``[count, h, w]``, the strongest first.

    Raises:
        AttentionError: the network is not of this package, and tells nothing of its stages.
    """
    if not isinstance(model, Backbone):
        raise AttentionError(f"{type(model).__name__} is no backbone of ppcls_ext, which have extract_features")
    with paddle.no_grad():
        maps = model.extract_features(paddle.to_tensor(image[None]))
    found = []
    for info, tensor in zip(model.feature_info, maps):
        channels = tensor.numpy()[0]
        best = np.argsort(-channels.reshape(len(channels), -1).std(axis=1), kind="stable")[:count]
        found.append((f"{info['name']}, stride {info['stride']}", channels[best]))
    return found
