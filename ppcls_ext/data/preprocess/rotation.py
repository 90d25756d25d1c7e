"""RandomRotation."""

from __future__ import annotations

import math
from typing import Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.preprocess.geometry import note, shift
from ppcls_ext.data.preprocess.operator import Operator, generator
from ppcls_ext.data.preprocess.resize import OPENCV_FILTERS
from ppcls_ext.data.preprocess.shape import ImageShape
from ppcls_ext.utils.validate import choice, flag, number, numbers, probability, rgb

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


class RandomRotation(Operator):
    """Rotate an image by a random angle, with OpenCV.

    Args:
        degrees: d for an angle uniform in [-d, d], or ``[low, high]``; positive is counter-clockwise.
        prob: probability that an image is rotated.
        interpolation: nearest, bilinear or bicubic.
        expand: enlarge the image to hold the whole of the rotated one.
        center: ``[x, y]``, default the middle; not together with ``expand``.
        fill: RGB, or one number for all three, of what is uncovered. (PaddleClas gives one number to red alone.)
    """

    def __init__(
        self,
        degrees: Union[float, Sequence[float]],
        prob: float = 0.5,
        interpolation: str = "nearest",
        expand: bool = False,
        center: Optional[Sequence[float]] = None,
        fill: Union[int, Sequence[int]] = 0,
    ):
        if isinstance(degrees, (list, tuple)):
            low, high = numbers(degrees, "degrees", 2)
        else:
            high = number(degrees, "degrees")
            low = -high
        if low > high:
            raise ValueError(f"degrees: expected a number of at least 0, or [low, high], got {degrees!r}")
        self.degrees = (low, high)
        self.probability = probability(prob, "prob")
        self.interpolation = OPENCV_FILTERS[choice(interpolation, "interpolation", INTERPOLATIONS)]
        self.expand = flag(expand, "expand")
        self.center = None if center is None else tuple(numbers(center, "center", 2))
        if self.expand and self.center is not None:
            raise ValueError(f"center: expected None with expand, which rotates about the middle, got {center!r}")
        self.fill = rgb(fill, "fill")

    def shape_after(self, shape: ImageShape) -> ImageShape:
        """Return the shape of the result, of unknown size where it is enlarged by chance."""
        return shape.unsized() if self.expand else shape

    def __call__(self, image: np.ndarray, rng: Optional[np.random.Generator] = None) -> np.ndarray:
        """Return the image, rotated or as it is."""
        rng = generator(rng)
        if rng.random() >= self.probability:
            return image
        return self.rotate(image, rng.uniform(*self.degrees))

    def rotate(self, image: np.ndarray, angle: float) -> np.ndarray:
        """Return the image rotated by ``angle`` degrees."""
        import cv2

        height, width = image.shape[:2]
        center = (width / 2, height / 2) if self.center is None else self.center
        matrix = cv2.getRotationMatrix2D(center, angle, 1)
        if self.expand:
            corners = matrix[:, :2] @ np.array([[0, width, width, 0], [0, 0, height, height]]) + matrix[:, 2:]
            corners = corners.round(9)
            new_width, new_height = (
                math.ceil(high) - math.floor(low) for low, high in zip(corners.min(1), corners.max(1))
            )
            matrix[:, 2] += (new_width - width) / 2, (new_height - height) / 2
            width, height = new_width, new_height
        # OpenCV's matrix leads from the source to the result, and counts from the centre of the first pixel.
        note(shift(0.5, 0.5) @ np.linalg.inv(np.vstack([matrix, [0, 0, 1]])) @ shift(-0.5, -0.5))
        return cv2.warpAffine(
            np.ascontiguousarray(image),
            matrix,
            (width, height),
            flags=getattr(cv2, self.interpolation),
            borderValue=self.fill,
        )
