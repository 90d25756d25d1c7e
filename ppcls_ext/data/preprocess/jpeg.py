"""Decoding of JPEG files with simplejpeg, which reports libjpeg's warnings.

OpenCV prints those warnings and Pillow drops them: of a file that ends early but carries an end mark, or has zeros in
its middle, both give an image that is grey or wrong from there on. simplejpeg brings a recent libjpeg-turbo with vector
instructions besides, which OpenCV's wheels lack. Exact inverse DCT and smooth chroma upsampling are fixed in
libjpeg-turbo bit for bit, so the pixels of an undamaged file are OpenCV's and Pillow's.
"""

from __future__ import annotations

import functools
import logging
from typing import Optional

import numpy as np

from ppcls_ext.data.errors import DecodeError
from ppcls_ext.data.preprocess.image_header import END_OF_IMAGE, LOST_BYTES, has_lost_sectors

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

logger = logging.getLogger("ppcls_ext")

#: Words of libjpeg's warnings and errors: of pixels that end early, and of kinds that another decoder may know.
ENDS_EARLY = "premature end"
NOT_FOR_US = ("Unsupported JPEG", "Unsupported color conversion")
#: A warning that does not matter, and where the revision stands.
ODD_REVISION, JFIF = "unknown JFIF revision", b"JFIF\0"


def decode_jpeg(data: bytes, order: str) -> Optional[np.ndarray]:
    """Decode a JPEG file.

    Args:
        data: the file.
        order: "RGB" or "BGR".

    Returns:
        uint8 ``[height, width, 3]``, EXIF orientation not applied; None where simplejpeg is not installed, or cannot
        decode a file that another decoder might: CMYK, or a rare kind.

    Raises:
        DecodeError: if the pixels are damaged; the message begins with "truncated" or "damaged".
    """
    if simplejpeg is None:
        _tell_missing()
        return None
    try:
        colorspace = simplejpeg.decode_jpeg_header(data)[2]
    except ValueError as error:
        if ODD_REVISION not in str(error):
            return None
        revision = data.index(JFIF) + len(JFIF)
        data = data[:revision] + b"\1" + data[revision + 1 :]
        return decode_jpeg(data, order)
    if colorspace in ("YCbCr", "Gray", "RGB"):
        return _decoded(data, order)
    _decoded(data, "CMYK")  # whether it is whole; the backend has its own rule for the colours
    return None


def _decoded(data: bytes, order: str) -> Optional[np.ndarray]:
    message = f"{LOST_BYTES} or more zeros stand where pixels should be"
    try:
        pixels = simplejpeg.decode_jpeg(data, order)
        if not has_lost_sectors(data):
            return pixels
    except ValueError as error:
        message = str(error).strip()
    if message.startswith(NOT_FOR_US):
        return None
    if message.endswith("before marker 0xd9"):
        pixels = _without_padding(data, order)
        if pixels is not None:
            return pixels
    kind = "truncated" if ENDS_EARLY in message.lower() else "damaged"
    raise DecodeError(f"{kind}: {message}")


def _without_padding(data: bytes, order: str) -> Optional[np.ndarray]:
    """Decode a file that has zeros between its whole pixels and its end mark; None if that is not what it is."""
    head, _, _ = data.rpartition(END_OF_IMAGE)
    head = head.rstrip(b"\0")
    if head.endswith(b"\xff"):  # the byte 0xFF of the pixels, which a zero follows
        head += b"\0"
    try:
        pixels = simplejpeg.decode_jpeg(head + END_OF_IMAGE, order)
    except ValueError:
        return None
    return None if has_lost_sectors(head) else pixels


@functools.lru_cache(maxsize=1)
def _tell_missing() -> None:
    logger.warning("simplejpeg is not installed, so damage inside JPEG files goes unnoticed: pip install simplejpeg")
