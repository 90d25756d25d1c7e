"""DecodeImage: from the bytes of a file to an array of pixels.

One rule for both backends: eight bits a channel, three channels, the EXIF orientation applied. Sixteen-bit files keep
the high byte, alpha is dropped, palettes are looked up, grey is repeated, CMYK is converted by the backend's own rule.
"""

from __future__ import annotations

import struct
import zlib
from typing import Optional, Union

import numpy as np
from PIL import Image

from ppcls_ext.data.errors import DecodeError
from ppcls_ext.data.preprocess.image_header import (
    JPEG,
    PNG,
    check_pixels,
    check_png,
    check_size,
    header_length,
    max_pixels,
    open_with_pillow,
)
from ppcls_ext.data.preprocess.jpeg import decode_jpeg
from ppcls_ext.data.preprocess.operator import CHW, HWC, Operator
from ppcls_ext.utils.validate import choice, flag

# What OpenCV and Pillow read alike; anything else (TIFF, GIF, ...) goes to Pillow, whose header parser knows the mode.
OPENCV_MAGIC = {"JPEG": JPEG, "PNG": PNG, "BMP": b"BM", "WebP": b"RIFF"}
ORIENTATION_TAG = 0x0112

# Pillow's readers let these out on damaged files.
PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class DecodeImage(Operator):
    """Decode the bytes of an image file to uint8 pixels.

    A file with more than $PPCLS_EXT_MAX_PIXELS pixels (2 to the power of 26 where that is unset) by its header is not
    decoded.

    An array is taken as decoded already, ``[height, width, 3]`` in OpenCV's order (BGR), as PaddleClas does.

    Args:
        to_np: PaddleClas returns a Pillow image when False and the backend is "pil". Images are arrays here in either
            case; when False, ``to_rgb`` and ``channel_first`` have no effect, as in PaddleClas.
        to_rgb: RGB when True, BGR when False.
        channel_first: ``[3, height, width]`` when True, ``[height, width, 3]`` when False.
        backend: "cv2" or "pil".
    """

    layout_in = None

    def __init__(self, to_np: bool = True, to_rgb: bool = True, channel_first: bool = False, backend: str = "cv2"):
        self.backend = choice(backend, "backend", ("cv2", "pil"))
        self.to_np = flag(to_np, "to_np")
        self.to_rgb = flag(to_rgb, "to_rgb") if to_np else self.backend == "pil"
        self.channel_first = flag(channel_first, "channel_first") and to_np
        self.layout_out = CHW if self.channel_first else HWC
        self.max_pixels = max_pixels()

    def __call__(
        self, image: Union[bytes, np.ndarray, Image.Image], rng: Optional[np.random.Generator] = None
    ) -> np.ndarray:
        """Return the pixels.

        Raises:
            DecodeError: if the bytes are not a readable image; the message is the reason.
            TypeError: if ``image`` is neither bytes nor an image.
        """
        pixels, is_rgb = self._pixels(image)
        if is_rgb != self.to_rgb:
            pixels = _swapped(pixels)
        if self.channel_first:
            pixels = pixels.transpose(2, 0, 1)
        return np.ascontiguousarray(pixels)

    def _pixels(self, image: Union[bytes, np.ndarray, Image.Image]) -> tuple[np.ndarray, bool]:
        """Return ``[height, width, 3]`` and whether it is RGB rather than BGR."""
        if isinstance(image, (bytes, bytearray, memoryview)):
            data = bytes(image)
            check_size(data, self.max_pixels)
            if data.startswith(JPEG):
                pixels = decode_jpeg(data, "RGB" if self.to_rgb else "BGR")
                if pixels is not None:
                    return _upright(pixels, _orientation_of(data, self.max_pixels)), self.to_rgb
            elif data.startswith(PNG):
                check_png(data)
            if self.backend == "cv2" and data.startswith(tuple(OPENCV_MAGIC.values())):
                return _decode_opencv(data, self.max_pixels), False
            return _decode_pillow(data, self.max_pixels), True
        if isinstance(image, Image.Image):
            check_pixels(*image.size, self.max_pixels)
            return _loaded_pixels(image), True
        if isinstance(image, np.ndarray):
            if image.ndim != 3 or image.shape[2] != 3:
                raise TypeError(f"DecodeImage: expected an array [height, width, 3], got shape {list(image.shape)}")
            return image, False
        raise TypeError(f"DecodeImage: expected bytes, an array or a Pillow image, got {type(image).__name__}")


