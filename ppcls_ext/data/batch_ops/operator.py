"""The contract of a batch operator, and what several of them share."""

from __future__ import annotations

import math

import numpy as np

from ppcls_ext.utils.validate import number


class BatchOperator:
    """One step on a batch: ``op(images, labels, rng) -> (images, labels)``.

    Images are float32 ``[n, channels, height, width]``; an operator may change them in place. Labels are float32
    ``[n, class_num]``, and each row adds up to 1. All that is random comes from ``rng``.
    """

    #: Sum of the label smoothing that the operator does; the loss must then do none.
    label_smoothing = 0.0
    #: Whether labels may also be those of tokens, float32 ``[n, 1 + tokens, class_num]``.
    takes_token_labels = False

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return images and labels of the same shapes."""
        raise TypeError(f"{type(self).__name__} defines no __call__")


def positive(value: float, name: str) -> float:
    """Read the parameter of a Beta distribution.

    Raises:
        ValueError: if it is not above 0.
    """
    result = number(value, name)
    if result <= 0:
        raise ValueError(f"{name}: expected a number above 0, got {value!r}")
    return result


def draw_box(height: int, width: int, kept: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw CutMix's box (Yun et al., arXiv 1905.04899, equation 2) as (top, bottom, left, right).

    Its sides are those of the image times √(1 - kept), its centre is uniform in the image, and what lies outside the
    image is cut off.
    """
    half_height = int(height * math.sqrt(1 - kept)) // 2
    half_width = int(width * math.sqrt(1 - kept)) // 2
    y, x = int(rng.integers(height)), int(rng.integers(width))
    return (
        max(y - half_height, 0),
        min(y + half_height, height),
        max(x - half_width, 0),
        min(x + half_width, width),
    )


def one_label_an_image(labels: np.ndarray, name: str) -> None:
    """Refuse labels that are maps.

    Raises:
        ValueError: if they are not ``[n, class_num]``.
    """
    if labels.ndim != 2:
        raise ValueError(f"{name} takes labels [n, class_num], got {list(labels.shape)}; MixToken mixes label maps")
