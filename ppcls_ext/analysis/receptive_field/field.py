"""The effective receptive field: gradient of the centre of a map with respect to the pixels.

Definition, that of the generator of Sequencer's authors (okojoalg/sequencer, ``generate_erf.py``), which follows
RepLKNet's (arXiv 2203.06717):

    centre   c(F) = sum over channels k of F[k, r, s], F a stage's map [C, h, w], r = (h - 1) // 2, s = (w - 1) // 2
    field    E[y, x] = sum over images and input channels of max(d c / d image[y, x], 0)

For even h and w this centre is Sequencer's, h / 2 - 1; for odd ones it is RepLKNet's, h // 2, the only middle there is.
"""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np
import paddle
from paddle import nn

from ppcls_ext.analysis.receptive_field.errors import ReceptiveFieldError
from ppcls_ext.analysis.receptive_field.stages import Tap, map_of

RELU, ABSOLUTE = "relu", "abs"
#: What becomes of a gradient before it is summed.
RECTIFIERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {RELU: lambda gradient: gradient.clip(0), ABSOLUTE: np.abs}


def centre_of(height: int, width: int) -> tuple[int, int]:
    """Return row and column of the centre of a map."""
    return (height - 1) // 2, (width - 1) // 2


def contributions(
    model: nn.Layer, taps: Sequence[Tap], images: np.ndarray, rectifier: str = RELU
) -> list[tuple[np.ndarray, tuple[int, int]]]:
    """Return the field of each map over some images, and the map's height and width.

    Args:
        model: in evaluation mode: then an image does not depend on the others of its batch.
        taps: where the maps are taken out.
        images: float32 ``[N, C, H, W]``.
        rectifier: of :data:`RECTIFIERS`.

    Returns:
        For each tap float64 ``[H, W]``, the sum over images and channels, and ``(h, w)``.

    Raises:
        ReceptiveFieldError: a map or a gradient is not finite, or no gradient reaches the image.
        ValueError: the network does not take images of this size.
    """
    pixels = paddle.to_tensor(images)
    pixels.stop_gradient = False
    found = []
    try:
        for tap in taps:  # each in a pass of its own: a PyLayer of Paddle goes backward once
            features = map_of(model, tap, pixels)
            height, width = (int(side) for side in features.shape[2:])
            row, column = centre_of(height, width)
            centre = features[:, :, row, column]
            if not bool(paddle.isfinite(centre).all()):
                raise ReceptiveFieldError(f"{tap.name} gives NaN or infinity")
            found.append(
                (RECTIFIERS[rectifier](_gradient(centre.sum(), pixels, tap)).sum(axis=(0, 1)), (height, width))
            )
    finally:
        for parameter in model.parameters():
            parameter.clear_gradient(False)
    return found


def _gradient(centre: paddle.Tensor, pixels: paddle.Tensor, tap: Tap) -> np.ndarray:
    """Return the gradient of the centre with respect to the pixels, float64 ``[N, C, H, W]``."""
    if not centre.stop_gradient:
        # Not paddle.grad: the backward pass of Paddle's LSTM fails without gradients of its weights.
        centre.backward()
    if pixels.grad is None:
        raise ReceptiveFieldError(f"no gradient leads from {tap.name} to the image: the model stops it")
    values = pixels.grad.numpy().astype(np.float64)
    pixels.clear_gradient(False)
    if not np.isfinite(values).all():
        raise ReceptiveFieldError(f"the gradient of {tap.name} holds NaN or infinity")
    return values
