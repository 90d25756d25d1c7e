"""Lists of shards, written with braces: ``train-{000000..000639}.tar``."""

from __future__ import annotations

import itertools
import os
import re
from typing import Sequence, Union

from ppcls_ext.data.errors import DataFileError
from ppcls_ext.data.label_list import SHOWN

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def expand(pattern: str) -> list[str]:
    """Return the names that a pattern stands for, in order; the last braces run fastest.

    Braces hold a range of numbers, ``{000..127}``, as wide as the longer of its ends, or alternatives, ``{a,b}``.

    Raises:
        ValueError: if braces are nested or not closed, or hold neither.
    """
    if re.search(r"[{}]", _BRACES.sub("", pattern)):
        raise ValueError(f"shards: {pattern!r} has braces that are nested or not closed")
    parts = _BRACES.split(pattern)
    choices = [_choices(part, pattern) if position % 2 else [part] for position, part in enumerate(parts)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _choices(inside: str, pattern: str) -> list[str]:
    ends = _RANGE.fullmatch(inside)
    if ends:
        first, last = ends.groups()
        if int(first) > int(last):
            raise ValueError(f"shards: {{{inside}}} in {pattern!r} counts down; expected the smaller number first")
        width = max(len(first), len(last)) if "0" in (first[0], last[0]) else 0
        return [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]
    if "," in inside:
        return inside.split(",")
    raise ValueError(f"shards: {{{inside}}} in {pattern!r}; expected a range {{000..127}} or alternatives {{a,b}}")


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
    missing = [name for name in files if not os.path.isfile(name)]
    if missing:
        raise FileNotFoundError(f"shards: {len(missing)} of {len(files)} files do not exist: {_some(missing)}")
    twice = sorted(name for name in set(files) if files.count(name) > 1) if len(set(files)) < len(files) else []
    if twice:
        raise DataFileError(f"shards: {_some(twice)} would be read more than once")
    return files


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
