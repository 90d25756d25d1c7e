"""Looking at every image once: whether it can be decoded, its size and mode, and what tells copies."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Optional, Sequence

from tqdm import tqdm

from ppcls_ext.data.errors import DecodeError
from ppcls_ext.data.preprocess.decode import PILLOW_ERRORS, DecodeImage
from ppcls_ext.data.preprocess.image_header import max_pixels, open_with_pillow
from ppcls_ext.utils.files import open_regular

THREADS = 8


@dataclass(frozen=True)
class ImageFacts:
    """What one look at an image tells.

    Attributes:
        width: in pixels, upright.
        height: in pixels, upright.
        mode: Pillow's word for the colours in the file: ``RGB``, ``L``, ``RGBA``, ``P``, ``CMYK``, ``I;16`` …
        format: ``JPEG``, ``PNG`` …
        content: hash of the file's bytes.
        pixels: hash of the decoded pixels, equal for copies in different lossless formats too.
        error: why it cannot be read; "" where it can.
    """

    width: int = 0
    height: int = 0
    mode: str = ""
    format: str = ""
    content: str = ""
    pixels: str = ""
    error: str = ""


def inspect_images(paths: Sequence[Path], progress: bool = True) -> list[ImageFacts]:
    """Look at images, several at once; see :func:`inspect_image`."""
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        looks: Iterable[ImageFacts] = pool.map(inspect_image, paths)
        return list(tqdm(looks, total=len(paths), desc="images", unit="image", disable=None if progress else True))


def inspect_image(path: Path) -> ImageFacts:
    """Read and decode an image as training does, and say what it is."""
    try:
        with open_regular(path) as stream:
            data = stream.read()
    except OSError as error:
        broken = os.path.islink(path) and not os.path.exists(path)
        return ImageFacts(error="the link leads nowhere" if broken else error.strerror or str(error))
    try:
        pixels = DecodeImage()(data)
    except DecodeError as error:
        return ImageFacts(error=str(error))
    mode, kind = _mode_and_format(data)
    height, width = pixels.shape[:2]
    return ImageFacts(width, height, mode, kind, _hash(data), _hash(f"{width}x{height}".encode(), pixels.data))


def _mode_and_format(data: bytes) -> tuple[str, str]:
    try:
        with open_with_pillow(data, max_pixels()) as image:
            return image.mode, image.format or "?"
    except (
        DecodeError,
        *PILLOW_ERRORS,
    ):  # OpenCV knows variants whose headers Pillow does not; only a word in the report is lost
        return "?", "?"


def _hash(*parts: Optional[object]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)  # type: ignore[arg-type]  # bytes and buffers
    return digest.hexdigest()
