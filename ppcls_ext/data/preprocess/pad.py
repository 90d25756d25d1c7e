"""Pad."""

from __future__ import annotations

from typing import Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.preprocess.geometry import note, shift
from ppcls_ext.data.preprocess.operator import Operator
from ppcls_ext.data.preprocess.shape import ImageShape
from ppcls_ext.utils.validate import MAX_SIDE, choice, rgb


class Pad(Operator):
    """Add a border of one colour.

    Args:
        padding: width of the border in pixels; or ``[left and right, top and bottom]``; or ``[left, top, right,
            bottom]``.
        fill: RGB, or one number for all three.
        padding_mode: only "constant", which is what PaddleClas does whatever is given.
        backend: "pil" or "cv2"; the pixels are the same.
    """

    def __init__(
        self,
        padding: Union[int, Sequence[int]],
        fill: Union[int, Sequence[int]] = 0,
        padding_mode: str = "constant",
        backend: str = "pil",
    ):
        sides = padding if isinstance(padding, (list, tuple)) else [padding]
        if len(sides) not in (1, 2, 4) or not all(type(side) is int and side >= 0 for side in sides):
            raise ValueError(
                "padding: expected a whole number of at least 0, [left and right, top and bottom] or "
                f"[left, top, right, bottom], got {padding!r}"
            )
        self.left, self.top, self.right, self.bottom = [*sides] * (4 // len(sides))
        if max(sides) > MAX_SIDE:
            raise ValueError(f"padding: expected at most {MAX_SIDE} pixels, got {padding!r}")
        self.fill = rgb(fill, "fill")
        choice(padding_mode, "padding_mode", ("constant",))
        choice(backend, "backend", ("pil", "cv2"))

    def shape_after(self, shape: ImageShape) -> ImageShape:
        """Return the shape of the result."""
        across, down = self.left + self.right, self.top + self.bottom
        if shape.is_known:
            return shape.sized(shape.width + across, shape.height + down)
        return shape.unsized(shape.least + min(across, down) if shape.least > 1 else 1)

    def __call__(self, image: np.ndarray, rng: Optional[np.random.Generator] = None) -> np.ndarray:
        """Return the image with its border."""
        import cv2

        note(shift(-self.left, -self.top))
        return cv2.copyMakeBorder(
            np.ascontiguousarray(image),
            self.top,
            self.bottom,
            self.left,
            self.right,
            cv2.BORDER_CONSTANT,
            value=self.fill,
        )
