"""ColorJitter."""

from __future__ import annotations

from typing import Optional, Sequence, Union

import numpy as np
from PIL import Image

from ppcls_ext.data.preprocess import pillow_operations as operations
from ppcls_ext.data.preprocess.operator import UINT8, Operator, generator
from ppcls_ext.utils.validate import number, numbers

Amount = Union[float, Sequence[float]]


class ColorJitter(Operator):
    """Change brightness, contrast, saturation and hue by random amounts, in random order.

    Args:
        prob: probability that an image is changed; PaddleClas's default, 2, means always, as 1 does.
        brightness: b for a factor uniform in [max(0, 1 - b), 1 + b], or ``[low, high]``; 0 changes nothing.
        contrast: the same.
        saturation: the same.
        hue: h for a shift uniform in [-h, h] of the colour circle, h at most 0.5, or ``[low, high]``.
    """

    dtype_in = UINT8

    def __init__(
        self,
        prob: float = 2,
        brightness: Amount = 0,
        contrast: Amount = 0,
        saturation: Amount = 0,
        hue: Amount = 0,
    ):
        self.probability = number(prob, "prob")
        if self.probability < 0:
            raise ValueError(f"prob: expected a number of at least 0, got {prob!r}")
        ranges = (
            (operations.brightness, _factors(brightness, "brightness")),
            (operations.contrast, _factors(contrast, "contrast")),
            (operations.color, _factors(saturation, "saturation")),
            (shift_hue, _shifts(hue)),
        )
        self.changes = [(change, span) for change, span in ranges if span is not None]

    def __call__(self, image: np.ndarray, rng: Optional[np.random.Generator] = None) -> np.ndarray:
        """Return the changed image."""
        rng = generator(rng)
        if rng.random() >= self.probability:
            return image

        def change_all(picture: Image.Image) -> Image.Image:
            for position in rng.permutation(len(self.changes)):
                change, span = self.changes[position]
                picture = change(picture, rng.uniform(*span))
            return picture

        return operations.on_pillow(image, change_all)


def shift_hue(image: Image.Image, share: float) -> Image.Image:
    """Turn the colours by a share of the circle, to whole steps of 1/255 towards 0."""
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(angle + int(share * 255)) % 256 for angle in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def _factors(amount: Amount, name: str) -> Optional[tuple[float, float]]:
    if isinstance(amount, (list, tuple)):
        low, high = numbers(amount, name, 2)
        if not 0 <= low <= high:
            raise ValueError(f"{name}: expected [low, high] with 0 <= low <= high, got {list(amount)!r}")
        return low, high
    spread = number(amount, name)
    if spread < 0:
        raise ValueError(f"{name}: expected a number of at least 0, got {spread:g}")
    return (max(0.0, 1 - spread), 1 + spread) if spread else None


def _shifts(amount: Amount) -> Optional[tuple[float, float]]:
    if isinstance(amount, (list, tuple)):
        low, high = numbers(amount, "hue", 2)
    else:
        high = number(amount, "hue")
        low = -high
    if not -0.5 <= low <= high <= 0.5:
        raise ValueError(f"hue: expected 0 to 0.5, or [low, high] within -0.5 and 0.5, got {amount!r}")
    return (low, high) if (low, high) != (0, 0) else None
