"""The handwritten digits that scikit-learn carries, as image files with label lists.

1,797 real scanned digits of 8×8 pixels (E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI
Machine Learning Repository, 1998, https://doi.org/10.24432/C50P49, CC BY 4.0; the copy in scikit-learn is its test
part). They need no download.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Union

import numpy as np
from PIL import Image

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
VALIDATION = 360
RANDOM_STATE = 0


def prepare_digits(output: Union[str, Path] = "dataset/digits", progress: bool = True) -> Path:
    """Write the digits as PNG files with ``train_list.txt``, ``val_list.txt`` and ``label_list.txt``.

    The split into 1,437 training and 360 validation images is stratified and fixed. What is there already and right is
    left alone; each file is written aside and renamed, so an interrupted run leaves no half file.

    Args:
        output: the folder; created if necessary.
        progress: whether to show a progress bar.

    Returns:
        The folder.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from tqdm import tqdm

    output = Path(output)
    digits = load_digits()
    pixels, labels = as_bytes(digits.images), digits.target
    train, validation = train_test_split(
        np.arange(len(labels)), test_size=VALIDATION, stratify=labels, random_state=RANDOM_STATE
    )
    names = [f"images/{index:04d}.png" for index in range(len(labels))]
    (output / "images").mkdir(parents=True, exist_ok=True)
    for index in tqdm(range(len(labels)), desc=f"digits -> {output}", unit="image", disable=not progress):
        if not _is_written(output / names[index], pixels[index]):
            _write(
                output / names[index], lambda stream, index=index: Image.fromarray(pixels[index]).save(stream, "PNG")
            )
    lists = {
        "train_list.txt": "".join(f"{names[i]} {labels[i]}\n" for i in sorted(train)),
        "val_list.txt": "".join(f"{names[i]} {labels[i]}\n" for i in sorted(validation)),
        "label_list.txt": "".join(f"{number} {name}\n" for number, name in enumerate(NAMES)),
    }
    for name, text in lists.items():
        _write(output / name, lambda stream, text=text: stream.write(text.encode("ascii")))
    return output


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Spread grey values 0, 1, ..., 16 over 0 to 255 (uint8).

    Nothing is lost: the 17 values ``round(v * 255 / 16)`` are distinct, and ``round(byte * 16 / 255)`` gives v back.
    """
    return np.rint(images * (255 / 16)).astype(np.uint8)


def _is_written(path: Path, pixels: np.ndarray) -> bool:
    try:
        with Image.open(path) as image:
            return np.array_equal(np.asarray(image), pixels)
    except (OSError, SyntaxError, ValueError):
        return False


def _write(path: Path, write) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("wb") as stream:
        write(stream)
    os.replace(aside, path)
