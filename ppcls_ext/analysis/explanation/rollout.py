"""Attention rollout (Abnar and Zuidema, arXiv 2005.00928): which patches reach the class token through all layers."""

from __future__ import annotations

import cv2
import numpy as np
import paddle
from paddle import nn

from ppcls_ext.analysis.explanation.errors import ExplanationError
from ppcls_ext.arch.backbone.base import Backbone
from ppcls_ext.arch.backbone.vit import ClassTokenPool
from ppcls_ext.arch.layers.attention_recording import record_attention


def rollout(model: nn.Layer, image: np.ndarray) -> np.ndarray:
    """Return how much of each patch is in the class token, ``[H, W]`` at the image's size.

    With A the mean of a layer's attention over its heads, the layers' 0.5 A + 0.5 I are multiplied (equation 1 and
    section 3); the row of the class token is the map. It does not depend on a class.

    Args:
        model: a ViT in evaluation mode.
        image: float32 ``[C, H, W]``, preprocessed.

    Raises:
        ExplanationError: the network has no class token that attends to all patches in every layer.
    """
    if not (isinstance(model, Backbone) and isinstance(model.pool, ClassTokenPool)):
        raise ExplanationError(
            f"attention rollout follows a class token through global attention; {type(model).__name__} has none. It is "
            "defined for ViT"
        )
    with record_attention(model) as maps, paddle.no_grad():
        model(paddle.to_tensor(image[None]))
    total = None
    for (probabilities,) in maps.values():
        layer = probabilities.numpy()[0].mean(axis=0)
        mixed = 0.5 * layer + 0.5 * np.eye(len(layer))
        total = mixed if total is None else mixed @ total
    if total is None or not np.isfinite(total).all():
        raise ExplanationError(f"{type(model).__name__}: its attention is not finite")
    rows = image.shape[1] // model.stage_strides[0]
    found = total[0, 1:].reshape(rows, -1).astype(np.float32)
    return cv2.resize(found, image.shape[:0:-1], interpolation=cv2.INTER_LINEAR)
