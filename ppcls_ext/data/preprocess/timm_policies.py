"""The policies behind timm's configuration strings: RandAugment, AugMix and two of AutoAugment."""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np
from PIL import Image

from ppcls_ext.data.preprocess.auto_augment import IMAGENET_POLICY
from ppcls_ext.data.preprocess.timm_levels import Style, apply

RAND_OPERATIONS = (
    "AutoContrast Equalize Invert Rotate Posterize Solarize SolarizeAdd Color Contrast Brightness Sharpness ShearX "
    "ShearY TranslateXRel TranslateYRel"
).split()
RAND_INCREASING_OPERATIONS = (
    "AutoContrast Equalize Invert Rotate PosterizeIncreasing SolarizeIncreasing SolarizeAdd ColorIncreasing "
    "ContrastIncreasing BrightnessIncreasing SharpnessIncreasing ShearX ShearY TranslateXRel TranslateYRel"
).split()
#: Chances of the operations above under w0, in their order; they add up to 1.
WEIGHTS_0 = (0.025, 0.005, 0, 0.3, 0, 0.005, 0.005, 0.025, 0.005, 0.005, 0.025, 0.2, 0.2, 0.1, 0.1)
AUGMIX_OPERATIONS = (
    "AutoContrast ColorIncreasing ContrastIncreasing BrightnessIncreasing SharpnessIncreasing Equalize Rotate "
    "PosterizeIncreasing SolarizeIncreasing ShearX ShearY TranslateXRel TranslateYRel"
).split()

_TIMM_NAMES = {
    "autocontrast": "AutoContrast",
    "color": "Color",
    "contrast": "Contrast",
    "equalize": "Equalize",
    "invert": "Invert",
    "rotate": "Rotate",
    "sharpness": "Sharpness",
    "shearX": "ShearX",
    "solarize": "Solarize",
}


def _original(posterize: str) -> tuple:
    """Return the published ImageNet policy in timm's operations."""
    names = {**_TIMM_NAMES, "posterize": posterize}
    return tuple(tuple((names[name], p, magnitude) for name, p, magnitude in pair) for pair in IMAGENET_POLICY)


#: As (operation, probability, magnitude). "original" is the published policy, "v0" that of Google's EfficientNet code;
#: in those that end in "r" posterising grows stronger with the magnitude.
_V0 = (
    (("Equalize", 0.8, 1), ("ShearY", 0.8, 4)),
    (("Color", 0.4, 9), ("Equalize", 0.6, 3)),
    (("Color", 0.4, 1), ("Rotate", 0.6, 8)),
    (("Solarize", 0.8, 3), ("Equalize", 0.4, 7)),
    (("Solarize", 0.4, 2), ("Solarize", 0.6, 2)),
    (("Color", 0.2, 0), ("Equalize", 0.8, 8)),
    (("Equalize", 0.4, 8), ("SolarizeAdd", 0.8, 3)),
    (("ShearX", 0.2, 9), ("Rotate", 0.6, 8)),
    (("Color", 0.6, 1), ("Equalize", 1.0, 2)),
    (("Invert", 0.4, 9), ("Rotate", 0.6, 0)),
    (("Equalize", 1.0, 9), ("ShearY", 0.6, 3)),
    (("Color", 0.4, 7), ("Equalize", 0.6, 0)),
    (("Posterize", 0.4, 6), ("AutoContrast", 0.4, 7)),
    (("Solarize", 0.6, 8), ("Color", 0.6, 9)),
    (("Solarize", 0.2, 4), ("Rotate", 0.8, 9)),
    (("Rotate", 1.0, 7), ("TranslateYRel", 0.8, 9)),
    (("ShearX", 0.0, 0), ("Solarize", 0.8, 4)),
    (("ShearY", 0.8, 0), ("Color", 0.6, 4)),
    (("Color", 1.0, 0), ("Rotate", 0.6, 2)),
    (("Equalize", 0.8, 4), ("Equalize", 0.0, 8)),
    (("Equalize", 1.0, 4), ("AutoContrast", 0.6, 2)),
    (("ShearY", 0.4, 7), ("SolarizeAdd", 0.6, 7)),
    (("Posterize", 0.8, 2), ("Solarize", 0.6, 10)),
    (("Solarize", 0.6, 8), ("Equalize", 0.6, 1)),
    (("Color", 0.8, 6), ("Rotate", 0.4, 5)),
)


def _increasing(policy: tuple) -> tuple:
    return tuple(
        tuple((name.replace("Posterize", "PosterizeIncreasing"), p, magnitude) for name, p, magnitude in pair)
        for pair in policy
    )


AUTO_POLICIES = {
    "original": _original("PosterizeOriginal"),
    "originalr": _original("PosterizeIncreasing"),
    "v0": _V0,
    "v0r": _increasing(_V0),
}


class RandPolicy:
    """Layers of operations, each applied with ``probability``; with weights, drawn without repetition."""

    def __init__(
        self,
        names: Sequence[str],
        layers: int,
        magnitude: float,
        probability: float,
        weights: Optional[Sequence[float]],
        style: Style,
    ):
        self.names, self.layers, self.magnitude = list(names), layers, magnitude
        self.probability, self.weights, self.style = probability, weights, style

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return the changed image."""
        chosen = rng.choice(len(self.names), self.layers, replace=self.weights is None, p=self.weights)
        for position in chosen:
            image = apply(image, self.names[position], self.probability, self.magnitude, self.style, rng)
        return image


class AutoPolicy:
    """One of the sub-policies, each a chain of operations with their own probability and magnitude."""

    def __init__(self, policy: Sequence[Sequence[tuple]], style: Style):
        self.policy, self.style = policy, style

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return the changed image."""
        for name, probability, magnitude in self.policy[rng.integers(len(self.policy))]:
            image = apply(image, name, probability, magnitude, self.style, rng)
        return image


class AugMixPolicy:
    """AugMix (Hendrycks et al., arXiv 1912.02781, algorithm 1): chains of operations, averaged and blended in.

    The weights of the chains follow Dirichlet(alpha), the share of their average Beta(alpha, alpha). A ``depth`` of
    None draws the length of each chain from 1 to 3.
    """

    def __init__(self, magnitude: float, width: int, depth: Optional[int], alpha: float, style: Style):
        self.magnitude, self.width, self.depth, self.alpha, self.style = magnitude, width, depth, alpha, style

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return the changed image."""
        weights = rng.dirichlet([self.alpha] * self.width)
        share = rng.beta(self.alpha, self.alpha)
        mixed = np.zeros((image.height, image.width, len(image.getbands())), np.float32)
        for weight in weights:
            depth = rng.integers(1, 4) if self.depth is None else self.depth
            chain = image
            for position in rng.integers(len(AUGMIX_OPERATIONS), size=depth):
                chain = apply(chain, AUGMIX_OPERATIONS[position], 1.0, self.magnitude, self.style, rng)
            mixed += np.float32(weight) * np.asarray(chain, np.float32)
        return Image.blend(image, Image.fromarray(mixed.clip(0, 255).astype(np.uint8)), share)
