"""A field as numbers: how large an area holds how much of it, and of what shape it is."""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np
from pydantic import BaseModel

from ppcls_ext.analysis.receptive_field.field import centre_of

THRESHOLDS = (0.2, 0.3, 0.5, 0.99)


class Area(BaseModel):
    """The smallest centred square that holds more than a share of the contributions.

    Attributes:
        threshold: the share.
        side: of the square in pixels; None where no square inside the image holds as much.
        ratio: its area over that of the image.
    """

    threshold: float
    side: Optional[int] = None
    ratio: Optional[float] = None


class Shape(BaseModel):
    """What a field looks like, as shares of its sum.

    A band is as wide as the cell of the map whose gradient it is.

    Attributes:
        cell: in the cell of the centre itself.
        row: in the horizontal band through it.
        column: in the vertical band through it.
        cross: in either band.
        uniform_cross: what a field that is the same everywhere has in either band.
        reached: share of the pixels that contribute at all.
    """

    cell: float
    row: float
    column: float
    cross: float
    uniform_cross: float
    reached: float


def high_contribution_areas(field: np.ndarray, images: int = 1, thresholds: Sequence[float] = THRESHOLDS) -> list[Area]:
    """Return RepLKNet's high-contribution area ratios (arXiv 2203.06717, table of effective receptive fields).

    The contributions are log10(1 + mean field over the images). The squares have the side 2 i + 1, i = 1 up to half of
    the height, exclusive, and are centred at (H // 2, W // 2); the first that holds more than the threshold counts.

    Args:
        field: ``[H, W]``, the sum over the images.
        images: how many they are.
        thresholds: shares of the sum of all contributions.
    """
    scores = np.log10(1 + field / images)
    height, width = scores.shape
    row, column, total = height // 2, width // 2, scores.sum()
    found = []
    for threshold in thresholds:
        area = Area(threshold=threshold)
        for reach in range(1, height // 2):
            square = scores[row - reach : row + reach + 1, max(0, column - reach) : column + reach + 1]
            if square.sum() / total > threshold:
                side = 2 * reach + 1
                area = Area(threshold=threshold, side=side, ratio=side / height * side / width)
                break
        found.append(area)
    return found


def shape_of_field(field: np.ndarray, size: Sequence[int]) -> Shape:
    """Return the shares of a field in the bands through the cell of the centre.

    Args:
        field: ``[H, W]``.
        size: height and width of the map.
    """
    rows, columns = (
        np.arange(pixels) * cells // pixels == centre
        for pixels, cells, centre in zip(field.shape, size, centre_of(size[0], size[1]))
    )
    total = field.sum()
    row, column = field[rows].sum() / total, field[:, columns].sum() / total
    cell = field[np.ix_(rows, columns)].sum() / total
    of_rows, of_columns = rows.mean(), columns.mean()
    return Shape(
        cell=cell,
        row=row,
        column=column,
        cross=row + column - cell,
        uniform_cross=of_rows + of_columns - of_rows * of_columns,
        reached=(field > 0).mean(),
    )
