"""Where the keys of a query lie: for global, windowed and dilated attention alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, NamedTuple

import numpy as np


class Locality(NamedTuple):
    """Numbers of one layer, means over queries and heads.

    Attributes:
        distance: mean distance between a query and what it attends to, in pixels of the input (ViT, arXiv 2010.11929,
            figure 7).
        nearby: share of the attention within the 3 x 3 places around the query.
        entropy: of the attention in nats: its exponential is the number of places that share it evenly.
    """

    distance: float
    nearby: float
    entropy: float


@dataclass(frozen=True)
class LayerAttention:
    """The attention of one layer for one image.

    Attributes:
        name: of the layer, with the dilation where it has several.
        stride: pixels between two places.
        grid: rows and columns of places.
        probabilities: ``[heads, groups, queries, keys]``; groups are windows, or one.
        offsets: ``[queries, keys, 2]`` or ``[1, keys, 2]``: rows and columns from a query to its keys.
        spread: from row and column of a query to ``[heads, rows, columns]``.
    """

    name: str
    stride: int
    grid: tuple[int, int]
    probabilities: np.ndarray
    offsets: np.ndarray
    spread: Callable[[int, int], np.ndarray]

    def of_pixel(self, row: int, column: int) -> np.ndarray:
        """Return what the place of a pixel of the input attends to, ``[heads, rows, columns]``."""
        return self.spread(min(row // self.stride, self.grid[0] - 1), min(column // self.stride, self.grid[1] - 1))

    def locality(self) -> Locality:
        """Return the numbers of the layer."""
        steps = np.abs(self.offsets)
        distances = np.sqrt((self.offsets.astype(np.float64) ** 2).sum(axis=-1)) * self.stride
        near = steps.max(axis=-1) <= 1
        shares = self.probabilities
        logs = np.log(np.where(shares > 0, shares, 1))
        return Locality(
            float((shares * distances).sum(axis=-1).mean()),
            float((shares * near).sum(axis=-1).mean()),
            float(-(shares * logs).sum(axis=-1).mean()),
        )


def global_attention(name: str, probabilities: np.ndarray, grid: tuple[int, int], stride: int) -> LayerAttention:
    """Return the attention of all places to all.

    Args:
        name: of the layer.
        probabilities: ``[heads, tokens, tokens]``. A class token in front is left out: the patches' attention to
            patches is scaled up to 1.
        grid: rows and columns of patches.
        stride: pixels between two.
    """
    count = grid[0] * grid[1]
    patches = probabilities[:, -count:, -count:]
    patches = patches / np.maximum(patches.sum(axis=-1, keepdims=True), 1e-12)
    places = _places(*grid)
    return LayerAttention(
        name,
        stride,
        grid,
        patches[:, None],
        places[None] - places[:, None],
        lambda row, column: patches[:, row * grid[1] + column].reshape(-1, *grid),
    )


def window_attention(
    name: str, probabilities: np.ndarray, grid: tuple[int, int], stride: int, window: int, shift: tuple[int, int]
) -> LayerAttention:
    """Return the attention within windows of a map that was rolled by ``shift`` up and to the left.

    Args:
        name: of the layer.
        probabilities: ``[windows, heads, window², window²]``, the windows row by row.
        grid: rows and columns of the map before it was padded to whole windows.
        stride: pixels between two places.
        window: side of a window.
        shift: rows and columns of the roll.
    """
    rows, columns = (-(-side // window) for side in grid)
    padded = rows * window, columns * window
    heads = probabilities.shape[1]
    places = _places(window, window)

    def spread(row: int, column: int) -> np.ndarray:
        rolled = (row - shift[0]) % padded[0], (column - shift[1]) % padded[1]
        number = rolled[0] // window * columns + rolled[1] // window
        query = rolled[0] % window * window + rolled[1] % window
        found = np.zeros((heads, *padded), np.float32)
        own_rows = rolled[0] // window * window + np.arange(window)
        own_columns = rolled[1] // window * window + np.arange(window)
        shares = probabilities[number, :, query].reshape(heads, window, window)
        found[:, own_rows[:, None], own_columns[None]] = shares
        found = np.roll(found, shift, axis=(1, 2))
        return found[:, : grid[0], : grid[1]]

    by_head = probabilities.transpose(1, 0, 2, 3)
    return LayerAttention(name, stride, grid, by_head, places[None] - places[:, None], spread)


def dilated_attention(
    name: str, probabilities: np.ndarray, stride: int, kernel_size: int, dilation: int
) -> LayerAttention:
    """Return the attention to a window of keys that lie ``dilation`` apart.

    Args:
        name: of the layer.
        probabilities: ``[rows, columns, heads, kernel²]``. Keys outside the map take part as zeros.
        stride: pixels between two places.
        kernel_size: keys along each axis.
        dilation: places between two keys.
    """
    rows, columns, heads, keys = probabilities.shape
    offsets = (_places(kernel_size, kernel_size) - kernel_size // 2) * dilation

    def spread(row: int, column: int) -> np.ndarray:
        found = np.zeros((heads, rows, columns), np.float32)
        for key, (down, right) in enumerate(offsets):
            if 0 <= row + down < rows and 0 <= column + right < columns:
                found[:, row + down, column + right] = probabilities[row, column, :, key]
        return found

    by_head = probabilities.reshape(rows * columns, heads, keys).transpose(1, 0, 2)[:, None]
    return LayerAttention(name, stride, (rows, columns), by_head, offsets[None], spread)


def _places(rows: int, columns: int) -> np.ndarray:
    """Return row and column of each place, ``[rows * columns, 2]``."""
    return np.stack(np.divmod(np.arange(rows * columns), columns), axis=-1)
