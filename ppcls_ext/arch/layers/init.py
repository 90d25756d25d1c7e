"""Initialisers that Paddle's versions do not agree about."""

from __future__ import annotations

import inspect

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
