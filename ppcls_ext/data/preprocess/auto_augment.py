"""AutoAugment: the policy that was found on ImageNet (Cubuk et al., arXiv 1805.09501, table 9)."""

from __future__ import annotations

from typing import Optional, Sequence, Union

import numpy as np
from PIL import Image

from ppcls_ext.data.preprocess.operator import UINT8, Operator, generator
from ppcls_ext.data.preprocess.pillow_operations import on_pillow
from ppcls_ext.data.preprocess.rand_augment import NAMES, apply
from ppcls_ext.utils.validate import rgb

#: Each sub-policy is two times (operation, probability, index into VALUES).
IMAGENET_POLICY = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
    (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
    (("shearX", 0.6, 5), ("equalize", 1.0, 9)),
    (("color", 0.4, 0), ("equalize", 0.6, 3)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)


def _values() -> dict[str, list]:
    """Return the ten values of each operation, from the weakest to the strongest."""
    values = {name: [0.0] * 10 for name in NAMES}
    for name, strongest in {"shearX": 0.3, "shearY": 0.3, "translateX": 150 / 331, "translateY": 150 / 331}.items():
        values[name] = np.linspace(0, strongest, 10).tolist()
    for name in ("color", "contrast", "sharpness", "brightness"):
        values[name] = np.linspace(0, 0.9, 10).tolist()
    values["rotate"] = np.linspace(0, 30, 10).tolist()
    values["posterize"] = [round(bits) for bits in np.linspace(8, 4, 10)]
    values["solarize"] = np.linspace(256, 0, 10).tolist()
    return values


VALUES = _values()


class AutoAugment(Operator):
    """Apply one of the 25 sub-policies, each of which is two operations with their own probability and strength.

    Args:
        fillcolor: RGB of what shears, shifts and rotations uncover.
    """

    dtype_in = UINT8

    def __init__(self, fillcolor: Union[int, Sequence[int]] = (128, 128, 128)):
        self.fill = rgb(fillcolor, "fillcolor")

    def __call__(self, image: np.ndarray, rng: Optional[np.random.Generator] = None) -> np.ndarray:
        """Return the changed image."""
        rng = generator(rng)

        def change(picture: Image.Image) -> Image.Image:
            for name, probability, index in IMAGENET_POLICY[rng.integers(len(IMAGENET_POLICY))]:
                if rng.random() < probability:
                    picture = apply(picture, name, VALUES[name][index], rng, self.fill)
            return picture

        return on_pillow(image, change)
