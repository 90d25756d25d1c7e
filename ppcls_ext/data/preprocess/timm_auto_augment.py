"""TimmAutoAugment, and the grammar of its configuration string."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Optional, Sequence, TypeVar, Union

import numpy as np
from PIL import Image

from ppcls_ext.data.preprocess.operator import UINT8, Operator, generator
from ppcls_ext.data.preprocess.pillow_operations import on_pillow
from ppcls_ext.data.preprocess.timm_levels import MAX_MAGNITUDE, RANDOM_RESAMPLING, Style
from ppcls_ext.data.preprocess.timm_policies import (
    AUTO_POLICIES,
    RAND_INCREASING_OPERATIONS,
    RAND_OPERATIONS,
    WEIGHTS_0,
    AugMixPolicy,
    AutoPolicy,
    RandPolicy,
)
from ppcls_ext.registry import IMAGENET_MEAN
from ppcls_ext.utils.spelling import nearest
from ppcls_ext.utils.validate import choice, number, numbers, probability, width_height

INTERPOLATIONS = {
    "bilinear": (Image.Resampling.BILINEAR,),
    "bicubic": (Image.Resampling.BICUBIC,),
    "random": RANDOM_RESAMPLING,
}
POLICIES = ("rand", "augmix", *AUTO_POLICIES)
#: A standard deviation above this means a uniform draw, as in timm.
UNIFORM_ABOVE = 100
#: The most operations on an image, and the most chains.
MAX_OPERATIONS = 100

Policy = Union[RandPolicy, AugMixPolicy, AutoPolicy]


class TimmAutoAugment(Operator):
    """timm's RandAugment, AugMix and AutoAugment, chosen by a string such as ``rand-m9-mstd0.5-inc1``.

    The first part names the policy, the others, in any order, its options:

    - ``rand``: ``m`` magnitude (10; what is drawn above 10 counts as 10, as in timm), ``n`` operations an image (2),
      ``p`` probability of each (0.5), ``mstd`` standard deviation of the magnitude (0; ``inf`` or above 100: uniform
      from 0 to m), ``inc1`` operations that grow stronger with the magnitude (0), ``w0`` weighted choice of the
      operations without repetition;
    - ``augmix``: ``m`` (3), ``mstd`` (0), ``w`` chains (3), ``d`` operations a chain (1 to 3 by chance), ``a`` of the
      Beta and Dirichlet distributions (1);
    - ``original``, ``originalr``, ``v0``, ``v0r``: ``mstd`` (0).

    Args:
        prob: probability that an image is changed at all.
        config_str: the string.
        interpolation: bilinear, bicubic, or random (one of the two by chance), for shears, shifts and rotations.
        img_size: size of the image, accepted for PaddleClas's sake: shifts are a share of the image's own side.
        mean: RGB of what is uncovered, as a share of 255.
    """

    dtype_in = UINT8

    def __init__(
        self,
        prob: float = 1.0,
        config_str: str = "rand-m9-mstd0.5-inc1",
        interpolation: str = "bicubic",
        img_size: Union[int, Sequence[int]] = 224,
        mean: Sequence[float] = IMAGENET_MEAN,
    ):
        self.probability = probability(prob, "prob")
        width_height(img_size, "img_size")
        resample = INTERPOLATIONS[choice(interpolation, "interpolation", tuple(INTERPOLATIONS))]
        fill = tuple(min(255, max(0, round(255 * share))) for share in numbers(mean, "mean", 3))
        self.policy = parse_policy(config_str, Style(0.0, 0.45, fill, resample))
        # AugMix blends images of several geometries into one.
        self.traceable = not isinstance(self.policy, AugMixPolicy)

    def __call__(self, image: np.ndarray, rng: Optional[np.random.Generator] = None) -> np.ndarray:
        """Return the changed image."""
        rng = generator(rng)
        if rng.random() >= self.probability:
            return image
        return on_pillow(image, lambda picture: self.policy(picture, rng))


def parse_policy(text: str, style: Style) -> Policy:
    """Read a configuration string.

    Raises:
        TypeError: if it is no string.
        ValueError: if a part is unknown or out of range; the message names it.
    """
    if not isinstance(text, str):
        raise TypeError(f"config_str: expected a string such as 'rand-m9-mstd0.5-inc1', got {text!r}")
    name, *parts = text.split("-")
    if name not in POLICIES:
        hint = nearest(name, POLICIES, count=1)
        advice = f"did you mean {hint[0]!r}?" if hint else f"there are {', '.join(POLICIES)}"
        raise ValueError(f"config_str: {text!r} begins with the unknown policy {name!r}; {advice}")
    options = _Options(text, parts, {"rand": "m n p mstd inc w", "augmix": "m w d a mstd"}.get(name, "mstd").split())
    spread = options.take("mstd", 0.0, 0)
    style = replace(style, magnitude_std=float("inf") if spread > UNIFORM_ABOVE else spread)
    if name == "augmix":
        return AugMixPolicy(
            options.take("m", 3, 0),
            options.whole("w", 3, 1, MAX_OPERATIONS),
            options.whole("d", None, 1, MAX_OPERATIONS),
            options.take("a", 1.0, 1e-6),
            replace(style, translate=0.3),
        )
    if name != "rand":
        return AutoPolicy(AUTO_POLICIES[name], style)
    names = RAND_INCREASING_OPERATIONS if options.whole("inc", 0, 0, 1) else RAND_OPERATIONS
    weights = None if options.whole("w", None, 0, 0) is None else WEIGHTS_0
    layers = options.whole("n", 2, 1, np.count_nonzero(WEIGHTS_0) if weights else MAX_OPERATIONS)
    magnitude = options.take("m", MAX_MAGNITUDE, 0)
    return RandPolicy(names, layers, magnitude, options.take("p", 0.5, 0, 1), weights, style)


Default = TypeVar("Default", bound=Optional[float])


class _Options:
    """The parts of a string after its first: a key in letters and a number."""

    def __init__(self, text: str, parts: Sequence[str], keys: Sequence[str]):
        self.text = text
        self.values: dict[str, float] = {}
        for part in parts:
            found = re.fullmatch(r"([a-z]+?)(inf|[0-9.]+)", part)
            if found is None or found[1] not in keys:
                raise ValueError(f"config_str: {part!r} in {text!r} is unknown; the options are {', '.join(keys)}")
            if found[1] in self.values:
                raise ValueError(f"config_str: {found[1]!r} is given twice in {text!r}")
            infinite = found[2] == "inf" and found[1] == "mstd"
            self.values[found[1]] = float("inf") if infinite else number(found[2], f"config_str: {part!r} in {text!r}")

    def take(self, key: str, default: Default, low: float, high: Optional[float] = None) -> Union[float, Default]:
        """Return the number of ``key``, or the default."""
        if key not in self.values:
            return default
        value = self.values[key]
        if value < low or (high is not None and value > high):
            allowed = f"at least {low:g}" if high is None else f"{low:g} to {high:g}" if high > low else f"{low:g}"
            raise ValueError(f"config_str: {key}{value:g} in {self.text!r}: expected {allowed}")
        return value

    def whole(self, key: str, default: Default, low: int, high: Optional[int] = None) -> Union[int, Default]:
        """Return the whole number of ``key``, or the default."""
        if key not in self.values:
            return default
        value = self.take(key, 0.0, low, high)
        if value != int(value):
            raise ValueError(f"config_str: {key}{value:g} in {self.text!r}: expected a whole number")
        return int(value)
