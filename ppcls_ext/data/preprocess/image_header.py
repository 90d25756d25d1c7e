"""What the header of an image file says before any pixel is decoded: its size, and where its pixels begin."""

from __future__ import annotations

import io
import os
import zlib
from typing import Iterator, Optional

from PIL import Image

from ppcls_ext.data.errors import DecodeError

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
START_OF_SCAN = 0xDA  # the JPEG marker before compressed pixels
#: Markers of a frame's header: baseline, extended and progressive with Huffman codes come first.
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SEQUENTIAL_FRAMES, HUFFMAN_FRAMES = frozenset({0xC0, 0xC1}), frozenset({0xC0, 0xC1, 0xC2})
HUFFMAN_TABLES, END_OF_BLOCK, END_OF_IMAGE = 0xC4, 0, b"\xff\xd9"
LOST_BYTES = 256  # half a sector
#: A Huffman-coded block of 8 x 8 pixels takes at least one bit.
MAX_PIXELS_PER_BYTE = 8 * 8 * 8

MAX_PIXELS_VARIABLE = "PPCLS_EXT_MAX_PIXELS"
#: Above the sensors of full-frame cameras (61 megapixels); decoding such an image takes some 500 MB.
DEFAULT_MAX_PIXELS = 1 << 26
#: Pillow's readers of images. Others run programs (EPS) or describe drawings.
PILLOW_FORMATS = "AVIF BMP DDS DIB GIF ICNS ICO JPEG JPEG2000 MPO PCX PNG PPM SGI TGA TIFF WEBP".split()


def max_pixels() -> int:
    """Return the most pixels that an image may have: $PPCLS_EXT_MAX_PIXELS, or 2 to the power of 26.

    Raises:
        ValueError: if the variable holds no positive integer.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE, "").strip()
    if not text:
        return DEFAULT_MAX_PIXELS
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text)):
        raise ValueError(f"the environment variable {MAX_PIXELS_VARIABLE}: expected a positive integer, got {text!r}")
    return int(text)


def check_size(data: bytes, limit: int) -> None:
    """Compare the size in a file's header with the limit, and with the length of a JPEG file.

    Raises:
        DecodeError: if the header claims more pixels than the limit, or than the file can hold.
    """
    size = jpeg_size(data) if data.startswith(JPEG) else png_size(data) if data.startswith(PNG) else None
    if size is not None:
        check_pixels(*size, limit)
    if size is not None and data.startswith(JPEG) and size[0] * size[1] > len(data) * MAX_PIXELS_PER_BYTE:
        frame = next(kind for kind, _ in _segments(data) if kind in START_OF_FRAME)
        if frame in HUFFMAN_FRAMES:
            raise DecodeError(f"truncated: {len(data)} bytes cannot hold the {size[0]}x{size[1]} pixels of the header")


def check_pixels(width: int, height: int, limit: int, where: str = "") -> None:
    """Compare a size with the limit.

    Args:
        width: of the image.
        height: of the image.
        limit: the most pixels.
        where: beginning of the message.

    Raises:
        DecodeError: if it is larger.
    """
    if width * height > limit:
        raise DecodeError(
            f"{where}{width}x{height} pixels are more than {limit:,}; where such images are meant, set the environment "
            f"variable {MAX_PIXELS_VARIABLE}"
        )


def open_with_pillow(data: bytes, limit: int) -> Image.Image:
    """Open a file with Pillow, which reads its header.

    Raises:
        DecodeError: if it claims more pixels than the limit.
    """
    if Image.MAX_IMAGE_PIXELS is not None and limit > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = limit  # the user has raised the limit; Pillow has its own
    Image.preinit()
    if not all(name in Image.OPEN for name in ("TIFF", "WEBP")):
        Image.init()
    image = Image.open(io.BytesIO(data), formats=[name for name in PILLOW_FORMATS if name in Image.OPEN])
    check_pixels(*image.size, limit)
    return image


def jpeg_size(data: bytes) -> Optional[tuple[int, int]]:
    """Return the (width, height) in a JPEG file's header; None if there is none."""
    for kind, place in _segments(data):
        if kind in START_OF_FRAME and place + 9 <= len(data):
            return int.from_bytes(data[place + 7 : place + 9], "big"), int.from_bytes(
                data[place + 5 : place + 7], "big"
            )
    return None


def has_lost_sectors(data: bytes) -> bool:
    """Whether zeros stand where a JPEG file's pixels should be, as after a bad download or a damaged disk.

    By chance they may decode without a warning. In a sequential file with all components in one scan zero bits mean,
    for each block, the first symbol of its AC table over and over. Where that is not the end of the block, 2048 of them
    are blocks of 63 equal coefficients in a row, which no image has.
    """
    if bytes(LOST_BYTES) not in data:
        return False
    first_symbols: dict[int, int] = {}
    components = None
    for kind, place in _segments(data):
        content = data[place + 4 : place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")]
        if kind in START_OF_FRAME:
            components = content[5] if kind in SEQUENTIAL_FRAMES and len(content) > 5 else None
        elif kind == HUFFMAN_TABLES:
            while len(content) > 17:
                count = sum(content[1:17])
                if content[0] >> 4:
                    first_symbols[content[0] & 15] = content[17]
                content = content[17 + count :]
        elif kind == START_OF_SCAN:
            if not content or content[0] != components:
                return False
            tables = [content[2 * number + 2] & 15 for number in range(components) if 2 * number + 2 < len(content)]
            if all(first_symbols.get(table, END_OF_BLOCK) == END_OF_BLOCK for table in tables):
                return False
            end = data.find(END_OF_IMAGE, place)
            return data.find(bytes(LOST_BYTES), place, None if end < 0 else end) >= 0
    return False


def check_png(data: bytes) -> None:
    """Compare each critical chunk of a PNG file with its checksum; Pillow alone would not.

    Raises:
        DecodeError: if a chunk is cut off or damaged, or the last one is missing.
    """
    place = len(PNG)
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        kind = data[place + 4 : place + 8]
        if end + 4 > len(data):
            break
        critical = kind[:1].isupper()
        if critical and zlib.crc32(memoryview(data)[place + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise DecodeError(f"damaged: the checksum of its chunk {kind!r} at byte {place} is wrong")
        if kind == b"IEND":
            return
        place = end + 4
    raise DecodeError("truncated: the file ends before its last chunk does")


def png_size(data: bytes) -> Optional[tuple[int, int]]:
    """Return the (width, height) in a PNG file's header; None if it is cut off."""
    if len(data) < 24:
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def header_length(data: bytes) -> int:
    """Return where a JPEG file's pixels begin; for any other file, or a broken chain of segments, its length."""
    return next((place for kind, place in _segments(data) if kind == START_OF_SCAN), len(data))


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the kind and place of each segment up to the pixels.

    A segment is 0xFF, a kind, and two bytes of length that count themselves (ITU-T T.81, B.1.1).
    """
    place = 2 if data.startswith(JPEG) else len(data)
    while place + 4 <= len(data) and data[place] == 0xFF:
        if data[place + 1] == 0xFF:  # a fill byte
            place += 1
            continue
        yield data[place + 1], place
        if data[place + 1] == START_OF_SCAN:
            return
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
