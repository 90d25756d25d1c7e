"""Where the pixels of a processed image come from: affine maps, for labels that have a place in the image.

An operator that moves pixels reports it to :func:`note`; callers that need to know run it within :func:`noting`.

A map is a 3 x 3 matrix that takes a point (x, y, 1) of the result to the point of the source that is shown there.
Points are in pixels from the upper left corner: the pixel in column i and row j covers [i, i + 1] x [j, j + 1].
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import Iterator, Optional

import numpy as np

_notes: ContextVar[Optional[list]] = ContextVar("geometry", default=None)


def affine_map(a: float, b: float, c: float, d: float, e: float, f: float) -> np.ndarray:
    """Return the map (x, y) -> (a x + b y + c, d x + e y + f), float64."""
    return np.array([[a, b, c], [d, e, f], [0, 0, 1]], np.float64)


def shift(x: float, y: float) -> np.ndarray:
    """Return the map of a crop whose upper left corner is (x, y) in the source."""
    return affine_map(1, 0, x, 0, 1, y)


def scaling(source: tuple, result: tuple) -> np.ndarray:
    """Return the map of a resize; both sizes are (width, height)."""
    return affine_map(source[0] / result[0], 0, 0, 0, source[1] / result[1], 0)


def mirror(width: int, height: int, axes: tuple) -> np.ndarray:
    """Return the map of a flip along the array axes ``axes``: 1 exchanges left and right, 0 top and bottom."""
    across, down = 1 in axes, 0 in axes
    return affine_map(-1 if across else 1, 0, width * across, 0, -1 if down else 1, height * down)


@contextmanager
def noting() -> Iterator[list]:
    """Collect, in order, the maps that are reported to :func:`note` meanwhile."""
    notes: list = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def note(matrix: np.ndarray) -> None:
    """Report how the result that is about to be returned lies in the source."""
    notes = _notes.get()
    if notes is not None:
        notes.append(matrix)


def chained(maps: list) -> np.ndarray:
    """Return the map of several steps, given in the order in which they are done."""
    result = np.eye(3)
    for matrix in maps:
        result = result @ matrix
    return result
