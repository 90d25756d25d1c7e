"""Initialisers that Paddle's versions do not agree about, or that it does not have."""

from __future__ import annotations

import inspect
import math

import paddle
from paddle.nn import initializer

_TAKES_BOUNDS = "a" in inspect.signature(initializer.TruncatedNormal).parameters


def truncated_normal(std: float) -> initializer.Initializer:
    """Return a normal distribution of scale ``std`` that is cut off at two ``std``.

    Paddle 2.6 always cuts there; Paddle 3 takes the bounds as values, by default -2 and 2, which cut nothing when
    ``std`` is small.
    """
    if _TAKES_BOUNDS:
        return initializer.TruncatedNormal(std=std, a=-2 * std, b=2 * std)
    return initializer.TruncatedNormal(std=std)


def he_normal(weight: paddle.Tensor) -> None:
    """Set the weight of a convolution by a normal distribution of variance 2 / fan-out (arXiv 1502.01852, eq. 14).

    As in PyTorch, fan-out is output channels x kernel pixels, whatever the number of groups.
    """
    fan_out = weight.shape[0] * math.prod(weight.shape[2:])
    initializer.Normal(std=math.sqrt(2 / fan_out))(weight)
