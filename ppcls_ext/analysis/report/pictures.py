"""The pictures of a report, as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Optional, Sequence

import numpy as np

from ppcls_ext.analysis.drawing import BLUE, GREEN, GREY, RED, figure, short
from ppcls_ext.analysis.report.calibration import Bin
from ppcls_ext.analysis.report.thumbnails import Thumbnail

#: Up to so many classes, cells hold their numbers; up to so many, rows and columns hold their names.
WITH_NUMBERS, WITH_NAMES = 20, 60


class Line(NamedTuple):
    """A line over an image, and what stands for it where no font has its characters."""

    text: str
    fallback: str = ""


class Shown(NamedTuple):
    """An image of a grid: its picture, and the lines over it; ``right`` colours them."""

    thumbnail: Thumbnail
    lines: tuple[Line, ...]
    right: Optional[bool]


def save_confusion_matrix(path: Path, matrix: np.ndarray, names: Sequence[str], ids: Sequence[int]) -> None:
    """Draw a confusion matrix: rows are labels and sum up to 1, columns are predictions.

    Args:
        path: where to write.
        matrix: int ``[C, C]``, images by label and prediction.
        names: of the classes.
        ids: of the classes, shown where a name cannot be.
    """
    count = len(matrix)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 4 + 0.34 * count if count <= WITH_NAMES else 9
    names = [short(name) for name in names]
    with figure(path, (side + 1, side), names) as (drawn, fonts):
        axes = drawn.add_subplot()
        # Small shares are what a matrix of many classes is looked at for: the root brings them out.
        shown = axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        bar = drawn.colorbar(shown, ax=axes, fraction=0.046, pad=0.03, ticks=np.sqrt([0, 0.05, 0.25, 0.5, 1]))
        bar.ax.set_yticklabels(["0", "0.05", "0.25", "0.5", "1"])
        bar.set_label("share of the images of the class")
        rows = "" if count <= WITH_NAMES else " (row of per_class.csv)"
        axes.set_xlabel(f"prediction{rows}")
        axes.set_ylabel(f"label{rows}")
        if count <= WITH_NAMES:
            ticks = [name if fonts.can_show(name) else str(number) for name, number in zip(names, ids)]
            axes.set_xticks(range(count), ticks, rotation=90 if max(map(len, ticks)) > 2 else 0)
            axes.set_yticks(range(count), ticks)
        if count <= WITH_NUMBERS:
            for row, column in zip(*np.nonzero(matrix)):
                colour = "white" if shares[row, column] > 0.3 else "black"
                axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=9)


def save_reliability(path: Path, bins: Sequence[Bin], ece: float) -> None:
    """Draw a reliability diagram, and how many images are in each bin."""
    filled = [item for item in bins if item.samples]
    width = bins[0].high - bins[0].low
    heights, confidences = (
        np.array([getattr(item, name) for item in filled], float) for name in ("accuracy", "confidence")
    )
    middles = [(item.low + item.high) / 2 for item in filled]
    with figure(path, (5, 5.6), []) as (drawn, _):
        upper, lower = drawn.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.bar(middles, heights, width * 0.94, color=BLUE, label="accuracy")
        upper.plot([0, 1], [0, 1], "--", color=GREY, label="perfectly calibrated")
        gap = {"facecolor": "none", "edgecolor": RED, "hatch": "////", "linewidth": 0.8}
        upper.bar(middles, confidences - heights, width * 0.94, bottom=heights, label="gap to mean confidence", **gap)
        upper.set_ylabel("accuracy")
        upper.set_ylim(0, 1.02)
        upper.set_title(f"expected calibration error {100 * ece:.2f}%", fontsize=10)
        upper.legend(loc="upper left", fontsize=8)
        lower.bar(middles, [item.samples for item in filled], width * 0.94, color=GREY)
        lower.set_ylabel("images")
        lower.set_xlabel("confidence")
        lower.set_xlim(0, 1)


def save_grid(path: Path, images: Sequence[Shown], columns: int = 6) -> None:
    """Draw images side by side, each with its lines."""
    rows = -(-len(images) // columns)
    texts = [line.text for image in images for line in image.lines]
    lines = max(len(image.lines) for image in images)
    with figure(path, (1.75 * columns, (1.5 + 0.2 * lines) * rows), texts) as (drawn, fonts):
        grid = drawn.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            axes.axis("off")
        for axes, shown in zip(grid, images):
            if shown.thumbnail.image is not None:
                pixels = np.asarray(shown.thumbnail.image)
                axes.imshow(pixels, interpolation="nearest" if max(pixels.shape) < 64 else "antialiased")
            else:
                axes.text(0.5, 0.5, "not\nreadable", ha="center", va="center", color=GREY, transform=axes.transAxes)
            colour = {None: "black", True: GREEN, False: RED}[shown.right]
            words = [line.text if fonts.can_show(line.text) else line.fallback for line in shown.lines]
            axes.set_title("\n".join(words), fontsize=8, color=colour)
