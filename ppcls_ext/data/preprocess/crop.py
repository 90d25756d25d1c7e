"""CropImage and RandCropImage."""

from __future__ import annotations

import math
from typing import Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.preprocess.geometry import note, scaling, shift
from ppcls_ext.data.preprocess.operator import Operator, generator
from ppcls_ext.data.preprocess.resize import Resizer
from ppcls_ext.data.preprocess.shape import ImageShape
from ppcls_ext.utils.validate import flag, number_range, width_height


class CropImage(Operator):
    """Cut the centre out of an image; test-time augmentation moves the place.

    Args:
        size: an integer or ``[width, height]``.
    """

    #: Shares of the free space that lie to the left and above.
    anchor: tuple[float, float] = (0.5, 0.5)

    def __init__(self, size: Union[int, Sequence[int]]):
        self.size = width_height(size)

    def shape_after(self, shape: ImageShape) -> ImageShape:
        """Return the shape of the result.

        Raises:
            ValueError: if an image can be smaller than the crop.
        """
        width, height = self.size
        if shape.width is not None and shape.height is not None:
            too_small = shape.width < width or shape.height < height
        else:  # of a file nothing is known
            too_small = 1 < shape.least < max(width, height)
        if too_small:
            raise ValueError(
                f"size: the crop {width}x{height} is larger than the image, which is {shape} here; make the "
                "ResizeImage before it larger, or the crop smaller"
            )
        return shape.sized(width, height)

    def __call__(self, image: np.ndarray, rng: Optional[np.random.Generator] = None) -> np.ndarray:
        """Return the image ``[size_height, size_width, 3]``.

        Raises:
            ValueError: if the image is smaller than the crop (PaddleClas returns a wrong shape then).
        """
        crop_width, crop_height = self.size
        height, width = image.shape[:2]
        if width < crop_width or height < crop_height:
            raise ValueError(
                f"the image is {width}x{height} (width x height), smaller than the crop {crop_width}x{crop_height}; "
                f"put a ResizeImage before CropImage"
            )
        left, top = int((width - crop_width) * self.anchor[0]), int((height - crop_height) * self.anchor[1])
        note(shift(left, top))
        return image[top : top + crop_height, left : left + crop_width]


class RandCropImage(Operator):
    """Cut out a random part of random shape and resize it.

    An aspect ratio is drawn from ``ratio``, then an area from ``scale`` as far as a box of that ratio fits into the
    image; there is always exactly one draw, not ten attempts with a fallback as in torchvision.

    Args:
        size: an integer or ``[width, height]``.
        progress_size: PaddleClas's progressive resizing; only None.
        scale: ``[low, high]`` of the part's share of the area, default [0.08, 1].
        ratio: ``[low, high]`` of width / height, default [3/4, 4/3].
        interpolation: as in ResizeImage.
        use_log_aspect: draw the logarithm of the ratio uniformly instead of the ratio.
        backend: "cv2" or "pil".
    """

    def __init__(
        self,
        size: Union[int, Sequence[int]],
        progress_size: Optional[Sequence[int]] = None,
        scale: Optional[Sequence[float]] = None,
        ratio: Optional[Sequence[float]] = None,
        interpolation: Optional[str] = None,
        use_log_aspect: bool = False,
        backend: str = "cv2",
    ):
        if progress_size is not None:
            raise ValueError("progress_size: progressive resizing is not supported by ppcls_ext; remove the argument")
        self.size = width_height(size)
        self.scale = number_range(scale, "scale", (0.08, 1.0))
        if self.scale[1] > 1:
            raise ValueError(f"scale: expected shares of the area, at most 1, got {list(scale or [])!r}")
        self.ratio = number_range(ratio, "ratio", (3 / 4, 4 / 3))
        self.use_log_aspect = flag(use_log_aspect, "use_log_aspect")
        self.resize = Resizer(interpolation, backend)

    def shape_after(self, shape: ImageShape) -> ImageShape:
        """Return the shape of the result."""
        return shape.sized(*self.size)

    def box(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Draw (left, top, box_width, box_height) inside an image of ``height`` × ``width``."""
        low, high = self.ratio
        aspect = math.exp(rng.uniform(math.log(low), math.log(high))) if self.use_log_aspect else rng.uniform(low, high)
        # The largest share of the area that a box of this aspect can have.
        bound = min(width / height / aspect, height / width * aspect)
        area = width * height * rng.uniform(min(self.scale[0], bound), min(self.scale[1], bound))
        # At least one pixel: on a tiny image PaddleClas's box is empty.
        box_width = min(width, max(1, int(math.sqrt(area * aspect))))
        box_height = min(height, max(1, int(math.sqrt(area / aspect))))
        left = int(rng.integers(0, width - box_width, endpoint=True))
        top = int(rng.integers(0, height - box_height, endpoint=True))
        return left, top, box_width, box_height

    def __call__(self, image: np.ndarray, rng: Optional[np.random.Generator] = None) -> np.ndarray:
        """Return the image ``[size_height, size_width, 3]``."""
        rng = generator(rng)
        left, top, width, height = self.box(image.shape[0], image.shape[1], rng)
        note(shift(left, top) @ scaling((width, height), self.size))
        return self.resize(image[top : top + height, left : left + width], self.size, rng)
