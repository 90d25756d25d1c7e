"""RandAugment, AutoAugment and TimmAutoAugment against plain Pillow expressions and the distributions they state."""

from __future__ import annotations

import numpy as np
import pytest
from data_helpers import smooth_pixels
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from ppcls_ext.data.preprocess import AutoAugment, RandAugment, RandAugmentV3, TimmAutoAugment, check_transform_ops
from ppcls_ext.data.preprocess.auto_augment import IMAGENET_POLICY
from ppcls_ext.data.preprocess.timm_policies import AUTO_POLICIES, RAND_INCREASING_OPERATIONS, RAND_OPERATIONS

PIXELS = smooth_pixels(20, 30)
PICTURE = Image.fromarray(PIXELS)
GREY = (128, 128, 128)
IMAGENET_GREY = (124, 116, 104)  # 255 * (0.485, 0.456, 0.406)
NEAREST, BILINEAR, BICUBIC = Image.NEAREST, Image.BILINEAR, Image.BICUBIC


def affine(matrix, resample, fill):
    return PICTURE.transform((30, 20), Image.AFFINE, matrix, resample, fillcolor=fill)


def add_below_128(addend):
    return Image.fromarray(
        np.where(PIXELS < 128, np.minimum(PIXELS.astype(int) + addend, 255), PIXELS).astype(np.uint8)
    )


def of_randaugment(m):
    """What RandAugment's operations make of PICTURE at magnitude m, by name: every sign."""
    return {
        "shearX": [affine((1, s * 0.3 * m / 10, 0, 0, 1, 0), BICUBIC, GREY) for s in (1, -1)],
        "shearY": [affine((1, 0, 0, s * 0.3 * m / 10, 1, 0), BICUBIC, GREY) for s in (1, -1)],
        "translateX": [affine((1, 0, s * 150 / 331 * m / 10 * 30, 0, 1, 0), NEAREST, GREY) for s in (1, -1)],
        "translateY": [affine((1, 0, 0, 0, 1, s * 150 / 331 * m / 10 * 20), NEAREST, GREY) for s in (1, -1)],
        "rotate": [PICTURE.rotate(3 * m, fillcolor=GREY)],
        "color": [ImageEnhance.Color(PICTURE).enhance(1 + s * 0.09 * m) for s in (1, -1)],
        "posterize": [ImageOps.posterize(PICTURE, int(0.4 * m))],
        "solarize": [ImageOps.solarize(PICTURE, 25.6 * m)],
        "contrast": [ImageEnhance.Contrast(PICTURE).enhance(1 + s * 0.09 * m) for s in (1, -1)],
        "sharpness": [ImageEnhance.Sharpness(PICTURE).enhance(1 + s * 0.09 * m) for s in (1, -1)],
        "brightness": [ImageEnhance.Brightness(PICTURE).enhance(1 + s * 0.09 * m) for s in (1, -1)],
        "autocontrast": [ImageOps.autocontrast(PICTURE)],
        "equalize": [ImageOps.equalize(PICTURE)],
        "invert": [ImageOps.invert(PICTURE)],
    }


def of_timm(m, increasing, resample=BICUBIC, fill=IMAGENET_GREY):
    """The same for timm's RandAugment."""
    enhancers = {"Color": ImageEnhance.Color, "Contrast": ImageEnhance.Contrast}
    enhancers.update(Brightness=ImageEnhance.Brightness, Sharpness=ImageEnhance.Sharpness)
    factors = [1 + 0.09 * m, 1 - 0.09 * m] if increasing else [0.1 + 0.18 * m]
    suffix = "Increasing" if increasing else ""
    bits, threshold = int(0.4 * m), int(25.6 * m)
    return {
        "AutoContrast": [ImageOps.autocontrast(PICTURE)],
        "Equalize": [ImageOps.equalize(PICTURE)],
        "Invert": [ImageOps.invert(PICTURE)],
        "Rotate": [PICTURE.rotate(s * (m / 10) * 30, resample, fillcolor=fill) for s in (1, -1)],
        "Posterize" + suffix: [ImageOps.posterize(PICTURE, 4 - bits if increasing else bits)],
        "Solarize" + suffix: [ImageOps.solarize(PICTURE, 256 - threshold if increasing else threshold)],
        "SolarizeAdd": [add_below_128(11 * m)],
        "ShearX": [affine((1, s * (m / 10) * 0.3, 0, 0, 1, 0), resample, fill) for s in (1, -1)],
        "ShearY": [affine((1, 0, 0, s * (m / 10) * 0.3, 1, 0), resample, fill) for s in (1, -1)],
        "TranslateXRel": [affine((1, 0, s * (m / 10) * 0.45 * 30, 0, 1, 0), resample, fill) for s in (1, -1)],
        "TranslateYRel": [affine((1, 0, 0, 0, 1, s * (m / 10) * 0.45 * 20), resample, fill) for s in (1, -1)],
        **{name + suffix: [kind(PICTURE).enhance(f) for f in factors] for name, kind in enhancers.items()},
    }


