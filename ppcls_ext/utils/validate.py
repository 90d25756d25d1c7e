"""Checks of constructor arguments, so that every family words its errors alike."""

from __future__ import annotations

import numbers
from typing import Sequence

from ppcls_ext.utils.spelling import nearest


def check_integer(name: str, value, minimum: int = 1) -> int:
    """Return ``value`` as an int.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is below ``minimum``.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    return int(value)


def check_integers(name: str, values: Sequence[int], length: int | None = None) -> list[int]:
    """Return ``values`` as a list of positive ints.

    Raises:
        TypeError: if it is no list or tuple of integers.
        ValueError: if it is empty, an element is below 1, or the number of elements is not ``length``.
    """
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"{name} must be a list of integers, one per stage, got {values!r}")
    if not values or (length is not None and len(values) != length):
        raise ValueError(f"{name} must hold {length or 'one or more'} values, one per stage, got {list(values)}")
    return [check_integer(f"{name}[{i}]", value) for i, value in enumerate(values)]


def check_positives(name: str, values: Sequence[float], length: int) -> list[float]:
    """Return ``values`` as a list of ``length`` positive numbers.

    Raises:
        TypeError: if it is no list or tuple of numbers.
        ValueError: if an element is not positive, or the number of elements is not ``length``.
    """
    if not isinstance(values, (list, tuple)) or not all(_is_number(value) for value in values):
        raise TypeError(f"{name} must be a list of numbers, one per stage, got {values!r}")
    if len(values) != length or min(values) <= 0:
        raise ValueError(f"{name} must hold {length} positive values, one per stage, got {list(values)}")
    return [float(value) for value in values]


def check_rate(name: str, value: float) -> float:
    """Return ``value`` as a float in [0, 1).

    Raises:
        TypeError: if it is no number.
        ValueError: if it lies outside [0, 1).
    """
    if not _is_number(value):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value}")
    return float(value)


def check_positive(name: str, value: float) -> float:
    """Return ``value`` as a float above 0.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is not positive.
    """
    if not _is_number(value):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if value <= 0:
        raise ValueError(f"{name} must be positive, got {value}")
    return float(value)


def check_flag(name: str, value: bool) -> bool:
    """Return ``value`` if it is True or False; the string "no" is neither.

    Raises:
        TypeError: if it is anything else.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def check_choice(name: str, value: str, choices: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``choices``.

    Raises:
        ValueError: with the nearest choice, if it is not.
    """
    if value not in choices:
        hint = nearest(str(value), choices, count=1)
        raise ValueError(
            f"{name} must be one of {', '.join(choices)}; got {value!r}"
            + (f", did you mean {hint[0]}?" if hint else "")
        )
    return value


def check_size(name: str, value) -> tuple[int, int]:
    """Return ``value``, an int or a pair, as (height, width).

    Raises:
        TypeError: if it is neither an int nor a pair of ints.
        ValueError: if one of them is below 1.
    """
    pair = value if isinstance(value, (list, tuple)) else (value, value)
    if len(pair) != 2:
        raise TypeError(f"{name} must be an integer or [height, width], got {value!r}")
    return check_integer(name, pair[0]), check_integer(name, pair[1])


def _is_number(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
