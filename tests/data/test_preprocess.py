"""The operators against hand-computed results, OpenCV, Pillow and each other."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
from data_helpers import encode, smooth_pixels
from PIL import Image

from ppcls_ext.data import DecodeError, TransformError, build_transforms, check_transform_ops, operator_arguments
from ppcls_ext.data.preprocess import (
    OPERATORS,
    CropImage,
    NormalizeImage,
    RandCropImage,
    RandFlipImage,
    ResizeImage,
    ToCHWImage,
)
from ppcls_ext.utils.validate import number

PIXELS = smooth_pixels(40, 60)
PNG = encode(Image.fromarray(PIXELS), "PNG")


# ---------------------------------------------------------------- ResizeImage


@pytest.mark.parametrize("name", ["nearest", "bilinear", "area", "bicubic", "lanczos"])
def test_resize_equals_opencv(name):
    flag = {"nearest": 0, "bilinear": 1, "bicubic": 2, "area": 3, "lanczos": 4}[name]
    resized = ResizeImage(size=[30, 20], interpolation=name)(PIXELS)
    np.testing.assert_array_equal(resized, cv2.resize(PIXELS, (30, 20), interpolation=flag))


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "box", "lanczos", "hamming"])
def test_resize_equals_pillow(name):
    resized = ResizeImage(size=[30, 20], interpolation=name, backend="pil")(PIXELS)
    filter_ = getattr(Image.Resampling, name.upper())
    np.testing.assert_array_equal(resized, np.asarray(Image.fromarray(PIXELS).resize((30, 20), filter_)))


@pytest.mark.parametrize(
    ("height", "width", "short", "expected"),
    [
        (40, 60, 20, (20, 30)),
        (60, 40, 20, (30, 20)),
        (40, 60, 256, (256, 384)),
        (333, 500, 256, (256, 384)),  # 384.38 rounds down
        (375, 500, 256, (256, 341)),  # 341.33
        (4, 5, 2, (2, 2)),  # 2.5: round() goes to the even number, as PaddleClas's does
        (4, 7, 2, (2, 4)),  # 3.5
        (1, 1, 8, (8, 8)),
    ],
)
def test_resize_short_rounds_like_paddleclas(height, width, short, expected):
    assert ResizeImage(resize_short=short)(np.zeros((height, width, 3), np.uint8)).shape[:2] == expected


def test_resize_size_is_width_height_and_resize_short_wins():
    assert ResizeImage(size=[30, 20])(PIXELS).shape == (20, 30, 3)
    assert ResizeImage(size=16)(PIXELS).shape == (16, 16, 3)
    assert ResizeImage(size=16, resize_short=20)(PIXELS).shape == (20, 30, 3)


def test_random_interpolation_is_bilinear_or_bicubic():
    resize = ResizeImage(size=100, interpolation="random")
    expected = {cv2.resize(PIXELS, (100, 100), interpolation=flag).tobytes() for flag in (1, 2)}
    assert {resize(PIXELS, np.random.default_rng(seed)).tobytes() for seed in range(20)} == expected


# ---------------------------------------------------------------- CropImage, RandCropImage


def test_crop_takes_the_centre_and_size_is_width_height():
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    np.testing.assert_array_equal(CropImage([3, 2])(image), image[1:3, 2:5])  # rows (5 - 2) // 2, columns (7 - 3) // 2
    np.testing.assert_array_equal(CropImage(5)(image), image[:, 1:6])


@pytest.mark.parametrize("size", [50, [61, 10], [10, 41]], ids=str)
def test_crop_larger_than_the_image_is_an_error(size):
    """Defect 35: PaddleClas returns a wrong shape without a word."""
    with pytest.raises(ValueError, match="60x40.*smaller than the crop"):
        CropImage(size)(PIXELS)


@pytest.mark.parametrize("log", [False, True], ids=["uniform", "log"])
def test_random_box_stays_inside_and_keeps_scale_and_ratio(log):
    crop = RandCropImage(224, scale=[0.2, 0.9], ratio=[0.5, 2.0], use_log_aspect=log)
    rng = np.random.default_rng(1)
    boxes = np.array([crop.box(400, 600, rng) for _ in range(4000)])
    left, top, width, height = boxes.T
    assert left.min() >= 0 and top.min() >= 0
    assert (left + width).max() <= 600 and (top + height).max() <= 400
    share, aspect = width * height / 240_000, width / height
    assert 0.19 < share.min() < 0.22 and 0.85 < share.max() <= 0.9
    assert 0.49 < aspect.min() < 0.55 and 1.9 < aspect.max() < 2.03
    # Half of the draws lie below the middle of the range: 1.25 of ratios, 1 of logarithms.
    assert abs((aspect < (1.0 if log else 1.25)).mean() - 0.5) < 0.04
    # An exact fit: every position of the smallest boxes occurs, the borders too.
    small = share < 0.25
    assert left[small].min() == 0 or top[small].min() == 0


def test_random_crop_of_the_whole_image_is_a_resize():
    crop = RandCropImage([30, 20], scale=[1.0, 1.0], ratio=[1.5, 1.5])
    np.testing.assert_array_equal(crop(PIXELS, np.random.default_rng(0)), cv2.resize(PIXELS, (30, 20)))


def test_random_crop_equals_opencv_on_its_box():
    crop = RandCropImage(24, interpolation="bicubic")
    left, top, width, height = crop.box(40, 60, np.random.default_rng(7))
    expected = cv2.resize(PIXELS[top : top + height, left : left + width], (24, 24), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(crop(PIXELS, np.random.default_rng(7)), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3)], ids=str)
def test_random_crop_of_a_tiny_image(shape):
    image = np.full((*shape, 3), 9, np.uint8)
    for seed in range(50):
        assert (RandCropImage(8)(image, np.random.default_rng(seed)) == 9).all()


# ---------------------------------------------------------------- RandFlipImage, NormalizeImage, ToCHWImage


@pytest.mark.parametrize("code", [1, 0, -1])
def test_flip_mirrors_half_of_the_images(code):
    flip = RandFlipImage(code)
    results = [flip(PIXELS, np.random.default_rng(seed)) for seed in range(400)]
    mirrored = cv2.flip(PIXELS, code)
    flipped = [np.array_equal(result, mirrored) for result in results]
    assert all(np.array_equal(result, PIXELS) for result, done in zip(results, flipped) if not done)
    assert abs(np.mean(flipped) - 0.5) < 0.08


def test_normalize_by_hand():
    image = np.full((2, 2, 3), [255, 0, 51], np.uint8)
    normalised = NormalizeImage(scale="1.0/255.0", mean=[0.5, 0.25, 0.1], std=["5e-1", 0.25, 2], order="")(image)
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised[1, 1], [1.0, -1.0, 0.05], atol=1e-6)
    by_channel = NormalizeImage(mean=[0.5, 0.25, 0.1], std=[0.5, 0.25, 2])(image.transpose(2, 0, 1))
    np.testing.assert_array_equal(by_channel, normalised.transpose(2, 0, 1))


def test_normalize_defaults_are_imagenets():
    image = np.full((1, 1, 3), 128, np.uint8)
    expected = [(128 / 255 - mean) / std for mean, std in [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]]
    np.testing.assert_allclose(NormalizeImage(order="hwc")(image)[0, 0], expected, rtol=1e-6)


@pytest.mark.compat
@pytest.mark.parametrize("order", ["hwc", "chw"])
@pytest.mark.parametrize("shape", [(40, 60), (1, 1), (1, 7), (7, 1)])
def test_normalize_of_bytes_equals_the_formula_bit_for_bit(shape, order):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)[:, ::-1]
    image = image.transpose(2, 0, 1) if order == "chw" else image
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    axes = (3, 1, 1) if order == "chw" else (1, 1, 3)
    expected = image.astype("float32") * np.float32(1 / 255) - np.array(mean, "float32").reshape(axes)
    expected = expected / np.array(std, "float32").reshape(axes)
    normalised = NormalizeImage(scale="1.0/255.0", mean=mean, std=std, order=order)(image)
    assert normalised.dtype == np.float32
    np.testing.assert_array_equal(normalised, expected)


def test_normalize_appends_a_channel_of_zeros():
    normalised = NormalizeImage(order="", channel_num=4)(PIXELS)
    assert normalised.shape == (40, 60, 4) and normalised.dtype == np.float32
    assert not normalised[:, :, 3].any()


def test_to_chw():
    assert ToCHWImage()(PIXELS).shape == (3, 40, 60)
    np.testing.assert_array_equal(ToCHWImage()(PIXELS)[1], PIXELS[:, :, 1])


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.0/255.0", 1 / 255), ("1e-3", 0.001), (" 1 / 4 ", 0.25), (2, 2.0), ("3", 3.0), (0.5, 0.5), ("-1/2", -0.5)],
)
def test_numbers_and_fractions(text, value):
    assert number(text, "scale") == pytest.approx(value)


@pytest.mark.parametrize("text", ["__import__('os').getcwd()", "1/0", "1/2/3", "", "nan", "inf", "2**3", "a/b"])
def test_what_is_no_number_is_refused_and_never_evaluated(text):
    with pytest.raises(ValueError, match="scale: expected a"):
        NormalizeImage(scale=text)


# ---------------------------------------------------------------- operators leave their input alone


@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "DecodeImage"])
def test_operator_does_not_change_its_input(name):
    arguments = {
        "ResizeImage": {"size": 20},
        "CropImage": {"size": 20},
        "RandCropImage": {"size": 20},
        "NormalizeImage": {"order": ""},
        "RandomErasing": {"EPSILON": 1},
        "RandomRotation": {"degrees": [9, 9], "prob": 1},
        "ColorJitter": {"brightness": 0.4, "hue": 0.1},
        "Pad": {"padding": 2},
    }
    image = PIXELS.copy()
    OPERATORS[name](**arguments.get(name, {}))(image, np.random.default_rng(0))
    np.testing.assert_array_equal(image, PIXELS)


# ---------------------------------------------------------------- the chain

OPS = [
    {"DecodeImage": {"to_rgb": True, "channel_first": False}},
    {"ResizeImage": {"resize_short": 32}},
    {"CropImage": {"size": 28}},
    {"NormalizeImage": {"scale": "1.0/255.0", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "order": ""}},
    {"ToCHWImage": None},
]


def test_chain_equals_its_steps_by_hand():
    transforms = build_transforms(OPS)
    resized = cv2.resize(PIXELS, (48, 32))
    expected = (resized[2:30, 10:38].astype(np.float32) / 255 - 0.5) / 0.5
    np.testing.assert_allclose(transforms(PNG), expected.transpose(2, 0, 1), atol=1e-6)
    np.testing.assert_array_equal(transforms(PIXELS[:, :, ::-1]), transforms(PNG))
    assert transforms.layout == "CHW" and build_transforms(OPS[:-1]).layout == "HWC"


def test_chain_can_be_pickled():
    """Worker processes are spawned on Windows and macOS."""
    crop = {"RandCropImage": {"size": 20, "backend": "pil", "interpolation": "random"}}
    changes = [{"ColorJitter": {"hue": 0.1}}, {"AutoAugment": None}, {"RandAugment": None}, {"TimmAutoAugment": None}]
    mix = [{"TimmAutoAugment": {"config_str": "augmix-m3"}}, {"TimmAutoAugment": {"config_str": "v0-mstd0.5"}}]
    ops = [OPS[0], crop, *changes, *mix, OPS[3], {"RandomErasing": {"EPSILON": 1, "mode": "pixel"}}, OPS[4]]
    transforms = build_transforms(ops)
    again = pickle.loads(pickle.dumps(transforms))  # noqa: S301 - our own bytes
    draws = [chain(PNG, np.random.default_rng(5)) for chain in (transforms, again)]
    np.testing.assert_array_equal(*draws)


def test_failing_operator_is_named_with_its_traceback():
    with pytest.raises(TransformError, match=r"operator 1 \(CropImage\).*smaller than the crop") as caught:
        build_transforms([OPS[0], {"CropImage": {"size": 100}}])(PNG)
    assert "Traceback" in str(caught.value) and isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(DecodeError):
        build_transforms(OPS)(b"nonsense")


# ---------------------------------------------------------------- checks before any data is read


@pytest.mark.parametrize(
    ("ops", "key", "message"),
    [
        ([{"ResizeImge": {"size": 3}}], "0.ResizeImge", "did you mean 'ResizeImage'"),
        ([{"RandAugmentV2": {"num_layers": 2}}], "0.RandAugmentV2", "does not support"),
        ([{"ResizeImage": {"sice": 3}}], "0.ResizeImage.sice", "did you mean 'size'"),
        ([{"ToCHWImage": {"zzz": 3}}], "0.ToCHWImage.zzz", "takes no argument"),
        ([{"CropImage": None}], "0.CropImage.size", "needs the argument 'size'"),
        ([{"ResizeImage": None}], "0.ResizeImage", "size or resize_short"),
        ([{"ResizeImage": {"size": 3, "interpolation": "bicubik"}}], "0.ResizeImage", "did you mean 'bicubic'"),
        ([{"ResizeImage": {"size": 3, "interpolation": "box"}}], "0.ResizeImage", "interpolation"),
        ([{"ResizeImage": {"size": 3, "backend": "cv3"}}], "0.ResizeImage", "did you mean 'cv2'"),
        ([{"ResizeImage": {"size": [3, 4, 5]}}], "0.ResizeImage", "size"),
        ([{"ResizeImage": {"size": "3"}}], "0.ResizeImage", "positive integer"),
        ([{"ResizeImage": {"resize_short": 0}}], "0.ResizeImage", "resize_short"),
        ([{"DecodeImage": {"to_rgb": "yes"}}], "0.DecodeImage", "to_rgb"),
        ([{"RandCropImage": {"size": 8, "scale": [1.0, 0.1]}}], "0.RandCropImage", "low <= high"),
        ([{"RandCropImage": {"size": 8, "progress_size": [8]}}], "0.RandCropImage", "progress_size"),
        ([{"RandFlipImage": {"flip_code": 2}}], "0.RandFlipImage", "flip_code"),
        ([{"NormalizeImage": {"order": "", "std": [1, 0, 1]}}], "0.NormalizeImage", "std"),
        ([{"NormalizeImage": {"order": "", "output_fp16": True}}], "0.NormalizeImage", "output_fp16"),
        ([{"NormalizeImage": {"scale": 1}}], "0.NormalizeImage", "write order: ''"),
        ([{"ToCHWImage": None}, {"NormalizeImage": {"order": ""}}], "1.NormalizeImage", "write order: 'chw'"),
        ([{"ToCHWImage": None}, {"CropImage": {"size": 8}}], "1.CropImage", "before ToCHWImage"),
        ([{"DecodeImage": {"channel_first": True}}, {"ResizeImage": {"size": 8}}], "1.ResizeImage", "channel_first"),
        (["CropImage"], "0", "expected one"),
        ([{"CropImage": {"size": 8}, "ToCHWImage": None}], "0", "expected one"),
        ([{"CropImage": 8}], "0.CropImage", "mapping"),
        ({"CropImage": {"size": 8}}, "", "list"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_mistakes_are_found_before_any_data(ops, key, message):
    problems = check_transform_ops(ops)
    assert [problem.key for problem in problems] == [key]
    assert message in problems[0].message
    with pytest.raises(ValueError, match="transform_ops"):
        build_transforms(ops)


def test_all_mistakes_are_listed_at_once():
    ops = [{"DecodeImage": {"to_rbg": True}}, {"Resize": {"size": 3}}, {"CropImage": {"size": -1}}]
    assert [problem.key for problem in check_transform_ops(ops)] == [
        "0.DecodeImage.to_rbg",
        "1.Resize",
        "2.CropImage",
    ]


def test_dataset_chain_begins_with_decoding():
    assert check_transform_ops(OPS, from_bytes=True) == []
    assert check_transform_ops(OPS[1:]) == []
    assert "DecodeImage" in check_transform_ops(OPS[1:], from_bytes=True)[0].message
    assert "DecodeImage" in check_transform_ops(None, from_bytes=True)[0].message


def test_arguments_are_listed_with_defaults():
    arguments = operator_arguments("ResizeImage")
    assert list(arguments) == ["size", "resize_short", "interpolation", "backend", "return_numpy"]
    assert arguments["backend"].default == "cv2"
    assert operator_arguments("ToCHWImage") == {}
    with pytest.raises(KeyError, match="CropImage"):
        operator_arguments("CropImages")
