"""The contract of an operator."""

from __future__ import annotations

from typing import Optional, Union

import numpy as np

from ppcls_ext.data.preprocess.shape import ImageShape

HWC, CHW = "HWC", "CHW"
UINT8, FLOAT32 = "uint8", "float32"


class Operator:
    """One step of preprocessing: ``op(image, rng=None) -> image``.

    Arguments are checked by the constructor, so a wrong one is found when a configuration is read. ``layout_in`` is
    the axis order that an operator needs (None: any) and ``layout_out`` the one that it leaves (None: as it came);
    ``dtype_in`` and ``dtype_out`` say the same of the pixels: "uint8" up to NormalizeImage, "float32" from there on.
    Random operators draw from ``rng`` alone, so that a sample's augmentation is a function of its seed.
    """

    #: Whether it reports how it moves pixels to :func:`ppcls_ext.data.preprocess.geometry.note`.
    traceable = True
    layout_in: Optional[str] = HWC
    layout_out: Optional[str] = None
    dtype_in: Optional[str] = None
    dtype_out: Optional[str] = None

    def shape_after(self, shape: ImageShape) -> ImageShape:
        """Return what is known of an image's shape after this operator.

        Raises:
            ValueError: if the operator would fail on such an image.
        """
        return shape

    def __call__(self, image: Union[bytes, np.ndarray], rng: Optional[np.random.Generator] = None) -> np.ndarray:
        """Return the processed image; the input is left as it is."""
        raise TypeError(f"{type(self).__name__} defines no __call__")


def generator(rng: Optional[np.random.Generator]) -> np.random.Generator:
    """Return ``rng``, or a freshly seeded generator where the caller does not care."""
    return np.random.default_rng() if rng is None else rng