def _swapped(pixels: np.ndarray) -> np.ndarray:
    """Return RGB for BGR and the other way round."""
    if pixels.dtype != np.uint8:
        return pixels[:, :, ::-1]
    import cv2

    # OpenCV's copy is many times quicker than NumPy's of a reversed axis.
    return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_BGR2RGB)


def _decode_opencv(data: bytes, limit: int) -> np.ndarray:
    """Decode to BGR with OpenCV."""
    import cv2

    if not _has_end_mark(data):
        # OpenCV fills the missing part of a truncated file with grey and goes on; Pillow tells whether it is complete.
        _decode_pillow(data, limit)
    if not data.startswith((JPEG, PNG)) and not _is_known_to_pillow(data, limit):
        return _decode_pillow(data, limit)[:, :, ::-1]  # gives the reason
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        return _decode_pillow(data, limit)[:, :, ::-1]  # Pillow may know the variant, and else gives the reason
    return _upright(pixels, _orientation_of(data, limit))


def _is_known_to_pillow(data: bytes, limit: int) -> bool:
    """Whether Pillow can read the header; raises a DecodeError if that claims more pixels than the limit."""
    try:
        open_with_pillow(data, limit).close()
    except DecodeError:
        raise
    except PILLOW_ERRORS:
        return False
    return True


def _has_end_mark(data: bytes) -> bool:
    if data.startswith(JPEG):
        return data.rstrip(b"\0\r\n ").endswith(b"\xff\xd9")
    return True


def _orientation_of(data: bytes, limit: int) -> int:
    """Return the EXIF orientation (1 to 8); the header is parsed only where the mark of EXIF data occurs."""
    header = data[: header_length(data)]
    if b"Exif" not in header and b"eXIf" not in header and b"EXIF" not in header:
        return 1
    try:
        with open_with_pillow(data, limit) as image:
            return _orientation(image)
    except PILLOW_ERRORS:
        return 1  # the pixels have been decoded; only the header's extra data is unreadable


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(ORIENTATION_TAG, 1)
    return value if value in range(1, 9) else 1


def _decode_pillow(data: bytes, limit: int) -> np.ndarray:
    """Decode to RGB with Pillow."""
    if not data:
        raise DecodeError("the file is empty (0 bytes)")
    try:
        with open_with_pillow(data, limit) as image:
            return _loaded_pixels(image)
    except Image.UnidentifiedImageError:
        raise DecodeError(f"no known image format (the file begins with {data[:8]!r})") from None
    except DecodeError:
        raise
    except PILLOW_ERRORS as error:
        raise DecodeError(f"{error or type(error).__name__}") from error


def _loaded_pixels(image: Image.Image) -> np.ndarray:
    """Return the pixels of a Pillow image, which may be no more than a header until now."""
    try:
        image.load()
        return _pillow_pixels(image)
    except DecodeError:
        raise
    except PILLOW_ERRORS as error:
        raise DecodeError(f"{error or type(error).__name__}") from error


def _pillow_pixels(image: Image.Image) -> np.ndarray:
    orientation = _orientation(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        # Pillow's own conversion clips at 255, which turns most 16-bit images white.
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        pixels = np.repeat(grey[:, :, None], 3, axis=2)
    elif image.mode in ("I", "F"):
        raise DecodeError(f"32-bit pixels (mode {image.mode}) have no defined range; save the file with 8 or 16 bits")
    else:
        pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return _upright(pixels, orientation)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation: 2 to 4 are flips, 5 to 8 exchange rows and columns first."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    return pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
