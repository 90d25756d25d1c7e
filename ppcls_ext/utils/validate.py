"""Checks of constructor arguments, so that all families word their errors alike, and so do all operators.

The functions ``check_…`` take values as Python has them; the others read values as YAML gives them.
"""

from __future__ import annotations

import math
import numbers as abstract
from typing import Any, Optional, Sequence

from ppcls_ext.utils.spelling import nearest

#: Beyond what any network has; a typo would fill the memory, overflow Paddle's 32-bit sizes, or build for hours.
MAX_WIDTH, MAX_DEPTH, MAX_FACTOR = 1_000_000, 1_000, 1e6
#: What Paddle's LayerNorm takes.
MAX_EPSILON = 1e-3


def check_integer(name: str, value, minimum: int = 1, maximum: int = MAX_WIDTH) -> int:
    """Return ``value`` as an int.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if it is below ``minimum`` or above ``maximum``.
    """
    if isinstance(value, bool) or not isinstance(value, abstract.Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    number = int(value)
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}")
    if number > maximum:
        raise ValueError(f"{name} must be at most {maximum:,}, got {number}")
    return number


def check_integers(name: str, values: Sequence[int], length: int | None = None, maximum: int = MAX_WIDTH) -> list[int]:
    """Return ``values`` as a list of positive ints.

    Raises:
        TypeError: if it is no list or tuple of integers.
        ValueError: if it is empty, an element is below 1 or above ``maximum``, or the number of elements is not
            ``length``.
    """
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"{name} must be a list of integers, one per stage, got {values!r}")
    if not values or (length is not None and len(values) != length):
        raise ValueError(f"{name} must hold {length or 'one or more'} values, one per stage, got {list(values)}")
    return [check_integer(f"{name}[{i}]", value, maximum=maximum) for i, value in enumerate(values)]


def check_positives(name: str, values: Sequence[float], length: int) -> list[float]:
    """Return ``values`` as a list of ``length`` positive numbers.

    Raises:
        TypeError: if it is no list or tuple of numbers.
        ValueError: if an element is not positive or above ``MAX_FACTOR``, or the number of elements is not ``length``.
    """
    if not isinstance(values, (list, tuple)) or not all(_is_number(value) for value in values):
        raise TypeError(f"{name} must be a list of numbers, one per stage, got {values!r}")
    if len(values) != length or not all(0 < value <= MAX_FACTOR for value in values):
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
        ValueError: if it is not positive, or above ``MAX_FACTOR``.
    """
    if not _is_number(value):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not value > 0:  # NaN is not
        raise ValueError(f"{name} must be positive, got {value}")
    if value > MAX_FACTOR:
        raise ValueError(f"{name} must be at most {MAX_FACTOR:g}, got {value}")
    return float(value)


def check_epsilon(name: str, value: float) -> float:
    """Return the ``epsilon`` of a LayerNorm as a float.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is not positive, or above ``MAX_EPSILON``.
    """
    if check_positive(name, value) > MAX_EPSILON:
        raise ValueError(f"{name} must be at most {MAX_EPSILON:g}, got {value}")
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
        ValueError: if one of them is below 1 or above ``MAX_SIDE``.
    """
    pair = value if isinstance(value, (list, tuple)) else (value, value)
    if len(pair) != 2:
        raise TypeError(f"{name} must be an integer or [height, width], got {value!r}")
    return check_integer(name, pair[0], maximum=MAX_SIDE), check_integer(name, pair[1], maximum=MAX_SIDE)


def _is_number(value) -> bool:
    return isinstance(value, abstract.Real) and not isinstance(value, bool)


# Arguments of operators, as YAML gives them