def results(operator, count):
    return [operator(PIXELS, np.random.default_rng(seed)).tobytes() for seed in range(count)]


def owners(expected):
    """Map each expected image to the operations that give it."""
    table: dict = {}
    for name, pictures in expected.items():
        for picture in pictures:
            table.setdefault(np.asarray(picture).tobytes(), set()).add(name)
    return table


# ---------------------------------------------------------------- RandAugment


@pytest.mark.compat
@pytest.mark.parametrize("magnitude", [3, 5, 9])
def test_every_operation_of_randaugment_equals_pillow(magnitude):
    table = owners(of_randaugment(magnitude))
    seen = results(RandAugment(num_layers=1, magnitude=magnitude), 600)
    assert set(seen) == set(table)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("magnitude", [3, 7])
def test_every_operation_of_randaugment_v3_equals_pillow(magnitude, interpolation):
    """MobileViTv2's: stronger posterising and solarising with the magnitude, rotation either way, one filter."""
    resample, m, black = Image.Resampling[interpolation.upper()], magnitude, (0, 0, 0)
    expected = {
        **of_randaugment(m),
        "shearX": [affine((1, s * 0.03 * m, 0, 0, 1, 0), resample, black) for s in (1, -1)],
        "shearY": [affine((1, 0, 0, s * 0.03 * m, 1, 0), resample, black) for s in (1, -1)],
        "translateX": [affine((1, 0, s * 150 / 331 * m / 10 * 30, 0, 1, 0), resample, black) for s in (1, -1)],
        "translateY": [affine((1, 0, 0, 0, 1, s * 150 / 331 * m / 10 * 20), resample, black) for s in (1, -1)],
        "rotate": [PICTURE.rotate(s * 3 * m, resample, fillcolor=black) for s in (1, -1)],
        "posterize": [ImageOps.posterize(PICTURE, 8 - int(0.4 * m))],
        "solarize": [ImageOps.solarize(PICTURE, 255 * (1 - m / 10))],
    }
    seen = results(RandAugmentV3(num_layers=1, magnitude=magnitude, interpolation=interpolation), 600)
    assert set(seen) == set(owners(expected))


def test_posterising_to_no_bits_is_black():
    """PaddleClas fails here with a new Pillow; with an old one the image was black."""
    assert bytes(PIXELS.size) in results(RandAugment(1, 2), 200)


def test_randaugment_draws_its_operations_evenly():
    expected = of_randaugment(5)
    table = owners(expected)
    assert all(len(names) == 1 for names in table.values())
    counts = dict.fromkeys(expected, 0)
    for image in results(RandAugment(1, 5), 2800):
        counts[next(iter(table[image]))] += 1
    assert len(counts) == 14
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_randaugment_applies_its_layers_one_after_another():
    twice = {
        np.asarray(second).tobytes()
        for first in (ImageOps.invert(PICTURE), ImageOps.equalize(PICTURE))
        for second in (ImageOps.invert(first), ImageOps.equalize(first))
    }
    assert twice <= set(results(RandAugment(2, 5), 3000))


# ---------------------------------------------------------------- AutoAugment


def test_autoaugment_gives_nothing_but_its_subpolicies():
    """Values by hand: index i of 0 to 9 is the i-th of ten even steps."""

    def change(picture, name, index):
        signs = {"color": ImageEnhance.Color, "contrast": ImageEnhance.Contrast, "sharpness": ImageEnhance.Sharpness}
        if name in signs:
            return [signs[name](picture).enhance(1 + s * 0.1 * index) for s in (1, -1)]
        if name == "shearX":
            matrices = [(1, s * 0.3 * index / 9, 0, 0, 1, 0) for s in (1, -1)]
            return [picture.transform((30, 20), Image.AFFINE, m, BICUBIC, fillcolor=GREY) for m in matrices]
        return [
            {
                "posterize": lambda: ImageOps.posterize(picture, [8, 8, 7, 7, 6, 6, 5, 5, 4, 4][index]),
                "rotate": lambda: picture.rotate(30 * index / 9, fillcolor=GREY),
                "solarize": lambda: ImageOps.solarize(picture, 256 - 256 * index / 9),
                "autocontrast": lambda: ImageOps.autocontrast(picture),
                "equalize": lambda: ImageOps.equalize(picture),
                "invert": lambda: ImageOps.invert(picture),
            }[name]()
        ]

    possible = set()
    for (first, p, i), (second, q, j) in IMAGENET_POLICY:
        pictures = (change(PICTURE, first, i) if p > 0 else []) + ([PICTURE] if p < 1 else [])
        for picture in pictures:
            changed = change(picture, second, j) + ([picture] if q < 1 else [])
            possible.update(np.asarray(each).tobytes() for each in changed)
    seen = set(results(AutoAugment(), 2500))
    assert seen <= possible and len(seen) > 0.6 * len(possible)


