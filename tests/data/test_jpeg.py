"""JPEG files: the pixels must be those of OpenCV and Pillow, and damage that these pass over is refused."""

from __future__ import annotations

import io
import tracemalloc

import cv2
import numpy as np
import pytest
import simplejpeg
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


def with_zeros(data: bytes, size: int) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(size) + data[middle + size :]


@pytest.mark.compat
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}], ids=str)
def test_damaged_pixels_are_refused(options, mode, backend):
    """Cut off with an end mark, zeros or stray bytes in the middle: OpenCV and Pillow themselves give wrong pixels."""
    decode, data = DecodeImage(backend=backend), photograph(160, 200, mode, quality=95, **options)
    middle = len(data) // 2
    for share in (0.3, 0.6, 0.9, 0.99):
        with pytest.raises(DecodeError, match="^truncated: "):
            decode(data[: int(len(data) * share)] + b"\xff\xd9")
    assert len(data) > 8000
    for damaged in (
        with_zeros(data, 4096),
        data[:middle] + data[middle + 200 :],
        data[:middle] + b"\xff\xd9" + data[middle:],
        data[:-2] + b"\x11" * 100 + data[-2:],
    ):
        with pytest.raises(DecodeError, match="^(truncated|damaged): "):
            decode(damaged)


def test_lost_sectors_are_found_wherever_they_lie():
    """libjpeg warns of most of them; of some it does not, for as many blocks came out as should."""
    data = photograph(160, 200, quality=92)
    silent = 0
    for start in range(700, len(data) - 520, 37):
        damaged = data[:start] + bytes(512) + data[start + 512 :]
        try:
            simplejpeg.decode_jpeg(damaged)
            silent += 1
        except ValueError:
            pass
        with pytest.raises(DecodeError, match="^(truncated|damaged): "):
            DecodeImage()(damaged)
    assert silent > 0


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("optimize", [True, False])
def test_a_blank_image_may_be_all_zeros(mode, optimize):
    blank = Image.new("RGB", (800, 800), (200, 100, 50)).convert(mode)
    data = encode(blank, "JPEG", optimize=optimize)
    np.testing.assert_array_equal(DecodeImage()(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    if optimize:
        assert bytes(256) in data


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_simplejpeg_a_cut_file_is_refused_and_the_user_is_told(backend, monkeypatch, caplog):
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    jpeg._tell_missing.cache_clear()
    decode, data = DecodeImage(backend=backend), photograph(64, 64)
    for size in (20, len(data) // 2, len(data) - 2):
        with pytest.raises(DecodeError):
            decode(data[:size])
    assert "damage inside JPEG files goes unnoticed" in caplog.text


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_does_not_touch_the_pixels_is_no_damage(backend):
    decode, data = DecodeImage(backend=backend), photograph(64, 64)
    pixels = decode(data)
    revision = data.index(b"JFIF\0") + 5
    for changed in (
        data + b"a motion photo's film",
        data[:-2] + bytes(100) + data[-2:],  # padding before the end mark
        data[:revision] + b"\x09" + data[revision + 1 :],  # an unknown revision of JFIF, of which libjpeg warns
        data[:2] + b"\xff" * 5 + data[2:],  # fill bytes
    ):
        np.testing.assert_array_equal(decode(changed), pixels)


def claiming(data: bytes, height: int, width: int) -> bytes:
    start = next(place for place in (data.find(b"\xff\xc0"), data.find(b"\xff\xc2")) if place > 0)
    return data[: start + 5] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[start + 9 :]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("simple", [True, False])
def test_a_header_that_claims_too_much_asks_for_no_memory(backend, simple, monkeypatch):
    if not simple:
        monkeypatch.setattr(jpeg, "simplejpeg", None)
    decode, data = DecodeImage(backend=backend), photograph(16, 16)
    with pytest.raises(DecodeError, match="20000x20000 pixels are more than 67,108,864; .*PPCLS_EXT_MAX_PIXELS"):
        decode(claiming(data, 20000, 20000))
    tracemalloc.start()
    with pytest.raises(DecodeError, match="truncated: .* bytes cannot hold the 8000x8000 pixels"):
        decode(claiming(data, 8000, 8000))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


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