def number(value: object, name: str) -> float:
    """Read a number, a numeral in a string, or a fraction of two numerals such as ``"1.0/255.0"``.

    YAML 1.1 reads ``1e-3`` (no point) as a string, so strings are numbers here. Nothing is evaluated.

    Raises:
        TypeError: if ``value`` is neither a number nor a string.
        ValueError: if the string is neither a numeral nor a fraction, or the number is not finite.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    parts = value.split("/") if isinstance(value, str) else [value]
    try:
        numbers = [float(part) for part in parts]
        if len(numbers) > 2:
            raise ValueError
        result = numbers[0] / numbers[1] if len(numbers) == 2 else numbers[0]
    except (ValueError, OverflowError, ZeroDivisionError):
        raise ValueError(f"{name}: expected a number or a fraction like '1.0/255.0', got {value!r}") from None
    if not math.isfinite(result):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")
    return result


def numbers(value: object, name: str, count: int) -> list[float]:
    """Read a list of exactly ``count`` numbers.

    Raises:
        TypeError: if ``value`` is not a list.
        ValueError: if it has another length or an element is not a number.
    """
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name}: expected a list of {count} numbers, got {value!r}")
    if len(value) != count:
        raise ValueError(f"{name}: expected {count} numbers, got {len(value)}: {list(value)!r}")
    return [number(item, f"{name}[{position}]") for position, item in enumerate(value)]


def number_range(value: Optional[Sequence], name: str, default: Sequence[float]) -> tuple[float, float]:
    """Read ``[low, high]`` with 0 < low <= high.

    Raises:
        TypeError: if ``value`` is not a list.
        ValueError: if the two numbers are not ordered or not positive.
    """
    pair = default if value is None else value
    low, high = numbers(pair, name, 2)
    if not 0 < low <= high:
        raise ValueError(f"{name}: expected [low, high] with 0 < low <= high, got {list(pair)!r}")
    return low, high


def positive_int(value: int, name: str, most: Optional[int] = None) -> int:
    """Return ``value`` if it is an integer of at least 1, and at most ``most`` if that is given.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if it is below 1 or above ``most``.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected a positive integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected a positive integer, got {value}")
    if most is not None and value > most:
        raise ValueError(f"{name}: expected at most {most}, got {value}")
    return value


#: More pixels along a side are a typing error, and would exhaust the memory.
MAX_SIDE = 16384


def side(value: int, name: str) -> int:
    """Return ``value`` if it is a number of pixels that a side of a processed image may have.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if it is below 1 or above 16384.
    """
    if positive_int(value, name) > MAX_SIDE:
        raise ValueError(f"{name}: expected at most {MAX_SIDE} pixels, got {value}")
    return value


def width_height(value: Any, name: str = "size") -> tuple[int, int]:
    """Read a size: one integer for a square, or a list ``[width, height]`` in PaddleClas's order.

    Raises:
        TypeError: if it is neither.
        ValueError: if the list has another length, or a number is below 1 or above 16384.
    """
    if isinstance(value, (list, tuple)):
        if len(value) != 2:
            raise ValueError(f"{name}: expected an integer or [width, height], got {list(value)!r}")
        return side(value[0], f"{name}[0]"), side(value[1], f"{name}[1]")
    length = side(value, name)
    return length, length


def flag(value: bool, name: str) -> bool:
    """Return ``value`` if it is True or False.

    Raises:
        TypeError: if it is something else.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return value


def choice(value: str, name: str, allowed: Sequence[str]) -> str:
    """Return ``value`` in lower case if it is one of ``allowed``.

    Raises:
        TypeError: if it is not a string.
        ValueError: if it is none of them; the nearest is named.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")
    if value.lower() not in allowed:
        hint = nearest(value, allowed, count=1)
        suffix = f"; did you mean {hint[0]!r}?" if hint else ""
        raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}{suffix}")
    return value.lower()


def probability(value: object, name: str) -> float:
    """Read a number from 0 to 1.

    Raises:
        TypeError: if it is neither a number nor a string.
        ValueError: if it is not a number, or outside 0 to 1.
    """
    result = number(value, name)
    if not 0 <= result <= 1:
        raise ValueError(f"{name}: expected a probability from 0 to 1, got {value!r}")
    return result


def rgb(value: Any, name: str) -> tuple[int, int, int]:
    """Read a colour: one integer from 0 to 255 for all channels, or a list of three.

    Raises:
        ValueError: if it is neither.
    """
    parts = list(value) if isinstance(value, (list, tuple)) else [value] * 3
    if len(parts) != 3 or not all(type(part) is int and 0 <= part <= 255 for part in parts):
        raise ValueError(f"{name}: expected an integer from 0 to 255 or three of them, got {value!r}")
    red, green, blue = parts
    return red, green, blue
