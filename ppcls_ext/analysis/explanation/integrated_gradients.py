"""Integrated gradients (Sundararajan et al., arXiv 1703.01365)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from paddle import nn

from ppcls_ext.analysis.explanation.gradients import image_gradients


class Attribution(NamedTuple):
    """A map ``[H, W]``, and how far its sum is from the difference of the logits, as a part of that difference."""

    map: np.ndarray
    completeness_error: float


def integrated_gradients(
    model: nn.Layer, image: np.ndarray, class_id: int, steps: int = 50, batch_size: int = 10
) -> Attribution:
    """Integrate the gradient on the straight line from an image of the mean colour (zeros) to the image.

    Equation 1 with the midpoint rule; attributions of the channels of a pixel are added up. By the axiom of
    completeness (proposition 1) the map sums up to logit(image) - logit(baseline), but for the error of the rule.

    Args:
        model: in evaluation mode.
        image: float32 ``[C, H, W]``, preprocessed.
        class_id: the class whose logit is explained.
        steps: points of the rule.
        batch_size: points a pass.
    """
    gradient = np.zeros(image.shape, np.float64)
    places = (np.arange(steps, dtype=np.float32) + 0.5) / steps
    for begin in range(0, steps, batch_size):
        some = places[begin : begin + batch_size]
        gradient += image_gradients(model, some[:, None, None, None] * image, class_id)[1].sum(axis=0)
    attributions = image * gradient / steps
    (there, here), _ = image_gradients(model, np.stack([np.zeros_like(image), image]), class_id)
    difference = float(here) - float(there)
    error = abs(float(attributions.sum()) - difference) / max(abs(difference), 1e-12)
    return Attribution(attributions.sum(axis=0).astype(np.float32), error)
