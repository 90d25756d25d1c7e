"""Occlusion (Zeiler and Fergus, arXiv 1311.2901, section 4.2): how much a class loses where the image is covered."""

from __future__ import annotations

from typing import Callable, Optional

import numpy as np

#: From images ``[N, C, H, W]`` to probabilities ``[N, classes]``.
Score = Callable[[np.ndarray], np.ndarray]


def occlusion(
    score: Score,
    image: np.ndarray,
    class_id: int,
    window: Optional[int] = None,
    stride: Optional[int] = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Slide a square of the mean colour (zeros) over an image.

    Args:
        score: the model.
        image: float32 ``[C, H, W]``, preprocessed.
        class_id: the class whose probability is explained.
        window: side of the square in pixels; None takes a quarter of the shorter side.
        stride: of the square; None takes half the window.
        batch_size: covered images a pass.

    Returns:
        ``[H, W]``: the mean, over the squares that cover a pixel, of how much the probability falls. Squares also hang
        over the borders, so that every pixel is covered equally often but for the last stride.
    """
    _, height, width = image.shape
    window = window or max(1, min(height, width) // 4)
    stride = stride or max(1, window // 2)
    (before,) = score(image[None])[:, class_id]
    rows, columns = (range(stride - window, side, stride) for side in (height, width))
    places = [(slice(max(0, r), r + window), slice(max(0, c), c + window)) for r in rows for c in columns]
    falls, counts = np.zeros((height, width)), np.zeros((height, width))
    for begin in range(0, len(places), batch_size):
        some = places[begin : begin + batch_size]
        covered = np.repeat(image[None], len(some), axis=0)
        for copy, place in zip(covered, some):
            copy[:, place[0], place[1]] = 0
        for place, after in zip(some, score(covered)[:, class_id]):
            falls[place] += before - after
            counts[place] += 1
    return (falls / np.maximum(counts, 1)).astype(np.float32)