def test_the_published_policy_has_25_subpolicies():
    """How often each operation occurs, counted by hand."""
    assert [len(pair) for pair in IMAGENET_POLICY] == [2] * 25
    flat = [entry for pair in IMAGENET_POLICY for entry in pair]
    names = [name for name, _, _ in flat]
    assert {name: names.count(name) for name in set(names)} == {
        "equalize": 17, "solarize": 7, "posterize": 5, "rotate": 6, "color": 6, "autocontrast": 2, "invert": 3,
        "contrast": 2, "sharpness": 1, "shearX": 1,
    }  # fmt: skip
    assert AUTO_POLICIES["original"][0] == (("PosterizeOriginal", 0.4, 8), ("Rotate", 0.6, 9))


# ---------------------------------------------------------------- TimmAutoAugment


@pytest.mark.compat
@pytest.mark.parametrize("increasing", [True, False], ids=["inc1", "inc0"])
@pytest.mark.parametrize("magnitude", [4, 9])
def test_every_operation_of_timm_equals_pillow(magnitude, increasing):
    """Defect 34: inc0 means what it says."""
    expected = of_timm(magnitude, increasing)
    assert sorted(expected) == sorted(RAND_INCREASING_OPERATIONS if increasing else RAND_OPERATIONS)
    operator = TimmAutoAugment(config_str=f"rand-m{magnitude}-n1-p1-inc{int(increasing)}")
    assert set(results(operator, 700)) == set(owners(expected))


def test_interpolation_and_fill_of_timm():
    operator = TimmAutoAugment(config_str="rand-m9-n1-p1", interpolation="random", mean=[0, 0.5, 1])
    seen = set(results(operator, 2500))
    for resample in (BILINEAR, BICUBIC):
        assert set(owners(of_timm(9, False, resample, (0, 128, 255)))) <= seen


def test_probabilities_of_timm():
    """p for each operation (0.5 by default), prob for the image; equal images come from unchanged ones alone here."""

    def unchanged(count=2000, **arguments):
        return np.mean([image == PIXELS.tobytes() for image in results(TimmAutoAugment(**arguments), count)])

    assert unchanged(config_str="rand-m4-n1-inc1") == pytest.approx(0.5, abs=0.04)
    assert unchanged(config_str="rand-m4-n2-p0.8-inc1") == pytest.approx(0.04, abs=0.02)
    assert unchanged(config_str="rand-m4-n1-p1-inc1", prob=0.3) == pytest.approx(0.7, abs=0.04)


def magnitudes(text, count=4000):
    style = TimmAutoAugment(config_str=text).policy.style
    rng = np.random.default_rng(1)
    return np.array(
        [style.draw_magnitude(TimmAutoAugment(config_str=text).policy.magnitude, rng) for _ in range(count)]
    )


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("rand-m9-mstd0.5-inc1", stats.norm(9, 0.5)),
        ("rand-m5-mstd2", stats.norm(5, 2)),
        ("rand-m11-mstd2", stats.norm(11, 2)),
        ("rand-m8-mstdinf", stats.uniform(0, 8)),
        ("rand-m8-mstd101", stats.uniform(0, 8)),
    ],
)
def test_magnitudes_of_timm(text, distribution):
    drawn = magnitudes(text)
    assert drawn.min() >= 0 and drawn.max() <= 10
    # Clipping gathers what lies above 10 at 10; below, the distribution is that of the draw.
    assert (drawn == 10).mean() == pytest.approx(distribution.sf(10), abs=0.008)
    inside = drawn[(drawn > 0) & (drawn < 10)]
    low, high = distribution.cdf([0, 10])
    assert stats.kstest(inside, lambda x: (distribution.cdf(x) - low) / (high - low)).pvalue > 1e-3


def test_without_deviation_the_magnitude_is_fixed():
    assert set(magnitudes("rand-m7", 50)) == {7.0}


def test_weighted_choice_of_timm():
    """w0: without repetition, Posterize and Invert never, Rotate three times as often as a shift, for one operation."""
    operator = TimmAutoAugment(config_str="rand-m9-n1-p1-w0")
    table = owners(of_timm(9, False))
    found = [table[image] for image in results(operator, 3000)]
    share = {name: np.mean([name in names for names in found]) for name in RAND_OPERATIONS}
    assert share["Invert"] == share["Posterize"] == 0
    assert share["Rotate"] == pytest.approx(0.3, abs=0.03)
    assert share["ShearX"] == pytest.approx(0.2, abs=0.03)
    assert share["TranslateYRel"] == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("name", ["original", "originalr", "v0", "v0r"])
