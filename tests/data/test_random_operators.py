"""RandomErasing, ColorJitter, RandomRotation, Pad and RandCropImage: distributions, and results by other means."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from data_helpers import smooth_pixels
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from ppcls_ext.data.preprocess import (
    ColorJitter,
    Pad,
    PCALighting,
    RandCropImage,
    RandomErasing,
    RandomRotation,
    check_transform_ops,
)

PIXELS = smooth_pixels(20, 30)
PICTURE = Image.fromarray(PIXELS)


# ---------------------------------------------------------------- RandCropImage


@pytest.mark.parametrize("log", [False, True], ids=["uniform", "log"])
def test_crop_area_and_aspect_follow_their_distributions(log):
    """A square image, so that every box of an area up to 3/4 fits whatever its aspect, and the draws are plain."""
    crop = RandCropImage(8, scale=[0.08, 0.7], use_log_aspect=log)
    rng = np.random.default_rng(0)
    boxes = np.array([crop.box(4000, 4000, rng) for _ in range(3000)], float)
    share, aspect = boxes[:, 2] * boxes[:, 3] / 4000**2, boxes[:, 2] / boxes[:, 3]
    assert stats.kstest(share, stats.uniform(0.08, 0.62).cdf).pvalue > 1e-3
    wanted = stats.loguniform(3 / 4, 4 / 3) if log else stats.uniform(3 / 4, 4 / 3 - 3 / 4)
    assert stats.kstest(aspect, wanted.cdf).pvalue > 1e-3
    other = stats.uniform(3 / 4, 4 / 3 - 3 / 4) if log else stats.loguniform(3 / 4, 4 / 3)
    assert stats.kstest(aspect, other.cdf).pvalue < 1e-3
    left = boxes[:, 0] / (4000 - boxes[:, 2])
    assert stats.kstest(left, "uniform").pvalue > 1e-3


# ---------------------------------------------------------------- RandomErasing

RECIPE = {
    "EPSILON": 0.25,
    "sl": 0.02,
    "sh": "1.0/3.0",
    "r1": 0.3,
    "attempt": 10,
    "use_log_aspect": True,
    "mode": "pixel",
}


@pytest.mark.parametrize("log", [False, True], ids=["uniform", "log"])
def test_erased_area_and_aspect_follow_their_distributions(log):
    """Shares up to 0.25 fit a square whatever their ratio from 0.3 to 1 / 0.3, so nothing is drawn again."""
    erase = RandomErasing(sl=0.02, sh=0.25, use_log_aspect=log)
    rng = np.random.default_rng(0)
    boxes = np.array([erase.box(4000, 4000, rng) for _ in range(3000)], float)
    share, ratio = boxes[:, 2] * boxes[:, 3] / 4000**2, boxes[:, 3] / boxes[:, 2]
    assert stats.kstest(share, stats.uniform(0.02, 0.23).cdf).pvalue > 1e-3
    wanted = stats.loguniform(0.3, 1 / 0.3) if log else stats.uniform(0.3, 1 / 0.3 - 0.3)
    assert stats.kstest(ratio, wanted.cdf).pvalue > 1e-3
    assert stats.kstest(boxes[:, 1] / (4000 - boxes[:, 3]), "uniform").pvalue > 1e-3


def test_recipe_erases_a_quarter_of_the_images_within_its_limits():
    erase = RandomErasing(**RECIPE)
    image = np.full((56, 56, 3), 7, np.float32)
    areas = [(erase(image, np.random.default_rng(seed)) != 7).all(axis=2).mean() for seed in range(3000)]
    erased = [area for area in areas if area]
    assert len(erased) / len(areas) == pytest.approx(0.25, abs=0.03)
    assert 0.015 < min(erased) and max(erased) < 1 / 3 + 0.01
    assert np.all(image == 7)


@pytest.mark.compat
def test_modes_of_erasing():
    image = np.full((40, 50, 3), 7, np.float32)

    def erased(mode, seeds, **arguments):
        for seed in seeds:
            result = RandomErasing(EPSILON=1, mode=mode, **arguments)(image, np.random.default_rng(seed))
            rows, columns = np.nonzero((result != 7).all(axis=2))
            box = result[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert len(rows) == box.shape[0] * box.shape[1]  # one full rectangle
            yield box.reshape(-1, 3)

    noise = np.concatenate(list(erased("pixel", range(20))))
    assert stats.kstest(noise[:, 1], "norm").pvalue > 1e-3
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.05
    colours = np.array([box[0] for box in erased("rand", range(400)) if len(np.unique(box, axis=0)) == 1])
    assert len(colours) == 400 and stats.kstest(colours.ravel(), "norm").pvalue > 1e-3
    for box in erased("const", range(20), mean=[0.5, -1, 0]):
        np.testing.assert_array_equal(np.unique(box, axis=0), np.array([[0.5, -1, 0]], np.float32))


def test_erasing_what_does_not_fit_leaves_the_image():
    image = np.ones((1, 30, 3), np.float32)
    np.testing.assert_array_equal(RandomErasing(EPSILON=1, sl=0.3)(image, np.random.default_rng(0)), image)
    four = np.ones((20, 20, 4), np.float32)
    assert (RandomErasing(EPSILON=1)(four, np.random.default_rng(0))[:, :, 3] == 1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"EPSILON": 1.5}, "EPSILON"),
        ({"sl": 0.5}, "low <= high"),
        ({"sh": 1.5}, "sh"),
        ({"r1": 0}, "r1"),
        ({"attempt": 0}, "attempt"),
        ({"mode": "pixels"}, "did you mean 'pixel'"),
        ({"mean": [0, 0]}, "mean"),
        ({"mode": "pixel"}, "put NormalizeImage before RandomErasing"),
        ({"sh": "__import__('os')"}, "expected a number"),
    ],
    ids=str,
)
def test_mistakes_of_erasing(arguments, message):
    (problem,) = check_transform_ops([{"RandomErasing": arguments}])
    assert message in problem.message


def test_recipe_of_erasing_is_accepted_after_normalising():
    assert check_transform_ops([{"NormalizeImage": {"order": ""}}, {"RandomErasing": RECIPE}]) == []


# ---------------------------------------------------------------- PCALighting


def test_lighting_shifts_all_pixels_alike_along_the_principal_components():
    """Krizhevsky et al., section 4.1: channel i shifts by the sum over j of vector[i][j] · alpha[j] · value[j]."""
    values = [0.2175, 0.0188, 0.0045]
    vectors = [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    image = (PIXELS / 255).astype(np.float32)
    rng = np.random.default_rng(0)
    shifts = []
    for _ in range(4000):
        changed = PCALighting()(image, rng) - image
        assert np.ptp(changed, axis=(0, 1)).max() < 1e-6
        shifts.append(changed[0, 0])
    expected = np.zeros((3, 3))
    for row in range(3):
        for column in range(3):
            expected[row, column] = sum(vectors[row][j] * vectors[column][j] * (0.1 * values[j]) ** 2 for j in range(3))
    np.testing.assert_allclose(np.cov(np.array(shifts).T), expected, rtol=0.1, atol=2e-6)
    assert np.abs(np.mean(shifts, axis=0)).max() < 1e-3


def test_lighting_before_the_normalisation_is_refused():
    lighting = [{"DecodeImage": None}, {"PCALighting": None}, {"NormalizeImage": {"order": ""}}]
    (problem,) = check_transform_ops(lighting, from_bytes=True)
    assert str(problem).endswith("draws in units of a normalised image; put NormalizeImage before PCALighting")
    scaled = {"NormalizeImage": {"scale": "1.0/255.0", "mean": [0, 0, 0], "std": [1, 1, 1], "order": ""}}
    rest = {"NormalizeImage": {"scale": 1.0, "order": ""}}
    assert check_transform_ops([lighting[0], scaled, lighting[1], rest], from_bytes=True) == []


# ---------------------------------------------------------------- ColorJitter


@pytest.mark.parametrize(
    ("name", "enhancer"),
    [("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast), ("saturation", ImageEnhance.Color)],
)
def test_jitter_equals_pillow(name, enhancer):
    for factor in (0.6, 1.4):
        jitter = ColorJitter(**{name: [factor, factor]})
        np.testing.assert_array_equal(jitter(PIXELS), np.asarray(enhancer(PICTURE).enhance(factor)))


@pytest.mark.compat
@pytest.mark.parametrize("share", [-0.5, -0.1, 0.2, 0.5])
def test_hue_equals_paddles(share):
    from paddle.vision.transforms import functional

    expected = functional.adjust_hue(PICTURE, share)
    np.testing.assert_array_equal(ColorJitter(hue=[share, share])(PIXELS), np.asarray(expected))


def test_jitter_draws_factors_and_orders():
    """A constant image under brightness and contrast alone: the result tells the factor."""
    image = np.full((2, 2, 3), 100, np.uint8)
    values = np.array([ColorJitter(brightness=0.4)(image, np.random.default_rng(i))[0, 0, 0] for i in range(1500)])
    assert stats.kstest(values + np.random.default_rng(0).random(1500), stats.uniform(60, 80).cdf).pvalue > 1e-3
    both = ColorJitter(brightness=[1.5, 1.5], contrast=[0.3, 0.3])
    results = {both(PIXELS, np.random.default_rng(i)).tobytes() for i in range(30)}
    brighter = ImageEnhance.Brightness(PICTURE).enhance(1.5)
    flatter = ImageEnhance.Contrast(PICTURE).enhance(0.3)
    orders = (ImageEnhance.Contrast(brighter).enhance(0.3), ImageEnhance.Brightness(flatter).enhance(1.5))
    assert results == {np.asarray(each).tobytes() for each in orders}


def test_jitter_probability():
    changed = [(ColorJitter(0.3, 0.4)(PIXELS, np.random.default_rng(i)) != PIXELS).any() for i in range(1000)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.05)
    np.testing.assert_array_equal(ColorJitter()(PIXELS), PIXELS)


# ---------------------------------------------------------------- RandomRotation, Pad


@pytest.mark.compat
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("expand", [False, True], ids=["same_size", "expand"])
def test_rotation_equals_paddles(interpolation, expand):
    from paddle.vision.transforms import functional

    for angle in (-200, -45, 10, 90):
        rotation = RandomRotation([angle, angle], prob=1, interpolation=interpolation, expand=expand, fill=[9, 8, 7])
        expected = functional.rotate(PIXELS, angle, interpolation, expand, None, (9, 8, 7))
        np.testing.assert_array_equal(rotation(PIXELS), expected)


def test_rotation_draws_angles_about_a_centre():
    image = np.zeros((101, 101, 3), np.uint8)
    image[50, 80:] = 255
    rotation = RandomRotation(30, prob=1, interpolation="bilinear", center=[50, 50])
    angles = []
    for seed in range(800):
        rows, columns = np.nonzero(rotation(image, np.random.default_rng(seed))[:, :, 0] > 60)
        angles.append(np.degrees(np.arctan2(50 - rows.mean(), columns.mean() - 50)))
    assert stats.kstest(angles, stats.uniform(-30, 60).cdf).pvalue > 1e-3
    turned = [(RandomRotation([20, 30])(PIXELS, np.random.default_rng(i)) != PIXELS).any() for i in range(800)]
    assert np.mean(turned) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("backend", ["pil", "cv2"])
def test_pad_equals_pillow(backend):
    for padding in (3, [1, 2], [1, 2, 3, 4]):
        border = padding if isinstance(padding, int) else tuple(padding)
        expected = np.asarray(ImageOps.expand(PICTURE, border, fill=(1, 2, 3)))
        np.testing.assert_array_equal(Pad(padding, fill=[1, 2, 3], backend=backend)(PIXELS), expected)
    np.testing.assert_array_equal(Pad(2, 9)(PIXELS), cv2.copyMakeBorder(PIXELS, 2, 2, 2, 2, 0, value=(9, 9, 9)))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("ColorJitter", {"brightness": -1}, "brightness"),
        ("ColorJitter", {"contrast": [2, 1]}, "contrast"),
        ("ColorJitter", {"hue": 0.6}, "hue"),
        ("ColorJitter", {"prob": -1}, "prob"),
        ("RandomRotation", {"degrees": -5}, "degrees"),
        ("RandomRotation", {"degrees": 5, "prob": 2}, "prob"),
        ("RandomRotation", {"degrees": 5, "interpolation": "lanczos"}, "interpolation"),
        ("RandomRotation", {"degrees": 5, "expand": True, "center": [1, 1]}, "center"),
        ("Pad", {"padding": -1}, "padding"),
        ("Pad", {"padding": [1, 2, 3]}, "padding"),
        ("Pad", {"padding": 1, "padding_mode": "reflect"}, "padding_mode"),
        ("Pad", {"padding": 1, "fill": "red"}, "fill"),
    ],
    ids=str,
)
def test_mistakes(name, arguments, message):
    (problem,) = check_transform_ops([{name: arguments}])
    assert problem.message.startswith(f"{message}: expected")
