"""The pictures of a report, as PNG files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple, Optional, Sequence
from unicodedata import east_asian_width

import numpy as np

from ppcls_ext.analysis.report.calibration import Bin
from ppcls_ext.analysis.report.errors import ReportError
from ppcls_ext.analysis.report.fonts import choose_fonts
from ppcls_ext.analysis.report.thumbnails import Thumbnail
from ppcls_ext.utils.files import write_atomically

#: Up to so many classes, cells hold their numbers; up to so many, rows and columns hold their names.
WITH_NUMBERS, WITH_NAMES = 20, 60
#: Width of a name, in Latin letters.
LONGEST_NAME = 20
DPI = 120
_BLUE, _RED, _GREY, _GREEN = "#2b6cb0", "#c53030", "#a0aec0", "#2f855a"


class Line(NamedTuple):
    """A line over an image, and what stands for it where no font has its characters."""

    text: str
    fallback: str = ""


class Shown(NamedTuple):
    """An image of a grid: its picture, and the lines over it; ``right`` colours them."""

    thumbnail: Thumbnail
    lines: tuple[Line, ...]
    right: Optional[bool]


def require_matplotlib() -> None:
    """Raise an error that says how to get matplotlib, if it is not installed.

    Raises:
        ReportError: it is not.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ReportError(
            'pictures need matplotlib: pip install "ppcls_ext[plot]" together with the extras you have'
        ) from None


def short(name: str) -> str:
    """Return a name as a picture shows it: a Chinese character is as wide as two letters."""
    widths = np.cumsum([2 if east_asian_width(character) in "WF" else 1 for character in name])
    if not len(widths) or widths[-1] <= LONGEST_NAME:
        return name
    return name[: int(np.searchsorted(widths, LONGEST_NAME - 1, side="right"))] + "…"


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
    with _figure(path, (side + 1, side), names) as (figure, fonts):
        axes = figure.add_subplot()
        # Small shares are what a matrix of many classes is looked at for: the root brings them out.
        shown = axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        bar = figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.03, ticks=np.sqrt([0, 0.05, 0.25, 0.5, 1]))
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
    with _figure(path, (5, 5.6), []) as (figure, _):
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.bar(middles, heights, width * 0.94, color=_BLUE, label="accuracy")
        upper.plot([0, 1], [0, 1], "--", color=_GREY, label="perfectly calibrated")
        gap = {"facecolor": "none", "edgecolor": _RED, "hatch": "////", "linewidth": 0.8}
        upper.bar(middles, confidences - heights, width * 0.94, bottom=heights, label="gap to mean confidence", **gap)
        upper.set_ylabel("accuracy")
        upper.set_ylim(0, 1.02)
        upper.set_title(f"expected calibration error {100 * ece:.2f}%", fontsize=10)
        upper.legend(loc="upper left", fontsize=8)
        lower.bar(middles, [item.samples for item in filled], width * 0.94, color=_GREY)
        lower.set_ylabel("images")
        lower.set_xlabel("confidence")
        lower.set_xlim(0, 1)


def save_grid(path: Path, images: Sequence[Shown], columns: int = 6) -> None:
    """Draw images side by side, each with its lines."""
    rows = -(-len(images) // columns)
    texts = [line.text for image in images for line in image.lines]
    lines = max(len(image.lines) for image in images)
    with _figure(path, (1.75 * columns, (1.5 + 0.2 * lines) * rows), texts) as (figure, fonts):
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            axes.axis("off")
        for axes, shown in zip(grid, images):
            if shown.thumbnail.image is not None:
                pixels = np.asarray(shown.thumbnail.image)
                axes.imshow(pixels, interpolation="nearest" if max(pixels.shape) < 64 else "antialiased")
            else:
                axes.text(0.5, 0.5, "not\nreadable", ha="center", va="center", color=_GREY, transform=axes.transAxes)
            colour = {None: "black", True: _GREEN, False: _RED}[shown.right]
            words = [line.text if fonts.can_show(line.text) else line.fallback for line in shown.lines]
            axes.set_title("\n".join(words), fontsize=8, color=colour)


class _figure:
    """A figure that is written when the block ends, with fonts for its texts."""

    def __init__(self, path: Path, size: tuple[float, float], texts: Sequence[str]):
        self._path, self._size, self._texts = path, size, texts

    def __enter__(self) -> tuple[Any, Any]:
        from matplotlib import rc_context
        from matplotlib.figure import Figure  # drawn without pyplot, which would need a display or a backend

        fonts = choose_fonts(self._texts)
        settings = {"font.family": fonts.families, "axes.unicode_minus": False, "text.parse_math": False}
        self._context = rc_context(settings)
        self._context.__enter__()
        self._figure = Figure(self._size, dpi=DPI, layout="constrained")
        return self._figure, fonts

    def __exit__(self, kind: Any, *rest: Any) -> None:
        try:
            if kind is None:
                stream = io.BytesIO()
                self._figure.savefig(stream, format="png", bbox_inches="tight", pad_inches=0.1)
                write_atomically(self._path, lambda aside: aside.write_bytes(stream.getvalue()))
        finally:
            self._context.__exit__(kind, *rest)
