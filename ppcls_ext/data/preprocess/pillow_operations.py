"""The changes of an image that augmentation policies choose from, each by a value in its own unit, done by Pillow.

The operations and their names are those of AutoAugment (Cubuk et al., arXiv 1805.09501, table 6).
"""

from __future__ import annotations

import math
from typing import Callable, Optional

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from ppcls_ext.data.preprocess.geometry import affine_map, note, shift

SOLARIZE_ADD_BELOW = 128


def on_pillow(image: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Return ``change`` of uint8 pixels ``[height, width, 3]``."""
    return np.asarray(change(Image.fromarray(np.ascontiguousarray(image))))


def affine(image: Image.Image, matrix: tuple, resample: Image.Resampling, fill: tuple) -> Image.Image:
    """Return the image whose pixel (x, y) is that at (a x + b y + c, d x + e y + f) of ``image``."""
    note(affine_map(*matrix))
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=fill)


def shear_x(image: Image.Image, factor: float, resample: Image.Resampling, fill: tuple) -> Image.Image:
    """Shear along the rows by ``factor`` pixels a row."""
    return affine(image, (1, factor, 0, 0, 1, 0), resample, fill)


def shear_y(image: Image.Image, factor: float, resample: Image.Resampling, fill: tuple) -> Image.Image:
    """Shear along the columns by ``factor`` pixels a column."""
    return affine(image, (1, 0, 0, factor, 1, 0), resample, fill)


def translate_x(image: Image.Image, share: float, resample: Image.Resampling, fill: tuple) -> Image.Image:
    """Move to the left by a share of the width."""
    return affine(image, (1, 0, share * image.width, 0, 1, 0), resample, fill)


def translate_y(image: Image.Image, share: float, resample: Image.Resampling, fill: tuple) -> Image.Image:
    """Move up by a share of the height."""
    return affine(image, (1, 0, 0, 0, 1, share * image.height), resample, fill)


def rotate(image: Image.Image, degrees: float, resample: Image.Resampling, fill: tuple) -> Image.Image:
    """Rotate about the centre, counter-clockwise."""
    center = image.width / 2, image.height / 2
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    note(shift(*center) @ affine_map(cosine, -sine, 0, sine, cosine, 0) @ shift(-center[0], -center[1]))
    return image.rotate(degrees, resample, fillcolor=fill)


def auto_contrast(image: Image.Image, _: Optional[float] = None) -> Image.Image:
    """Stretch each channel to the full range."""
    return ImageOps.autocontrast(image)


def equalize(image: Image.Image, _: Optional[float] = None) -> Image.Image:
    """Equalise each channel's histogram."""
    return ImageOps.equalize(image)


def invert(image: Image.Image, _: Optional[float] = None) -> Image.Image:
    """Replace each value v by 255 - v."""
    return ImageOps.invert(image)


def posterize(image: Image.Image, bits: int) -> Image.Image:
    """Keep the highest ``bits`` bits of each value; 0 leaves a black image, which new versions of Pillow refuse."""
    if bits >= 8:
        return image
    return ImageOps.posterize(image, bits) if bits > 0 else Image.new(image.mode, image.size)


def solarize(image: Image.Image, threshold: float) -> Image.Image:
    """Invert the values from ``threshold`` on."""
    return ImageOps.solarize(image, threshold)  # type: ignore[arg-type]  # Pillow merely compares with it


def solarize_add(image: Image.Image, addend: int) -> Image.Image:
    """Add to the values below 128, up to 255."""
    table = [min(255, value + addend) if value < SOLARIZE_ADD_BELOW else value for value in range(256)]
    return image.point(table * len(image.getbands()))


def color(image: Image.Image, factor: float) -> Image.Image:
    """Change the saturation: 0 is grey, 1 the image."""
    return ImageEnhance.Color(image).enhance(factor)


def contrast(image: Image.Image, factor: float) -> Image.Image:
    """Change the contrast: 0 is the mean grey, 1 the image."""
    return ImageEnhance.Contrast(image).enhance(factor)


def brightness(image: Image.Image, factor: float) -> Image.Image:
    """Change the brightness: 0 is black, 1 the image."""
    return ImageEnhance.Brightness(image).enhance(factor)


def sharpness(image: Image.Image, factor: float) -> Image.Image:
    """Change the sharpness: 0 is blurred, 1 the image."""
    return ImageEnhance.Sharpness(image).enhance(factor)
