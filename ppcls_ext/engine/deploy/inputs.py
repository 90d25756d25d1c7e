"""What may be predicted: files, folders, lists, bytes, arrays and Pillow images, each taken as its file would be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Iterator, Union

import numpy as np
from PIL import Image as PillowImage

from ppcls_ext.data.image_files import LIST_SUFFIXES, list_images
from ppcls_ext.utils.files import open_regular

#: One image: a file, its content, an array of uint8 in RGB, or a Pillow image. A folder, a list file and an array
#: ``[N, H, W, 3]`` stand for several.
Image = Union[str, Path, bytes, np.ndarray, PillowImage.Image]
EXPECTED = "a path, bytes, a Pillow image, or an array [H, W, 3] of uint8 in RGB"


@dataclass(frozen=True)
class Input:
    """One image with the name that its result carries."""

    name: str
    image: Union[Path, bytes, np.ndarray, PillowImage.Image]

    def content(self) -> Union[bytes, np.ndarray, PillowImage.Image]:
        """Return what DecodeImage takes: bytes, a Pillow image, or an array in OpenCV's order (BGR).

        Raises:
            OSError: if the file cannot be read, or is no regular file.
        """
        if isinstance(self.image, Path):
            with open_regular(self.image) as file:
                return file.read()
        return self.image


def inputs_of(images: Union[Image, Iterable[Image]]) -> Iterator[Input]:
    """Return the single images of ``images``, in order.

    Raises:
        TypeError: if something is no image.
        ValueError: if an array has other pixels or axes than an image, or a folder or list holds no image.
    """
    if isinstance(images, (str, Path, bytes, bytearray, memoryview, np.ndarray, PillowImage.Image)):
        images = [images]
    elif not isinstance(images, Iterable) or isinstance(images, dict):
        raise TypeError(f"expected {EXPECTED}, or several of them; got a {type(images).__name__}")
    for number, image in enumerate(images):
        yield from _single(number, image)


def _single(number: int, image: Any) -> Iterator[Input]:
    if isinstance(image, Input):
        yield image
    elif isinstance(image, (str, Path)):
        path = Path(image)
        if path.is_dir() or (path.suffix.lower() in LIST_SUFFIXES and path.is_file()):
            yield from (Input(str(found), found) for found in list_images(path))
        else:
            yield Input(str(image), path)
    elif isinstance(image, (bytes, bytearray, memoryview)):
        yield Input(f"bytes {number}", bytes(image))
    elif isinstance(image, PillowImage.Image):
        yield Input(f"image {number}", image)
    elif isinstance(image, np.ndarray):
        name = f"array {number}"
        if image.ndim == 4:
            for index, one in enumerate(image):
                yield Input(f"{name}[{index}]", _bgr(f"{name}[{index}]", one))
        else:
            yield Input(name, _bgr(name, image))
    else:
        raise TypeError(f"image {number}: expected {EXPECTED}; got a {type(image).__name__}")


def _bgr(name: str, array: np.ndarray) -> np.ndarray:
    """Return ``[H, W, 3]`` in OpenCV's order; grey is repeated and alpha left out, as they are for a file."""
    if array.dtype != np.uint8:
        raise ValueError(f"{name}: expected uint8 pixels from 0 to 255, got {array.dtype}{_range_of(array)}")
    grey = array.ndim == 2
    if array.size == 0 or not (grey or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        hint = ""
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            hint = "; image.transpose(1, 2, 0) puts the channels last"
        raise ValueError(f"{name}: expected [H, W, 3] (also [H, W], 1 or 4 channels), got {list(array.shape)}{hint}")
    if grey:
        array = array[:, :, None]
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return array[:, :, 2::-1]


def _range_of(array: np.ndarray) -> str:
    if array.size == 0 or array.dtype.kind not in "fiu":
        return ""
    low, high = array.min(), array.max()
    found = f" from {low:g} to {high:g}"
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return found + "; (image * 255).round().astype('uint8') converts it"
    return found
