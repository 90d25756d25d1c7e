"""DecodeImage against OpenCV, Pillow and hand-made pixels, for every kind of file that a data set may hold."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from data_helpers import encode, smooth_pixels
from PIL import Image

from ppcls_ext.data import DecodeError
from ppcls_ext.data.preprocess import DecodeImage

PIXELS = smooth_pixels(23, 31)
RGB = Image.fromarray(PIXELS)
GREY = np.asarray(RGB.convert("L"))
BACKENDS = ("cv2", "pil")


def opencv_file(suffix: str, pixels: np.ndarray) -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


def grey_as_rgb(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, axis=-1)


# kind: (the file, the RGB pixels that it holds)
LOSSLESS = {
    "rgb_png": (encode(RGB, "PNG"), PIXELS),
    "rgb_bmp": (encode(RGB, "BMP"), PIXELS),
    "rgb_tiff": (encode(RGB, "TIFF"), PIXELS),
    "rgb_webp": (encode(RGB, "WEBP", lossless=True), PIXELS),
    "grey_png": (encode(RGB.convert("L"), "PNG"), grey_as_rgb(GREY)),
    "palette_png": (encode(RGB.convert("P"), "PNG"), np.asarray(RGB.convert("P").convert("RGB"))),
    "palette_gif": (encode(RGB.convert("P"), "GIF"), np.asarray(RGB.convert("P").convert("RGB"))),
    "one_bit_png": (encode(RGB.convert("1"), "PNG"), grey_as_rgb(np.asarray(RGB.convert("1")) * np.uint8(255))),
    "alpha_png": (encode(Image.fromarray(np.dstack([PIXELS, GREY])), "PNG"), PIXELS),
    "grey_alpha_png": (encode(RGB.convert("LA"), "PNG"), grey_as_rgb(GREY)),
    "sixteen_bit_grey_png": (opencv_file(".png", GREY.astype(np.uint16) * 256 + 77), grey_as_rgb(GREY)),
    "sixteen_bit_grey_tiff": (opencv_file(".tiff", GREY.astype(np.uint16) * 256 + 77), grey_as_rgb(GREY)),
    "sixteen_bit_rgb_png": (opencv_file(".png", PIXELS[:, :, ::-1].astype(np.uint16) * 256 + 77), PIXELS),
    "one_pixel_png": (encode(Image.fromarray(PIXELS[:1, :1]), "PNG"), PIXELS[:1, :1]),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_file_gives_its_pixels(kind, backend):
    data, expected = LOSSLESS[kind]
    decoded = DecodeImage(backend=backend)(data)
    assert decoded.dtype == np.uint8 and decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize("kind", ["rgb", "grey", "cmyk", "progressive", "one_pixel"])
def test_jpeg_equals_opencv_and_pillow(kind):
    image = {"grey": RGB.convert("L"), "cmyk": RGB.convert("CMYK"), "one_pixel": RGB.crop((0, 0, 1, 1))}.get(kind, RGB)
    data = encode(image, "JPEG", quality=90, progressive=kind == "progressive")
    by_opencv = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    by_pillow = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(DecodeImage(backend="cv2")(data), by_opencv)
    np.testing.assert_array_equal(DecodeImage(backend="pil")(data), by_pillow)
    # Two JPEG decoders; the conversion from CMYK rounds differently by one.
    assert np.abs(by_opencv.astype(int) - by_pillow).max() <= 1


def upright_by_hand(orientation: int) -> np.ndarray:
    """What the EXIF standard says of the stored rows and columns: 0th row / 0th column are ..."""
    return {
        1: PIXELS,  # top, left
        2: PIXELS[:, ::-1],  # top, right
        3: PIXELS[::-1, ::-1],  # bottom, right
        4: PIXELS[::-1],  # bottom, left
        5: PIXELS.transpose(1, 0, 2),  # left, top
        6: np.rot90(PIXELS, -1),  # right, top: turn clockwise
        7: PIXELS[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
        8: np.rot90(PIXELS, 1),  # left, bottom: turn counter-clockwise
    }[orientation]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation, kind, backend):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(RGB, kind, exif=exif, **options)
    np.testing.assert_array_equal(DecodeImage(backend=backend)(data), upright_by_hand(orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_a_jpeg_is_opencvs(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(RGB, "JPEG", exif=exif)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    for backend in BACKENDS:
        np.testing.assert_array_equal(DecodeImage(backend=backend)(data), expected)


JPEG = encode(RGB, "JPEG", quality=90)
DAMAGED = {
    "empty": b"",
    "text": b"<html>404 not found</html>",
    "bad_header": b"\xff\xd8\xff" + b"\0" * 64,
    "header_only": JPEG[:20],
    "truncated_jpeg": JPEG[: len(JPEG) * 2 // 3],
    "truncated_png": LOSSLESS["rgb_png"][0][:-40],
    "png_with_an_end_chunk": LOSSLESS["rgb_png"][0][:-60] + LOSSLESS["rgb_png"][0][-12:],
    "truncated_bmp": LOSSLESS["rgb_bmp"][0][:-400],
    "truncated_webp": LOSSLESS["rgb_webp"][0][:60],
    "truncated_gif": LOSSLESS["palette_gif"][0][:-300],
    "damaged_png": LOSSLESS["rgb_png"][0][:60] + b"\1\2\3\4" + LOSSLESS["rgb_png"][0][64:],
    "float_tiff": encode(Image.fromarray(GREY.astype(np.float32)), "TIFF"),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_file_is_a_decode_error_with_a_reason(kind, backend):
    with pytest.raises(DecodeError) as caught:
        DecodeImage(backend=backend)(DAMAGED[kind])
    assert len(str(caught.value)) > 10


@pytest.mark.compat
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM", "JPEG"])
def test_the_most_pixels_are_read_from_the_header(kind, backend, monkeypatch):
    """A PNG of 30000 x 30000 pixels may have 109 KB, and cost gigabytes."""
    data = encode(RGB, kind)
    monkeypatch.setenv("PPCLS_EXT_MAX_PIXELS", str(23 * 31 - 1))
    with pytest.raises(DecodeError, match="31x23 pixels are more than 712; .*PPCLS_EXT_MAX_PIXELS"):
        DecodeImage(backend=backend)(data)
    monkeypatch.setenv("PPCLS_EXT_MAX_PIXELS", str(23 * 31))
    assert DecodeImage(backend=backend)(data).shape == (23, 31, 3)
    monkeypatch.setenv("PPCLS_EXT_MAX_PIXELS", "many")
    with pytest.raises(ValueError, match="PPCLS_EXT_MAX_PIXELS: expected a positive integer, got 'many'"):
        DecodeImage(backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_script_is_no_image(backend):
    """Pillow hands EPS to Ghostscript, a program that runs what the file says."""
    with pytest.raises(DecodeError, match="no known image format"):
        DecodeImage(backend=backend)(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")


def test_opencv_alone_would_take_a_truncated_jpeg():
    """Why libjpeg's warnings are read: OpenCV fills the missing part with grey and says nothing to its caller."""
    data = np.frombuffer(DAMAGED["truncated_jpeg"] + b"\xff\xd9", np.uint8)
    assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == PIXELS.shape


def test_bytes_after_the_end_mark_do_not_matter():
    np.testing.assert_array_equal(DecodeImage()(JPEG + b"camera maker's data"), DecodeImage()(JPEG))


@pytest.mark.parametrize("backend", BACKENDS)
def test_channel_order_and_axes(backend):
    data = LOSSLESS["rgb_png"][0]
    np.testing.assert_array_equal(DecodeImage(to_rgb=False, backend=backend)(data), PIXELS[:, :, ::-1])
    np.testing.assert_array_equal(DecodeImage(channel_first=True, backend=backend)(data), PIXELS.transpose(2, 0, 1))


def test_arrays_are_in_opencvs_order():
    np.testing.assert_array_equal(DecodeImage()(PIXELS[:, :, ::-1]), PIXELS)
    np.testing.assert_array_equal(DecodeImage(backend="pil")(RGB), PIXELS)
    with pytest.raises(TypeError, match=r"\[23, 31\]"):
        DecodeImage()(GREY)
    with pytest.raises(TypeError, match="str"):
        DecodeImage()("photo.jpg")
