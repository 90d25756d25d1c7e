"""Preprocessing in proportion to another image size: cases worked out by hand."""

import pytest

from ppcls_ext.analysis.resolution import ResolutionError, transforms_at_resolution

pytestmark = pytest.mark.compat
DECODE, NORMALIZE = {"DecodeImage": {"to_rgb": True}}, {"NormalizeImage": {"scale": "1.0/255.0", "order": ""}}


def scaled(operators, native, wanted):
    """The sizes alone, of operators between decoding and normalising, which stay as they are."""
    first, *found, last = transforms_at_resolution([DECODE, *operators, NORMALIZE], native, wanted)
    assert (first, last) == (DECODE, NORMALIZE)
    return found


@pytest.mark.parametrize(
    "resize_short, crop, wanted, expected",
    [
        (256, 224, (224, 224), (256, 224)),
        (256, 224, (392, 392), (448, 392)),
        (256, 224, (288, 288), (329, 288)),  # 329.14
        (248, 224, (112, 112), (124, 112)),
        (18, 16, (20, 20), (23, 20)),  # 22.5
        (18, 16, (24, 24), (27, 24)),
        (16, 16, (1, 1), (1, 1)),
    ],
)
def test_short_side_and_crop_keep_their_ratio(resize_short, crop, wanted, expected):
    operators = [{"ResizeImage": {"resize_short": resize_short, "backend": "pil"}}, {"CropImage": {"size": crop}}]
    assert scaled(operators, (crop, crop), wanted) == [
        {"ResizeImage": {"resize_short": expected[0], "backend": "pil"}},
        {"CropImage": {"size": expected[1]}},
    ]
    assert operators[1] == {"CropImage": {"size": crop}}, "the recipe itself is left alone"


def test_oblong_sizes_grow_side_by_side():
    """From 32 x 64 (height x width) to 48 x 80: by 1.5 and 1.25; sizes are written [width, height]."""
    operators = [{"ResizeImage": {"size": [64, 32]}}, {"CropImage": {"size": [64, 32]}}]
    assert scaled(operators, (32, 64), (48, 80)) == [
        {"ResizeImage": {"size": [80, 48]}},
        {"CropImage": {"size": [80, 48]}},
    ]
    short = [{"ResizeImage": {"resize_short": 36}}, {"CropImage": {"size": 32}}]
    assert scaled(short, (32, 32), (48, 32)) == [
        {"ResizeImage": {"resize_short": 54}},
        {"CropImage": {"size": [32, 48]}},
    ]


@pytest.mark.parametrize("operators, message", [([], "add a ResizeImage"), ([{"Pad": {"padding": 4}}], "Pad")])
def test_what_has_no_proportion_is_refused(operators, message):
    with pytest.raises(ResolutionError, match=message):
        transforms_at_resolution([DECODE, *operators, NORMALIZE], (32, 32), (64, 64))
