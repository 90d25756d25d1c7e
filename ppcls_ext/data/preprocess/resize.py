"""ResizeImage, and the resizing that RandCropImage shares with it."""

from __future__ import annotations

from typing import Optional, Sequence, Union, cast

import numpy as np
from PIL import Image

from ppcls_ext.data.preprocess.geometry import note, scaling
from ppcls_ext.data.preprocess.image_header import check_pixels, max_pixels
from ppcls_ext.data.preprocess.operator import Operator, generator
from ppcls_ext.data.preprocess.shape import ImageShape
from ppcls_ext.utils.validate import choice, flag, side, width_height

OPENCV_FILTERS = {
    "nearest": "INTER_NEAREST",
    "bilinear": "INTER_LINEAR",
    "area": "INTER_AREA",
    "bicubic": "INTER_CUBIC",
    "lanczos": "INTER_LANCZOS4",
}
PILLOW_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
    "hamming": Image.Resampling.HAMMING,
}
RANDOM_FILTERS = ("bilinear", "bicubic")


class Resizer:
    """Resize an image ``[height, width, 3]`` with OpenCV or Pillow.

    OpenCV's filters have a fixed support: when an image shrinks they alias, where Pillow's average. The two backends
    therefore differ on purpose; evaluate with the one that the weights were trained with.
    """

    def __init__(self, interpolation: Optional[str], backend: str):
        self.backend = choice(backend, "backend", ("cv2", "pil"))
        filters = OPENCV_FILTERS if self.backend == "cv2" else PILLOW_FILTERS
        name = "bilinear" if interpolation is None else interpolation
        self.interpolation = choice(name, "interpolation", (*filters, "random"))

    def __call__(self, image: np.ndarray, size: tuple[int, int], rng: Optional[np.random.Generator]) -> np.ndarray:
        """Return the image in ``size`` = (width, height)."""
        name = self.interpolation
        if name == "random":
            name = RANDOM_FILTERS[generator(rng).integers(len(RANDOM_FILTERS))]
        if self.backend == "cv2":
            import cv2

            return cv2.resize(np.ascontiguousarray(image), size, interpolation=getattr(cv2, OPENCV_FILTERS[name]))
        return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size, PILLOW_FILTERS[name]))


class ResizeImage(Operator):
    """Resize to a fixed size, or such that the shorter side has a given length.

    Args:
        size: an integer or ``[width, height]``.
        resize_short: length of the shorter side; wins over ``size``.
        interpolation: nearest, bilinear (default), bicubic, lanczos, random (bilinear or bicubic by chance); "cv2"
            also area, "pil" also box and hamming.
        backend: "cv2" or "pil".
        return_numpy: accepted for PaddleClas's sake; images are arrays between operators in either case.
    """

    def __init__(
        self,
        size: Union[int, Sequence[int], None] = None,
        resize_short: Optional[int] = None,
        interpolation: Optional[str] = None,
        backend: str = "cv2",
        return_numpy: bool = True,
    ):
        self.resize_short: Optional[int] = None
        self.size: Optional[tuple[int, int]] = None
        if resize_short is not None:
            self.resize_short = side(resize_short, "resize_short")
        elif size is not None:
            self.size = width_height(size)
        else:
            raise ValueError("give size or resize_short, both are missing")
        flag(return_numpy, "return_numpy")
        self.resize = Resizer(interpolation, backend)

    def shape_after(self, shape: ImageShape) -> ImageShape:
        """Return the shape of the result."""
        if shape.width is not None and shape.height is not None:
            return shape.sized(*self.target(shape.height, shape.width))
        return shape.sized(*self.size) if self.size is not None else shape.unsized(cast(int, self.resize_short))

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Return the (width, height) that an image of ``height`` × ``width`` gets."""
        if self.size is not None:
            return self.size
        percent = float(cast(int, self.resize_short)) / min(width, height)  # one of the two is set
        return round(width * percent), round(height * percent)

    def __call__(self, image: np.ndarray, rng: Optional[np.random.Generator] = None) -> np.ndarray:
        """Return the image ``[new_height, new_width, 3]``.

        Raises:
            DecodeError: if ``resize_short`` makes a long narrow image larger than any image may be.
        """
        height, width = image.shape[:2]
        size = self.target(height, width)
        if self.size is None:
            check_pixels(*size, max_pixels(), f"resized from {width}x{height}: ")
        note(scaling((width, height), size))
        return self.resize(image, size, rng)
