"""timm's scale of magnitudes, 0 to 10, for each operation of its policies, and one operation drawn at a magnitude."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional

import numpy as np
from PIL import Image

from ppcls_ext.data.preprocess import pillow_operations as operations

MAX_MAGNITUDE = 10
RANDOM_RESAMPLING = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)

GEOMETRIC: dict[str, tuple[Callable, Optional[float]]] = {
    "Rotate": (operations.rotate, 30.0),
    "ShearX": (operations.shear_x, 0.3),
    "ShearY": (operations.shear_y, 0.3),
    "TranslateXRel": (operations.translate_x, None),
    "TranslateYRel": (operations.translate_y, None),
}
#: Without "Increasing" the factor runs from 0.1 to 1.9; with it, it leaves 1 in either direction.
ENHANCING = {
    "Color": operations.color,
    "Contrast": operations.contrast,
    "Brightness": operations.brightness,
    "Sharpness": operations.sharpness,
}
PLAIN = {
    "AutoContrast": operations.auto_contrast,
    "Equalize": operations.equalize,
    "Invert": operations.invert,
}
#: Operation and its value at level = magnitude / 10.
VALUED: dict[str, tuple[Callable, Callable[[float], int]]] = {
    "Posterize": (operations.posterize, lambda level: int(level * 4)),
    "PosterizeIncreasing": (operations.posterize, lambda level: 4 - int(level * 4)),
    "PosterizeOriginal": (operations.posterize, lambda level: 4 + int(level * 4)),
    "Solarize": (operations.solarize, lambda level: int(level * 256)),
    "SolarizeIncreasing": (operations.solarize, lambda level: 256 - int(level * 256)),
    "SolarizeAdd": (operations.solarize_add, lambda level: int(level * 110)),
}


@dataclass(frozen=True)
class Style:
    """What the operations of one policy have in common.

    ``magnitude_std`` is the standard deviation of the magnitude (infinity: uniform from 0 to the magnitude),
    ``translate`` the greatest shift as a share of the side, ``fill`` the RGB of what is uncovered and ``resample`` the
    filters that geometric operations choose from.
    """

    magnitude_std: float
    translate: float
    fill: tuple
    resample: tuple

    def draw_magnitude(self, magnitude: float, rng: np.random.Generator) -> float:
        """Return a magnitude in 0 to 10."""
        if self.magnitude_std == float("inf"):
            magnitude = rng.uniform(0, magnitude)
        elif self.magnitude_std > 0:
            magnitude = rng.normal(magnitude, self.magnitude_std)
        return min(max(magnitude, 0.0), float(MAX_MAGNITUDE))


def apply(
    image: Image.Image, name: str, probability: float, magnitude: float, style: Style, rng: np.random.Generator
) -> Image.Image:
    """Apply one operation with ``probability``, at a magnitude that is drawn about ``magnitude``."""
    if rng.random() >= probability:
        return image
    level = style.draw_magnitude(magnitude, rng) / MAX_MAGNITUDE
    if name in PLAIN:
        return PLAIN[name](image)
    if name in VALUED:
        change, value_at = VALUED[name]
        return change(image, value_at(level))
    if name in ENHANCING:
        return ENHANCING[name](image, 0.1 + 1.8 * level)
    sign = 1 if rng.integers(2) else -1
    if name in GEOMETRIC:
        change, strongest = GEOMETRIC[name]
        value = sign * level * (style.translate if strongest is None else strongest)
        return change(image, value, style.resample[rng.integers(len(style.resample))], style.fill)
    return ENHANCING[name.removesuffix("Increasing")](image, 1 + sign * 0.9 * level)
