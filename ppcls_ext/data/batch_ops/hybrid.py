"""MixupCutmixHybrid."""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np

from ppcls_ext.data.batch_ops.operator import BatchOperator, draw_box, one_label_an_image
from ppcls_ext.utils.validate import choice, flag, number, numbers, probability

MODES = ("batch", "pair", "elem")


class MixupCutmixHybrid(BatchOperator):
    """timm's Mixup: mixup or CutMix, for the batch or image by image, with the batch in reverse order as partners.

    The middle image of an odd batch is its own partner. The labels are smoothed here, so the loss must not do it again.

    Args:
        mixup_alpha: of the Beta distribution of mixup; 0 switches it off.
        cutmix_alpha: of that of CutMix; 0 switches it off.
        cutmix_minmax: ``[low, high]`` shares of the sides, for boxes of random shape; then cutmix_alpha is 1.
        prob: probability of mixing at all.
        switch_prob: probability of CutMix where both are on.
        mode: "batch" draws once for all images, "pair" once for an image and its partner, "elem" for each image.
        correct_lam: weight labels by the area that a box really has rather than the one that was drawn.
        label_smoothing: share of the label that is spread over all classes.
        num_classes: number of classes; needed by PaddleClas, here ``Arch.class_num`` is known.
        class_num: number of classes.
    """

    def __init__(
        self,
        mixup_alpha: float = 1.0,
        cutmix_alpha: float = 0.0,
        cutmix_minmax: Optional[Sequence[float]] = None,
        prob: float = 1.0,
        switch_prob: float = 0.5,
        mode: str = "batch",
        correct_lam: bool = True,
        label_smoothing: float = 0.1,
        num_classes: Optional[int] = None,
        class_num: Optional[int] = None,
    ):
        self.mixup_alpha = _not_negative(mixup_alpha, "mixup_alpha")
        self.cutmix_alpha = _not_negative(cutmix_alpha, "cutmix_alpha")
        self.minmax = None
        if cutmix_minmax is not None:
            low, high = numbers(cutmix_minmax, "cutmix_minmax", 2)
            if not 0 <= low < high <= 1:
                raise ValueError(
                    f"cutmix_minmax: expected [low, high] with 0 <= low < high <= 1, got {cutmix_minmax!r}"
                )
            self.minmax, self.cutmix_alpha = (low, high), 1.0
        if not (self.mixup_alpha or self.cutmix_alpha):
            raise ValueError("mixup_alpha: expected a number above 0, or cutmix_alpha or cutmix_minmax; all are off")
        if None not in (num_classes, class_num) and num_classes != class_num:
            raise ValueError(f"num_classes: expected Arch.class_num, {class_num}, got {num_classes!r}")
        self.probability = probability(prob, "prob")
        self.switch_probability = probability(switch_prob, "switch_prob")
        self.mode = choice(mode, "mode", MODES)
        self.correct_lam = flag(correct_lam, "correct_lam")
        self.label_smoothing = number(label_smoothing, "label_smoothing")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing: expected a number from 0 to below 1, got {label_smoothing!r}")

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mixed images and labels."""
        one_label_an_image(labels, "MixupCutmixHybrid")
        count = len(images)
        kept = np.ones(count, np.float32)
        if self.mode == "batch":
            kept[:] = self._mix(images, images[::-1], rng)
        elif self.mode == "pair":
            for first in range(count // 2):
                both = [first, count - 1 - first]
                pair = images[both]
                kept[both] = self._mix(pair, pair[::-1].copy(), rng)
                images[both] = pair
        else:
            source = images.copy()
            for position in range(count):
                kept[position] = self._mix(images[position], source[count - 1 - position], rng)
        labels = labels * np.float32(1 - self.label_smoothing) + np.float32(self.label_smoothing / labels.shape[1])
        return images, labels * kept[:, None] + labels[::-1] * (1 - kept[:, None])

    def _mix(self, images: np.ndarray, partners: np.ndarray, rng: np.random.Generator) -> float:
        """Mix ``partners`` into ``images`` ``[..., height, width]`` and return the share of the label that is kept."""
        if rng.random() >= self.probability:
            return 1.0
        cut = rng.random() < self.switch_probability if self.mixup_alpha and self.cutmix_alpha else not self.mixup_alpha
        alpha = self.cutmix_alpha if cut else self.mixup_alpha
        kept = rng.beta(alpha, alpha)
        if not cut:
            others = partners * np.float32(1 - kept)
            images *= np.float32(kept)
            images += others
            return kept
        height, width = images.shape[-2:]
        if self.minmax is None:
            box = draw_box(height, width, kept, rng)
        else:
            box = self._box_of_any_shape(self.minmax, height, width, rng)
        top, bottom, left, right = box
        images[..., top:bottom, left:right] = partners[..., top:bottom, left:right].copy()
        if self.correct_lam or self.minmax is not None:
            return 1 - (bottom - top) * (right - left) / (height * width)
        return kept

    def _box_of_any_shape(
        self, shares: tuple[float, float], height: int, width: int, rng: np.random.Generator
    ) -> tuple[int, int, int, int]:
        low, high = shares
        box_height = int(rng.integers(int(height * low), max(int(height * high), int(height * low) + 1)))
        box_width = int(rng.integers(int(width * low), max(int(width * high), int(width * low) + 1)))
        top, left = int(rng.integers(height - box_height)), int(rng.integers(width - box_width))
        return top, top + box_height, left, left + box_width


def _not_negative(value: float, name: str) -> float:
    result = number(value, name)
    if result < 0:
        raise ValueError(f"{name}: expected a number of at least 0, got {value!r}")
    return result