def test_autoaugment_of_timm(name):
    assert len(AUTO_POLICIES[name]) == 25
    seen = set(results(TimmAutoAugment(config_str=f"{name}-mstd0.5"), 300))
    assert len(seen) > 100
    # Sub-policy 14 of "original", 2 of 25 draws: Invert (0.6), then Equalize always.
    expected = {np.asarray(ImageOps.equalize(each)).tobytes() for each in (PICTURE, ImageOps.invert(PICTURE))}
    assert not name.startswith("original") or expected <= seen


def test_augmix_blends_its_chains():
    """With one chain of one operation an AugMix image lies on the line between the image and what that operation
    gives (Pillow cuts off fractions, so up to 1 beside it, and the fitted share errs too). Only the operations that no
    random value takes part in are looked at."""
    operator = TimmAutoAugment(config_str="augmix-m3-w1-d1")
    ends = [np.asarray(change(PICTURE), float) for change in (ImageOps.equalize, ImageOps.autocontrast)]
    shares: list = [[], []]
    for seed in range(1500):
        mixed = operator(PIXELS, np.random.default_rng(seed)).astype(float)
        for end, found in zip(ends, shares):
            step = end - PIXELS
            share = (step * (mixed - PIXELS)).sum() / (step**2).sum()
            if np.abs(PIXELS + share * step - mixed).max() <= 1.5 and share > 0.05:
                found.append(share)
    # Beta(1, 1) is uniform.
    for found in shares:
        assert len(found) > 50 and stats.kstest(found, stats.uniform(0.05, 0.95).cdf).pvalue > 1e-3


@pytest.mark.parametrize("text", ["augmix-m3-w3-d2", "augmix-m5-w4-a0.5-mstd1", "rand-m9-mstd0.5-inc1", "v0"])
def test_a_draw_depends_on_the_generator_alone(text):
    operator = TimmAutoAugment(config_str=text)
    first = results(operator, 20)
    np.random.seed(3)
    assert results(operator, 20) == first and len(set(first)) > 8
    assert operator(smooth_pixels(13, 40), np.random.default_rng(0)).shape == (13, 40, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config_str": "ran-m9"}, "did you mean 'rand'"),
        ({"config_str": "rand-mag9"}, "'mag9' in 'rand-mag9' is unknown; the options are m, n, p"),
        ({"config_str": "rand-m9-m8"}, "twice"),
        ({"config_str": "rand-m9-inc2"}, "inc2"),
        ({"config_str": "rand-w1"}, "w1"),
        ({"config_str": "rand-n0"}, "1 to 100"),
        ({"config_str": "rand-n2.5"}, "whole number"),
        ({"config_str": "rand-n14-w0"}, "1 to 13"),
        ({"config_str": "rand-p1.5"}, "0 to 1"),
        ({"config_str": "rand-minf"}, "number"),
        ({"config_str": "augmix-b1"}, "the options are m, w, d, a, mstd"),
        ({"config_str": "v0-m3"}, "the options are mstd"),
        ({"config_str": 9}, "config_str"),
        ({"config_str": None}, "got None"),
        ({"interpolation": "lanczos"}, "interpolation"),
        ({"prob": 2}, "prob"),
        ({"mean": [0.5]}, "mean"),
        ({"img_size": 0}, "img_size"),
    ],
    ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else "",
)
def test_mistakes_of_timm_are_found_before_any_data(arguments, message):
    (problem,) = check_transform_ops([{"TimmAutoAugment": arguments}])
    assert problem.key == "0.TimmAutoAugment" and message in problem.message


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("RandAugment", {"magnitude": 11}, "magnitude"),
        ("RandAugment", {"num_layers": 0}, "num_layers"),
        ("RandAugment", {"fillcolor": 300}, "fillcolor"),
        ("RandAugmentV3", {"interpolation": "lanczos"}, "interpolation"),
        ("AutoAugment", {"fillcolor": [1, 2]}, "fillcolor"),
    ],
)
def test_mistakes_are_found_before_any_data(name, arguments, message):
    (problem,) = check_transform_ops([{name: arguments}])
    assert problem.message.startswith(f"{message}: expected")


@pytest.mark.parametrize("name", ["AutoAugment", "RandAugment", "TimmAutoAugment", "ColorJitter"])
def test_pixels_must_not_be_normalised_before(name):
    (problem,) = check_transform_ops([{"NormalizeImage": {"order": ""}}, {name: None}])
    assert problem.key == f"1.{name}" and "before NormalizeImage" in problem.message
