"""Spelling hints for error messages."""

from __future__ import annotations

import difflib
from typing import Iterable


def nearest(name: str, candidates: Iterable[str], count: int = 3) -> list[str]:
    """Return up to ``count`` of ``candidates`` that look like ``name``, best first; case does not matter."""
    by_lower: dict[str, str] = {}
    for candidate in candidates:
        by_lower.setdefault(candidate.lower(), candidate)
    return [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.5)]
