"""RandAugment, and the operations that it shares with AutoAugment."""

from __future__ import annotations

from typing import Callable, Optional, Sequence, Union

import numpy as np
from PIL import Image

from ppcls_ext.data.preprocess import pillow_operations as operations
from ppcls_ext.data.preprocess.operator import UINT8, Operator, generator
from ppcls_ext.utils.validate import choice, number, positive_int, rgb

MAX_MAGNITUDE = 10
MAX_LAYERS = 100
#: PaddleClas shears with bicubic interpolation, and moves and rotates to the nearest pixel.
GEOMETRIC = {
    "shearX": (operations.shear_x, Image.Resampling.BICUBIC),
    "shearY": (operations.shear_y, Image.Resampling.BICUBIC),
    "translateX": (operations.translate_x, Image.Resampling.NEAREST),
    "translateY": (operations.translate_y, Image.Resampling.NEAREST),
    "rotate": (operations.rotate, Image.Resampling.NEAREST),
}
ENHANCING = {
    "color": operations.color,
    "contrast": operations.contrast,
    "sharpness": operations.sharpness,
    "brightness": operations.brightness,
}
PLAIN: dict[str, Callable] = {
    "posterize": operations.posterize,
    "solarize": operations.solarize,
    "autocontrast": operations.auto_contrast,
    "equalize": operations.equalize,
    "invert": operations.invert,
}
#: In the order of PaddleClas.
NAMES = (
    "shearX shearY translateX translateY rotate color posterize solarize contrast sharpness brightness autocontrast "
    "equalize invert"
).split()


def apply(
    image: Image.Image,
    name: str,
    value: float,
    rng: np.random.Generator,
    fill: tuple,
    resample: Optional[Image.Resampling] = None,
) -> Image.Image:
    """Apply one operation.

    Shears and shifts go either way by chance; the four enhancements use the factor 1 + value or 1 - value by chance; a
    rotation is always counter-clockwise, as in PaddleClas, unless ``resample`` is given: then it goes either way too,
    and all shears, shifts and rotations use this filter.
    """
    if name in PLAIN:
        return PLAIN[name](image, value)
    if name == "rotate" and resample is None:
        change, nearest = GEOMETRIC[name]
        return change(image, value, nearest, fill)
    signed = value if rng.integers(2) else -value
    if name in ENHANCING:
        return ENHANCING[name](image, 1 + signed)
    change, usual = GEOMETRIC[name]
    return change(image, signed, usual if resample is None else resample, fill)


class RandAugment(Operator):
    """Apply ``num_layers`` operations, drawn with equal chances and with repetition (Cubuk et al., arXiv 1909.13719).

    With L = magnitude / 10: shears 0.3 L, shifts 150/331 L of the side, rotation 30 L degrees, colour, contrast,
    sharpness and brightness 1 ± 0.9 L, posterising to int(4 L) bits, solarising from 256 L on; as in PaddleClas, the
    last two therefore grow *weaker* with the magnitude.

    Args:
        num_layers: operations for an image.
        magnitude: 0 to 10, of all of them.
        fillcolor: RGB of what shears, shifts and rotations uncover.
    """

    dtype_in = UINT8
    resample: Optional[Image.Resampling] = None

    def __init__(
        self, num_layers: int = 2, magnitude: float = 5, fillcolor: Union[int, Sequence[int]] = (128, 128, 128)
    ):
        self.num_layers = positive_int(num_layers, "num_layers", MAX_LAYERS)
        magnitude = number(magnitude, "magnitude")
        if not 0 <= magnitude <= MAX_MAGNITUDE:
            raise ValueError(f"magnitude: expected 0 to {MAX_MAGNITUDE}, got {magnitude:g}")
        self.fill = rgb(fillcolor, "fillcolor")
        level = magnitude / MAX_MAGNITUDE
        self.values = dict.fromkeys(NAMES, 0.9 * level)
        self.values.update(
            shearX=0.3 * level,
            shearY=0.3 * level,
            translateX=150 / 331 * level,
            translateY=150 / 331 * level,
            rotate=30 * level,
            posterize=int(4 * level),
            solarize=256 * level,
        )

    def __call__(self, image: np.ndarray, rng: Optional[np.random.Generator] = None) -> np.ndarray:
        """Return the changed image."""
        rng = generator(rng)

        def change(picture: Image.Image) -> Image.Image:
            for chosen in rng.integers(len(NAMES), size=self.num_layers):
                name = NAMES[chosen]
                picture = apply(picture, name, self.values[name], rng, self.fill, self.resample)
            return picture

        return operations.on_pillow(image, change)


class RandAugmentV3(RandAugment):
    """PaddleClas's RandAugment for MobileViTv2: posterising and solarising grow stronger with the magnitude.

    With L = magnitude / 10: posterising to 8 - int(4 L) bits, solarising from 255 (1 - L) on, rotation either way; the
    rest is that of :class:`RandAugment`.

    Args:
        num_layers: operations for an image.
        magnitude: 0 to 10, of all of them.
        fillcolor: RGB of what shears, shifts and rotations uncover.
        interpolation: of shears, shifts and rotations, bicubic or bilinear.
    """

    def __init__(
        self,
        num_layers: int = 2,
        magnitude: float = 3,
        fillcolor: Union[int, Sequence[int]] = (0, 0, 0),
        interpolation: str = "bicubic",
    ):
        super().__init__(num_layers, magnitude, fillcolor)
        self.resample = Image.Resampling[choice(interpolation, "interpolation", ("bicubic", "bilinear")).upper()]
        level = number(magnitude, "magnitude") / MAX_MAGNITUDE
        self.values.update(posterize=8 - int(4 * level), solarize=255 * (1 - level))
