"""PCALighting."""

from __future__ import annotations

from typing import Optional

import numpy as np

from ppcls_ext.data.preprocess.operator import FLOAT32, Operator, generator
from ppcls_ext.data.preprocess.shape import ImageShape

#: Principal components of the colours of ImageNet's pixels in [0, 1] (Krizhevsky et al., NIPS 2012, section 4.1), as
#: ResNeXt's authors and PaddleClas have them: the eigenvalues, and the eigenvectors (RGB) as columns.
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045], np.float32)
EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32
)
STRENGTH = 0.1


class PCALighting(Operator):
    """Shift an image along the principal components of ImageNet's colours, by normally distributed amounts.

    The shift is in units of pixels in [0, 1]: the operator stands after a NormalizeImage with mean 0 and std 1, and
    before one with scale 1.0 and the model's mean and std. It has no arguments, as in PaddleClas.
    """

    dtype_in = FLOAT32

    def shape_after(self, shape: ImageShape) -> ImageShape:
        """Return the shape, which stays.

        Raises:
            ValueError: if there are not three channels.
        """
        if shape.channels != 3:
            raise ValueError(f"expected an image with 3 channels, it has {shape.channels} here")
        return shape

    def __call__(self, image: np.ndarray, rng: Optional[np.random.Generator] = None) -> np.ndarray:
        """Return the image ``[height, width, 3]``, float32."""
        amounts = generator(rng).normal(0, STRENGTH, 3).astype(np.float32)
        return image + EIGENVECTORS @ (amounts * EIGENVALUES)
