"""What is known of an image's shape without an image, against the operators on real ones."""

from __future__ import annotations

import numpy as np
import pytest
from data_helpers import smooth_pixels

from ppcls_ext.data.errors import DecodeError
from ppcls_ext.data.preprocess import ImageShape, build_transforms, check_transform_ops, shapes_after

pytestmark = pytest.mark.compat


def resize(**arguments) -> dict:
    return {"ResizeImage": arguments}


def crop(size) -> dict:
    return {"CropImage": {"size": size}}


def normalise(**arguments) -> dict:
    return {"NormalizeImage": {"order": "", **arguments}}


CHAINS = [
    [resize(size=[20, 30]), crop([20, 10]), normalise(), {"ToCHWImage": None}],
    [resize(resize_short=16), crop(16), normalise()],
    [resize(resize_short=16), {"Pad": {"padding": [1, 2]}}, crop(18)],
    [{"RandCropImage": {"size": [9, 7]}}, {"Pad": {"padding": [1, 2, 3, 4]}}, {"RandFlipImage": None}],
    [resize(size=12), resize(resize_short=8), normalise(channel_num=4)],
    [{"RandomRotation": {"degrees": 30, "prob": 1, "expand": True}}, resize(size=8)],
    [{"AutoAugment": None}, {"RandAugment": None}, {"ColorJitter": {"brightness": 0.4}}, resize(size=8)],
]


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "-".join(next(iter(item)) for item in chain))
@pytest.mark.parametrize("size", [(31, 23), (23, 31), (40, 40)])
@pytest.mark.parametrize("known", [True, False])
def test_the_shape_after_each_operator_is_that_of_an_image(chain, size, known):
    pipeline = build_transforms(chain)
    image, layout = smooth_pixels(size[1], size[0]), "HWC"
    for operator, shape in zip(pipeline.operators, shapes_after(chain, size if known else None)):
        image = operator(image, np.random.default_rng(0))
        layout = operator.layout_out or layout
        height, width, channels = image.shape if layout == "HWC" else np.roll(image.shape, -1)
        assert channels == shape.channels and min(width, height) >= shape.least
        if shape.is_known:
            assert (width, height) == (shape.width, shape.height)
        elif known:
            assert "expand" in str(chain)  # the angle is drawn


@pytest.mark.parametrize(
    ("chain", "size", "message"),
    [
        ([resize(resize_short=200), crop(224)], None, "1.CropImage: size: the crop 224x224 is larger"),
        ([resize(size=[64, 32]), crop([32, 64])], None, "larger than the image, which is 64x32"),
        ([crop(33)], (32, 32), "which is 32x32"),
        ([crop(32), crop(33)], None, "1.CropImage: size: the crop 33x33 is larger"),
        ([normalise(channel_num=4)] * 2, None, "1.NormalizeImage: expected an image with 3 channels"),
        ([{"RandCropImage": {"size": 8, "scale": [0.1, 1.5]}}], None, "scale: expected shares of the area, at most 1"),
        ([resize(size=100000)], None, "size: expected at most 16384 pixels"),
        ([resize(resize_short=100000)], None, "resize_short: expected at most 16384"),
        ([{"Pad": {"padding": 100000}}], None, "padding: expected at most 16384"),
        ([normalise(std=[0.2, 0, 0.2])], None, "std: expected positive numbers"),
        ([normalise(std=[0.2, -0.2, 0.2])], None, "std: expected positive numbers"),
        ([normalise(std=[0.2, 1e-60, 0.2])], None, "std: expected positive numbers within float32"),
        ([normalise(std=[0.2, "1e60", 0.2])], None, "std: expected positive numbers within float32"),
        ([normalise(std=[0.2, float("nan"), 0.2])], None, r"std\[1\]: expected a finite number"),
        ([normalise(scale=0)], None, "scale: expected positive numbers"),
        ([normalise(scale="-1/255")], None, "scale: expected positive numbers"),
        ([normalise(scale=float("inf"))], None, "scale: expected a finite number"),
        ([normalise(scale=1e38, std=[0.1] * 3)], None, "beyond float32"),
        ([normalise(mean=[1e300, 0, 0])], None, "mean: expected numbers within float32"),
        ([normalise(mean=[10**400, 0, 0])], None, r"mean\[0\]: expected a number"),
    ],
)
def test_what_would_fail_on_an_image_is_found_without_one(chain, size, message):
    with pytest.raises(ValueError, match=message):
        build_transforms(chain, size=size)
    assert len(check_transform_ops(chain, size=size)) == 1


def test_what_depends_on_the_image_is_left_to_it():
    assert check_transform_ops([{"DecodeImage": None}, {"CropImage": {"size": 500}}]) == []
    assert str(ImageShape()) == "of any size"


def test_a_long_narrow_image_is_not_resized_to_gigabytes():
    with pytest.raises(DecodeError, match="resized from 10000x1: 160000000x16000 pixels are more than"):
        build_transforms([{"ResizeImage": {"resize_short": 16000}}])(smooth_pixels(1, 10000))


@pytest.mark.parametrize(
    "item",
    [
        {"RandAugment": {"num_layers": 10**9}},
        {"RandAugmentV3": {"num_layers": 10**9}},
        {"RandomErasing": {"attempt": 10**18}},
        {"TimmAutoAugment": {"config_str": "rand-n1000000000"}},
        {"TimmAutoAugment": {"config_str": "augmix-w1000000000"}},
        {"TimmAutoAugment": {"config_str": "augmix-d1000000000"}},
    ],
    ids=str,
)
def test_no_argument_lets_an_image_take_for_ever(item):
    (problem,) = check_transform_ops([item])
    assert "expected" in problem.message
