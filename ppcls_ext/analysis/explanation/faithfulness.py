"""How true a map is to the model: deletion and insertion (Petsiuk et al., RISE, arXiv 1806.07421, section 4.2)."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from ppcls_ext.analysis.explanation.occlusion import Score


class Faithfulness(NamedTuple):
    """Areas under the class's probability: small for a good map while pixels vanish, large while they appear."""

    deletion: float
    insertion: float


def faithfulness(
    score: Score, image: np.ndarray, class_id: int, map_: np.ndarray, steps: int = 20, batch_size: int = 32
) -> Faithfulness:
    """Delete and insert pixels in the order of a map, the most important first.

    Deleted pixels get the mean colour (zeros); insertion begins with a blurred image.

    Args:
        score: the model.
        image: float32 ``[C, H, W]``, preprocessed.
        class_id: the class.
        map_: ``[H, W]``.
        steps: equal parts of the pixels.
        batch_size: images a pass.

    Returns:
        Areas by the trapezoid rule over the share of pixels, in [0, 1].
    """
    order = np.argsort(-map_.ravel(), kind="stable")
    rank = np.empty(order.size, int)
    rank[order] = np.arange(order.size)
    rank = rank.reshape(map_.shape)
    shares = np.linspace(0, 1, steps + 1)
    chosen = np.stack([rank < round(share * order.size) for share in shares])[:, None]
    areas = []
    for inside, outside in ((np.zeros_like(image), image), (image, _blurred(image))):
        scores = [
            score(np.where(chosen[begin : begin + batch_size], inside, outside).astype(np.float32))[:, class_id]
            for begin in range(0, steps + 1, batch_size)
        ]
        values = np.concatenate(scores)
        areas.append(float((values[1:] + values[:-1]).mean() / 2))
    return Faithfulness(*areas)


def _blurred(image: np.ndarray) -> np.ndarray:
    """Return the image without what a class could be told by: a Gaussian of a twentieth of its side."""
    deviation = min(image.shape[1:]) / 20
    return np.stack([cv2.GaussianBlur(channel, (0, 0), deviation) for channel in image])
