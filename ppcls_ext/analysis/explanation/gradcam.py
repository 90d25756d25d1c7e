"""Grad-CAM (Selvaraju et al., arXiv 1610.02391), for maps in any layout."""

from __future__ import annotations

import math
from typing import Any, Optional

import cv2
import numpy as np
import paddle
from paddle import nn

from ppcls_ext.analysis.explanation.errors import ExplanationError
from ppcls_ext.analysis.explanation.gradients import backward
from ppcls_ext.arch.backbone.base import Backbone
from ppcls_ext.arch.backbone.vit import ClassTokenPool
from ppcls_ext.arch.layers.transformer_block import TransformerBlock
from ppcls_ext.engine.model import logits_of
from ppcls_ext.utils.spelling import nearest


def gradcam(model: nn.Layer, image: np.ndarray, class_id: int, layer: Optional[str] = None) -> np.ndarray:
    """Return the Grad-CAM map of a class, ``[H, W]`` at the image's size.

    ReLU of the sum of the layer's channels, each weighted by the mean of the logit's gradient over the map (equations 1
    and 2), enlarged bilinearly.

    Args:
        model: in evaluation mode.
        image: float32 ``[C, H, W]``, preprocessed.
        class_id: the class whose logit is explained.
        layer: dotted name of the layer; None takes the last that still has a map, see :func:`default_layer`.

    Raises:
        ExplanationError: there is no such layer, it has no map, or no gradient reaches it.
    """
    x = paddle.to_tensor(image[None])
    name = layer or default_layer(model, x)
    taken = find_layer(model, name)
    outputs: list[Any] = []
    handle = taken.register_forward_post_hook(lambda layer, inputs, output: outputs.append(output))
    x.stop_gradient = False
    try:
        logit = logits_of(model(x))[0, class_id]
    finally:
        handle.remove()
    if not outputs or not isinstance(outputs[-1], paddle.Tensor):
        raise ExplanationError(f"the layer {name!r} gives no tensor for an image")
    gradients: list[paddle.Tensor] = []
    if not outputs[-1].stop_gradient:
        outputs[-1].register_hook(lambda gradient: gradients.append(gradient.detach()))
    if not logit.stop_gradient:
        backward(model, logit)
    if not gradients:
        raise ExplanationError(f"no gradient of the logits reaches the layer {name!r}")
    maps, slopes = (_as_map(model, value.detach(), x, name).numpy()[0] for value in (outputs[-1], gradients[-1]))
    found = np.maximum((slopes.mean(axis=(1, 2), keepdims=True) * maps).sum(axis=0), 0)
    if not np.isfinite(found).all():
        raise ExplanationError(f"{type(model).__name__}: the map of {name!r} or its gradient is not finite")
    return cv2.resize(found, image.shape[:0:-1], interpolation=cv2.INTER_LINEAR)


def find_layer(model: nn.Layer, name: str) -> nn.Layer:
    """Return the layer of a dotted name.

    Raises:
        ExplanationError: with the nearest names, if there is none.
    """
    layers = dict(model.named_sublayers())
    if name not in layers:
        hint = nearest(name, layers, 3)
        more = f"; did you mean {', '.join(hint)}?" if hint else ""
        raise ExplanationError(f"{type(model).__name__} has no layer {name!r}{more}")
    return layers[name]


def default_layer(model: nn.Layer, images: paddle.Tensor) -> str:
    """Return the name of the layer that Grad-CAM takes by itself.

    The last stage of a backbone of this package; where a class token is classified, the first norm of the last block,
    since after that block's attention the other tokens have no influence. Of any other network the last layer whose
    output is a map ``[N, C, H, W]`` of more than one pixel.

    Raises:
        ExplanationError: no layer has a map.
    """
    names = {id(layer): name for name, layer in model.named_sublayers()}
    if isinstance(model, Backbone):
        if isinstance(model.pool, ClassTokenPool):
            block = [layer for layer in model.sublayers() if isinstance(layer, TransformerBlock)][-1]
            return names[id(block.norm1)]
        return names[id(list(model.stages)[-1])]
    found: list[str] = []

    def see(layer: nn.Layer, inputs: tuple, output: Any) -> None:
        if isinstance(output, paddle.Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            found.append(names[id(layer)])

    handles = [layer.register_forward_post_hook(see) for layer in model.sublayers() if not layer.sublayers()]
    try:
        with paddle.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise ExplanationError(f"no layer of {type(model).__name__} gives a map [N, C, H, W]; name one with --layer")
    return found[-1]


def _as_map(model: nn.Layer, output: paddle.Tensor, images: paddle.Tensor, name: str) -> paddle.Tensor:
    """Return what a layer gave as ``[N, C, H, W]``."""
    if output.ndim == 4:
        return output.transpose([0, 3, 1, 2]) if isinstance(model, Backbone) and model.channels_last else output
    if output.ndim == 3:
        if isinstance(model, Backbone) and isinstance(model.pool, ClassTokenPool):
            return model.as_map(output, images)
        side = math.isqrt(output.shape[1])
        if side * side == output.shape[1]:
            return output.transpose([0, 2, 1]).reshape([0, 0, side, side])
    raise ExplanationError(f"the layer {name!r} gives {list(output.shape)}, which is no map")
