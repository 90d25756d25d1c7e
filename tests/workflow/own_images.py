"""A user's own folder: real images in a few classes with Chinese and spaced names."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from ppcls_ext.data.digits import as_bytes

#: Crops of scikit-learn's two photographs (a palace in China, a flower), and its handwritten digits.
CLASSES = ("red flower", "中国 宫殿", "手写数字")


@lru_cache(maxsize=1)
def sources() -> tuple:
    return load_digits().images, *load_sample_images().images


def pixels_of(name: str, number: int) -> np.ndarray:
    """Return an image of a class: uint8 ``[height, width, 3]`` of about 40 pixels."""
    digits, palace, flower = sources()
    if name == CLASSES[2]:
        digit = Image.fromarray(as_bytes(digits[number])).resize((40, 40))
        return np.asarray(digit.convert("RGB"))
    photograph = flower if name == CLASSES[0] else palace
    # The flower fills the middle of its photograph.
    y, x = 120 + 37 * (number % 5), 200 + 29 * (number // 5)
    return np.ascontiguousarray(photograph[y : y + 80 : 2, x : x + 88 + number % 4 : 2])


def write_images(folder: Path, count: int = 20, first: int = 0, classes=CLASSES) -> Path:
    """Write ``count`` images of each class into ``folder/<class>/``, with blanks and Chinese in their names."""
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            suffix = "jpg" if number % 2 else "png"
            Image.fromarray(pixels_of(name, number)).save(folder / name / f"图 {number:02d}.{suffix}", quality=95)
    return folder
