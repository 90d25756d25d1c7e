"""JPEG files decoded by simplejpeg: the pixels must be those of OpenCV and Pillow, and so must every refusal."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from data_helpers import encode, smooth_pixels
from PIL import Image
from sklearn.datasets import load_sample_images

from ppcls_ext.data import DecodeError
from ppcls_ext.data.preprocess import DecodeImage, jpeg

PHOTOGRAPH = load_sample_images().images[0]
BACKENDS = ("cv2", "pil")


def photograph(height: int, width: int, mode: str = "RGB", **options) -> bytes:
    return encode(Image.fromarray(PHOTOGRAPH[100 : 100 + height, 200 : 200 + width]).convert(mode), "JPEG", **options)


def without_simplejpeg(decode, data, monkeypatch):
    """Return what ``decode`` gives of ``data``, pixels or the reason of a refusal, where simplejpeg is missing."""
    with monkeypatch.context() as patch:
        patch.setattr(jpeg, "simplejpeg", None)
        return outcome(decode, data)


def outcome(decode, data):
    try:
        return decode(data)
    except DecodeError as error:
        return str(error)


@pytest.mark.compat
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"quality": 30}], ids=str)
def test_pixels_are_opencvs_and_pillows(subsampling, options):
    for height, width in [(1, 1), (7, 9), (16, 16), (33, 47), (120, 161)]:
        data = photograph(height, width, subsampling=subsampling, **options)
        by_simplejpeg = jpeg.decode_jpeg(data, "RGB")
        by_opencv = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(by_simplejpeg, by_opencv[:, :, ::-1])
        np.testing.assert_array_equal(by_simplejpeg, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
        np.testing.assert_array_equal(jpeg.decode_jpeg(data, "BGR"), by_opencv)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("to_rgb", [True, False])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_decode_image_is_the_same_without_simplejpeg(mode, to_rgb, backend, monkeypatch):
    decode = DecodeImage(backend=backend, to_rgb=to_rgb)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = photograph(40, 61, mode, exif=exif)
    assert (jpeg.decode_jpeg(data, "RGB") is None) == (mode == "CMYK")
    pixels = decode(data)
    assert pixels.shape == (61, 40, 3) and pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, without_simplejpeg(decode, data, monkeypatch))


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_damaged_is_left_to_the_backend(backend, monkeypatch):
    """Cut off, cut short, with bytes missing or stray in the middle: with and without simplejpeg the same happens."""
    decode, data = DecodeImage(backend=backend), photograph(64, 64)
    middle = len(data) // 2
    refused = 0
    for damaged in (
        data[:20],
        data[:middle],
        data[:-2],
        data[:middle] + data[middle + 200 :],
        data[:middle] + b"\xff\xd9" + data[middle:],
        data[:-2] + bytes(100) + data[-2:],
        data[:2] + b"\xff\xc0" + data[4:],
    ):
        assert jpeg.decode_jpeg(damaged, "RGB") is None
        with_it, without = outcome(decode, damaged), without_simplejpeg(decode, damaged, monkeypatch)
        assert type(with_it) is type(without)
        np.testing.assert_array_equal(with_it, without)
        refused += isinstance(with_it, str)
    assert refused >= 3


def test_a_header_that_claims_too_much_asks_for_no_memory():
    data = photograph(16, 16)
    start = data.index(b"\xff\xc0")
    claims = data[: start + 5] + b"\xff\xff\xff\xff" + data[start + 9 :]  # 65535 x 65535
    assert jpeg.decode_jpeg(claims, "RGB") is None
    with pytest.raises(DecodeError):
        DecodeImage()(claims)


@pytest.mark.parametrize("backend", BACKENDS)
def test_orientation_is_found_behind_other_segments_and_not_in_pixels(backend):
    """EXIF data may stand behind more than 64 KB of colour profile; the word itself may occur among the pixels."""
    pixels = smooth_pixels(12, 20)
    exif = Image.Exif()
    exif[0x0112] = 3
    data = encode(Image.fromarray(pixels), "JPEG", quality=95)
    header = encode(Image.fromarray(pixels), "JPEG", quality=95, exif=exif)
    start = header.index(b"\xff\xe1")
    segment = header[start : start + 2 + int.from_bytes(header[start + 2 : start + 4], "big")]
    profile = b"\xff\xe2\xff\xff" + bytes(65533)
    upright = DecodeImage(backend=backend)(data)
    turned = DecodeImage(backend=backend)(data[:20] + profile * 2 + segment + data[20:])
    np.testing.assert_array_equal(turned, upright[::-1, ::-1])
    stray = data[:-2] + b"\xff\xd9" + segment  # behind the picture's end
    np.testing.assert_array_equal(DecodeImage(backend=backend)(stray), upright)
