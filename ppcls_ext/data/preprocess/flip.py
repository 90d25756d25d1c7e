"""RandFlipImage."""

from __future__ import annotations

from typing import Optional

import numpy as np

from ppcls_ext.data.preprocess.geometry import mirror, note
from ppcls_ext.data.preprocess.operator import Operator, generator

#: The axes of an image that a code exchanges.
AXES = {1: (1,), 0: (0,), -1: (0, 1)}


class RandFlipImage(Operator):
    """Mirror every second image on average.

    Args:
        flip_code: 1 exchanges left and right, 0 top and bottom, -1 both.
    """

    def __init__(self, flip_code: int = 1):
        if isinstance(flip_code, bool) or flip_code not in (-1, 0, 1):
            raise ValueError(f"flip_code: expected 1 (left-right), 0 (top-bottom) or -1 (both), got {flip_code!r}")
        self.flip_code = flip_code

    def __call__(self, image: np.ndarray, rng: Optional[np.random.Generator] = None) -> np.ndarray:
        """Return the image, mirrored or as it is."""
        if generator(rng).integers(2):
            import cv2

            note(mirror(image.shape[1], image.shape[0], AXES[self.flip_code]))
            return cv2.flip(np.ascontiguousarray(image), self.flip_code)
        return image
