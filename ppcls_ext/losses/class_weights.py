"""Weights of the classes: checked, and ``balanced`` computed from the training labels."""

from __future__ import annotations

import logging
import math
from typing import Optional, Sequence, Union

import numpy as np

logger = logging.getLogger("ppcls_ext")

BALANCED = "balanced"
ClassWeights = Optional[Union[str, Sequence[float]]]


def balanced_weights(counts: np.ndarray) -> np.ndarray:
    """Return weights in inverse proportion to the samples of a class, as scikit-learn's ``compute_class_weight``.

    Class c has the weight N / (K n_c), for N samples of K classes that occur, so that the mean weight of a sample is 1.
    A class without samples has the weight 0: no target names it.

    Args:
        counts: samples of each class ``[class_num]``.

    Returns:
        float64 ``[class_num]``.

    Raises:
        ValueError: if there is no sample.
    """
    counts = np.asarray(counts, np.float64)
    occur = counts > 0
    if not occur.any():
        raise ValueError("class_weights: balanced needs samples, and there are none")
    weights = np.zeros(len(counts))
    weights[occur] = counts.sum() / (occur.sum() * counts[occur])
    return weights


def checked_weights(name: str, weights: Sequence[float], class_num: Optional[int] = None) -> list[float]:
    """Return class weights as floats.

    Args:
        name: of the loss, for messages.
        weights: one for each class.
        class_num: number of classes, if it is known.

    Raises:
        ValueError: if they are not one number of at least 0 for each class, or all 0.
    """
    if isinstance(weights, str) or not all(
        isinstance(w, (int, float, np.number)) and math.isfinite(w) and w >= 0 for w in weights
    ):
        raise ValueError(f"{name}: class_weights must be balanced or a list of numbers of at least 0, got {weights!r}")
    if class_num is not None and len(weights) != class_num:
        raise ValueError(
            f"{name}: class_weights must have one weight for each of the {class_num} classes, got {len(weights)}"
        )
    if not any(weights):
        raise ValueError(f"{name}: every class weight is 0, so the loss is always 0; give at least one above 0")
    return [float(w) for w in weights]


def resolved_weights(name: str, weights: ClassWeights, counts: Optional[np.ndarray]) -> Optional[list[float]]:
    """Return class weights as a loss takes them: ``balanced`` is computed.

    Args:
        name: of the loss, for messages.
        weights: what the configuration says.
        counts: training samples of each class ``[class_num]``; None where there are none, as in evaluation.

    Raises:
        ValueError: if the weights are wrong, or ``balanced`` is asked for without training labels.
    """
    if weights is None:
        return None
    if not isinstance(weights, str):
        return checked_weights(name, weights, None if counts is None else len(counts))
    if weights != BALANCED:
        raise ValueError(f"{name}: class_weights must be balanced or a list of numbers, got {weights!r}")
    if counts is None:
        raise ValueError(f"{name}: class_weights: balanced needs the labels of training; give a list")
    balanced = balanced_weights(counts)
    occur = balanced[counts > 0]
    logger.info(
        "%s.class_weights: balanced: %.4g to %.4g, for %d to %d training samples a class",
        name,
        occur.min(),
        occur.max(),
        counts.max(),
        counts[counts > 0].min(),
    )
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        logger.warning(
            "%s.class_weights: %d classes have no training sample, among them %s",
            name,
            len(empty),
            ", ".join(map(str, empty[:5])),
        )
    return checked_weights(name, balanced.tolist())
