"""Quick decoding of JPEG files with simplejpeg (the extra ``fast``), where it is installed.

It brings a recent libjpeg-turbo with vector instructions, which OpenCV's wheels lack. Exact inverse DCT and smooth
chroma upsampling are fixed in libjpeg-turbo bit for bit, so the pixels of an undamaged file are OpenCV's and Pillow's.
A file at which the decoder as much as warns is left to those: they decide what is readable, with or without simplejpeg.
"""

from __future__ import annotations

from typing import Optional

import numpy as np

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

#: OpenCV refuses more; a header that claims more is no reason to ask for the memory.
MAX_PIXELS = 1 << 30


def decode_jpeg(data: bytes, order: str) -> Optional[np.ndarray]:
    """Decode a JPEG file without a doubt about it.

    Args:
        data: the file.
        order: "RGB" or "BGR".

    Returns:
        uint8 ``[height, width, 3]``, EXIF orientation not applied; None where simplejpeg is not installed, the file is
        CMYK, or it is damaged in any way.
    """
    if simplejpeg is None:
        return None
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        if colorspace not in ("YCbCr", "Gray", "RGB") or height * width > MAX_PIXELS:
            return None
        return simplejpeg.decode_jpeg(data, order)
    except ValueError:
        return None
