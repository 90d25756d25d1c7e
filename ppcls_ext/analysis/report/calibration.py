"""Calibration: whether images that get a probability of 0.8 are right eight times in ten.

Guo and others, On Calibration of Modern Neural Networks (ICML 2017, arXiv 1706.04599): the expected calibration error
over 15 bins of equal width, the reliability diagram, and one temperature that divides all logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from ppcls_ext.analysis.report.scored import Scored

BINS = 15
#: Temperatures that are searched.
LOWEST, HIGHEST = 0.01, 100.0


@dataclass(frozen=True)
class Bin:
    """Images whose confidence is in ``(low, high]``; means are None where there is no image."""

    low: float
    high: float
    samples: int
    confidence: Optional[float]
    accuracy: Optional[float]


@dataclass(frozen=True)
class Calibration:
    """How far confidence and accuracy are apart.

    Attributes:
        ece: expected calibration error, in [0, 1].
        bins: of the reliability diagram.
        nll: mean cross entropy; this and what follows is None where the file holds the best classes alone.
        temperature: what to divide the logits by for the least cross entropy on these images; above 1, the model is
            too sure of itself. None as well where no temperature is best: each image is right, or the least
            cross entropy is beyond the range that is searched.
        nll_at_temperature: cross entropy with it.
        ece_at_temperature: expected calibration error with it.
    """

    ece: float
    bins: list[Bin]
    nll: Optional[float] = None
    temperature: Optional[float] = None
    nll_at_temperature: Optional[float] = None
    ece_at_temperature: Optional[float] = None


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Return the bins of the reliability diagram.

    Args:
        confidence: float ``[N]``, probability of the predicted class.
        right: bool ``[N]``, whether it is the label.
        bins: number of bins of equal width in (0, 1].
    """
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    result = []
    for number in range(bins):
        inside = place == number
        count = int(inside.sum())
        means = (float(confidence[inside].mean()), float(right[inside].mean())) if count else (None, None)
        result.append(Bin(number / bins, (number + 1) / bins, count, *means))
    return result


def expected_calibration_error(bins: list[Bin]) -> float:
    """Return the mean distance of confidence and accuracy, each bin weighted by its images."""
    samples = sum(item.samples for item in bins)
    return (
        sum(
            item.samples * abs(item.confidence - item.accuracy)
            for item in bins
            if item.confidence is not None and item.accuracy is not None
        )
        / samples
    )


def calibrate(scored: Scored) -> Calibration:
    """Return how well calibrated the probabilities are."""
    bins = reliability(scored.confidence, scored.right)
    ece = expected_calibration_error(bins)
    if scored.losses is None:
        return Calibration(ece, bins)
    nll = float(scored.losses.mean())
    logits = scored.predictions.log_probabilities()[:, scored.classes]
    places = np.searchsorted(scored.classes, scored.labels)
    temperature = best_temperature(logits, places)
    if temperature is None:
        return Calibration(ece, bins, nll)
    cooled = log_softmax(logits / temperature)
    confidence = np.exp(cooled.max(axis=1))
    at_temperature = reliability(confidence, scored.right)
    return Calibration(
        ece,
        bins,
        nll,
        temperature,
        float(-cooled[np.arange(len(places)), places].mean()),
        expected_calibration_error(at_temperature),
    )


def best_temperature(logits: np.ndarray, labels: np.ndarray) -> Optional[float]:
    """Return the temperature with the least mean cross entropy of ``logits / temperature``.

    Args:
        logits: float64 ``[N, C]``; logarithms of probabilities do as well.
        labels: int ``[N]``.

    Returns:
        None if the cross entropy falls up to an end of ``LOWEST`` .. ``HIGHEST``.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(labels))

    def cross_entropy(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature))[rows, labels].mean())

    ends = np.log([LOWEST, HIGHEST])
    found = minimize_scalar(cross_entropy, bounds=tuple(ends), method="bounded", options={"xatol": 1e-6})
    if min(map(cross_entropy, ends)) <= found.fun + 1e-9:
        return None
    return float(np.exp(found.x))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return the logarithm of the softmax over the last axis, without overflow."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
