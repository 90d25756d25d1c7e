"""Lists of shards, written with braces: ``train-{000000..000639}.tar``."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections import Counter
from typing import Sequence, Union

from ppcls_ext.data.errors import DataFileError
from ppcls_ext.data.label_list import SHOWN
from ppcls_ext.utils.files import check_regular

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]{1,18})\.\.([0-9]{1,18})")
#: Of a pattern: a thousand million images at a thousand a shard.
MAX_SHARDS = 1_000_000
SHOWN_LETTERS = 200


def expand(pattern: str) -> list[str]:
    """Return the names that a pattern stands for, in order; the last braces run fastest.

    Braces hold a range of numbers, ``{000..127}``, as wide as the longer of its ends, or alternatives, ``{a,b}``.

    Raises:
        ValueError: if braces are nested or not closed, hold neither, or stand for too many names.
    """
    if re.search(r"[{}]", _BRACES.sub("", pattern)):
        raise ValueError(f"shards: {pattern[:SHOWN_LETTERS]!r} has braces that are nested or not closed")
    parts = _BRACES.split(pattern)
    counts = [_count(part, pattern) for part in parts[1::2]]
    count = math.prod(counts)
    if count > MAX_SHARDS:
        raise ValueError(
            f"shards: {pattern[:SHOWN_LETTERS]!r} stands for {count:,} files; expected at most {MAX_SHARDS:,}"
        )
    choices = [_choices(part) if position % 2 else [part] for position, part in enumerate(parts)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _count(inside: str, pattern: str) -> int:
    """Return how many names a pair of braces stands for."""
    pattern = pattern[:SHOWN_LETTERS]
    ends = _RANGE.fullmatch(inside)
    if ends:
        first, last = map(int, ends.groups())
        if first > last:
            raise ValueError(f"shards: {{{inside}}} in {pattern!r} counts down; expected the smaller number first")
        return last - first + 1
    if "," in inside:
        return inside.count(",") + 1
    inside = inside[:SHOWN_LETTERS]
    raise ValueError(f"shards: {{{inside}}} in {pattern!r}; expected a range {{000..127}} or alternatives {{a,b}}")


def _choices(inside: str) -> list[str]:
    ends = _RANGE.fullmatch(inside)
    if ends is None:
        return inside.split(",")
    first, last = ends.groups()
    width = max(len(first), len(last)) if "0" in (first[0], last[0]) else 0
    return [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]


def shard_files(shards: Union[str, Sequence[str]]) -> list[str]:
    """Return the files of a pattern, or of several.

    Raises:
        FileNotFoundError: if any file is not there; the number and the first few are named.
        DataFileError: if a file is named twice.
        ValueError: if a pattern is wrong.
    """
    patterns = [shards] if isinstance(shards, str) else shards
    if not isinstance(patterns, (list, tuple)) or not patterns or not all(isinstance(p, str) and p for p in patterns):
        raise ValueError(
            f"shards: expected a pattern such as 'train-{{000..127}}.tar' or a list of them, got {shards!r}"
        )
    files = [os.path.expanduser(name) for pattern in patterns for name in expand(pattern)]
    missing = [name for name in files if not os.path.exists(name)]
    if missing:
        raise FileNotFoundError(f"shards: {len(missing)} of {len(files)} files do not exist: {_some(missing)}")
    twice = sorted(name for name, count in Counter(files).items() if count > 1)
    if twice:
        raise DataFileError(f"shards: {_some(twice)} would be read more than once")
    for name in files:
        try:
            check_regular(name)
        except OSError as error:
            raise DataFileError(f"shards: {error}") from error
    return files


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
