"""Two models on the same images: do they agree, and is the difference of their accuracies more than chance?

Needs neither Paddle nor matplotlib.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Optional

import numpy as np

#: Below this number of discordant pairs McNemar's test is computed exactly.
EXACT_BELOW = 25


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of the hypothesis that two models err equally often.

    Attributes:
        only_first: images that the first model alone has right.
        only_second: images that the second model alone has right.
        p_value: two-sided.
        exact: whether it is from the binomial distribution, or from chi-squared with a continuity correction.
        statistic: chi-squared; None where the test is exact.
    """

    only_first: int
    only_second: int
    p_value: float
    exact: bool
    statistic: Optional[float]


def mcnemar(only_first: int, only_second: int) -> McNemar:
    """Test whether two models err equally often on the same images (McNemar 1947).

    Given the number of discordant pairs n, the first number is binomial (n, 1/2) under the hypothesis. With fewer than
    ``EXACT_BELOW`` pairs that distribution is used; else chi-squared with Edwards's continuity correction.

    Args:
        only_first: images that the first model alone has right.
        only_second: images that the second model alone has right.
    """
    from scipy.stats import binomtest, chi2

    pairs = only_first + only_second
    if pairs < EXACT_BELOW:
        p_value = float(binomtest(only_first, pairs).pvalue) if pairs else 1.0
        return McNemar(only_first, only_second, p_value, True, None)
    statistic = max(abs(only_first - only_second) - 1, 0) ** 2 / pairs
    return McNemar(only_first, only_second, float(chi2.sf(statistic, 1)), False, statistic)


@dataclass(frozen=True)
class Difference:
    """The second accuracy minus the first, with the bounds of its confidence interval."""

    value: float
    low: float
    high: float
    level: float


def accuracy_difference(only_first: int, only_second: int, samples: int, level: float = 0.95) -> Difference:
    """Return the difference of two accuracies on the same images with its confidence interval.

    The interval is Bonett and Price's for paired proportions (2012): Wald's with one image added to each of the two
    discordant numbers, which keeps its level for few images and for few discordant ones.

    Args:
        only_first: images that the first model alone has right.
        only_second: images that the second model alone has right.
        samples: all images.
        level: of the interval.

    Raises:
        ValueError: if there is no image, or fewer than discordant ones.
    """
    from scipy.stats import norm

    if samples < max(1, only_first + only_second):
        raise ValueError(f"{only_first} + {only_second} discordant images of {samples}")
    first, second = (only_first + 1) / (samples + 2), (only_second + 1) / (samples + 2)
    centre = second - first
    half = norm.ppf((1 + level) / 2) * np.sqrt((first + second - centre**2) / (samples + 2))
    value = (only_second - only_first) / samples
    return Difference(value, float(max(centre - half, -1)), float(min(centre + half, 1)), level)


@dataclass(frozen=True)
class Agreement:
    """Two models on the same images.

    Attributes:
        samples: number of images.
        agreement: share of the images that get the same class from both.
        accuracy: of both, where labels are known.
        both_right: images that both have right.
        both_wrong: images that neither has right.
        mcnemar: whether they err equally often.
        difference: of the accuracies, second minus first.
    """

    samples: int
    agreement: float
    accuracy: Optional[tuple[float, float]] = None
    both_right: Optional[int] = None
    both_wrong: Optional[int] = None
    mcnemar: Optional[McNemar] = None
    difference: Optional[Difference] = None

    def to_dict(self) -> dict:
        """Return plain data, without what is not known."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def compare_predictions(
    first: np.ndarray, second: np.ndarray, labels: Optional[np.ndarray] = None, level: float = 0.95
) -> Agreement:
    """Compare the predicted classes of two models.

    Args:
        first: int ``[N]``, classes that the first model predicts.
        second: int ``[N]``, those of the second for the same images.
        labels: int ``[N]``, the right classes; None compares the predictions with each other alone.
        level: of the confidence interval.

    Raises:
        ValueError: if the numbers of images differ, or there is none.
    """
    shapes = {np.shape(item) for item in (first, second, labels) if item is not None}
    if len(shapes) != 1 or len(first) == 0:
        raise ValueError(f"expected predictions (and labels) [N] of the same images, got {sorted(shapes)}")
    agreement = float(np.mean(first == second))
    if labels is None:
        return Agreement(len(first), agreement)
    return compare_correctness(first == labels, second == labels, agreement, level)


def compare_correctness(first: np.ndarray, second: np.ndarray, agreement: float, level: float = 0.95) -> Agreement:
    """Compare two models by which images they have right.

    Args:
        first: bool ``[N]``, whether the first model has the image right.
        second: bool ``[N]``, whether the second has.
        agreement: share of the images that get the same class from both.
        level: of the confidence interval.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    return Agreement(
        samples=len(first),
        agreement=agreement,
        accuracy=(float(first.mean()), float(second.mean())),
        both_right=int((first & second).sum()),
        both_wrong=int((~first & ~second).sum()),
        mcnemar=mcnemar(only_first, only_second),
        difference=accuracy_difference(only_first, only_second, len(first), level),
    )
