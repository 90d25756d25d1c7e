"""RandomErasing."""

from __future__ import annotations

import math
from typing import Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.preprocess.operator import FLOAT32, Operator, generator
from ppcls_ext.utils.validate import choice, flag, number, number_range, numbers, positive_int, probability

MAX_ATTEMPTS = 10_000
MODES = ("const", "rand", "pixel")


class RandomErasing(Operator):
    """Overwrite a random box of an image (Zhong et al., arXiv 1708.04896, algorithm 1).

    Args:
        EPSILON: probability that an image is changed.
        sl: least share of the area.
        sh: greatest share of the area.
        r1: least ratio of height to width; the greatest is 1 / r1.
        mean: RGB of the box in the mode "const".
        attempt: boxes to try until one fits into the image; if none does, the image stays as it is.
        use_log_aspect: draw the logarithm of the ratio uniformly instead of the ratio.
        mode: "const"; "rand", one normally distributed colour for the box; "pixel", one for each pixel. The last two
            are in units of a normalised image, so they stand after NormalizeImage.
    """

    def __init__(
        self,
        EPSILON: Union[float, str] = 0.5,
        sl: Union[float, str] = 0.02,
        sh: Union[float, str] = 0.4,
        r1: Union[float, str] = 0.3,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        attempt: int = 100,
        use_log_aspect: bool = False,
        mode: str = "const",
    ):
        self.probability = probability(EPSILON, "EPSILON")
        self.share = number_range([sl, sh], "sl, sh", (0.02, 0.4))
        if self.share[1] > 1:
            raise ValueError(f"sh: expected a share of the area, at most 1, got {sh!r}")
        ratio = number(r1, "r1")
        if not 0 < ratio <= 1:
            raise ValueError(f"r1: expected a ratio above 0 and at most 1, got {r1!r}")
        self.ratio = (ratio, 1 / ratio)
        self.mean = np.array(numbers(mean, "mean", 3), np.float32)
        self.attempt = positive_int(attempt, "attempt", MAX_ATTEMPTS)
        self.use_log_aspect = flag(use_log_aspect, "use_log_aspect")
        self.mode = choice(mode, "mode", MODES)
        self.dtype_in = None if self.mode == "const" else FLOAT32

    def box(self, height: int, width: int, rng: np.random.Generator) -> Optional[tuple[int, int, int, int]]:
        """Draw (left, top, box_width, box_height) inside an image of ``height`` × ``width``; None if nothing fits."""
        low, high = self.ratio
        for _ in range(self.attempt):
            area = height * width * rng.uniform(*self.share)
            if self.use_log_aspect:
                ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
            else:
                ratio = rng.uniform(low, high)
            box_height, box_width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if box_height < height and box_width < width:
                top = int(rng.integers(0, height - box_height, endpoint=True))
                left = int(rng.integers(0, width - box_width, endpoint=True))
                return left, top, box_width, box_height
        return None

    def __call__(self, image: np.ndarray, rng: Optional[np.random.Generator] = None) -> np.ndarray:
        """Return the image; a fourth channel, if there is one, stays as it is."""
        rng = generator(rng)
        if rng.random() >= self.probability:
            return image
        box = self.box(image.shape[0], image.shape[1], rng)
        if box is None:
            return image
        left, top, width, height = box
        image = image.copy()
        part = image[top : top + height, left : left + width, :3]
        if self.mode == "const":
            part[...] = self.mean
        else:
            part[...] = rng.standard_normal((1, 1, 3) if self.mode == "rand" else part.shape, dtype=np.float32)
        return image
