"""Scatter plots: published accuracy against multiply-adds, and against measured throughput."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Sequence

from ppcls_ext.analysis.comparison.rows import ModelRow
from ppcls_ext.analysis.drawing import figure, mark_decades

MACS, SPEED = "accuracy_macs.png", "accuracy_speed.png"


def draw(rows: Sequence[ModelRow], folder: Path, caption: str = "") -> list[Path]:
    """Draw what the rows have figures for; return the paths.

    Args:
        rows: of several backbones.
        folder: where to write.
        caption: what stands over measured figures: the machine.
    """
    families = list(dict.fromkeys(row.family for row in rows))  # a family looks the same in both pictures
    drawn = []
    if any(row.top1 for row in rows):
        title = "marker: family; each point a variant at its own image size"
        drawn.append(_scatter(folder / MACS, rows, "multiply-adds, G", lambda row: row.macs / 1e9, families, title))
    if any(row.top1 and row.images_per_second for row in rows):
        measured = [row for row in rows if row.images_per_second]
        path, axis = folder / SPEED, "images/s, fastest engine"
        drawn.append(_scatter(path, measured, axis, _speed, families, caption, named=True))
    return drawn


def _speed(row: ModelRow) -> float:
    return row.images_per_second or 0.0


def _scatter(
    path: Path,
    rows: Sequence[ModelRow],
    axis: str,
    place: Callable[[ModelRow], float],
    families: Sequence[str],
    title: str,
    named: bool = False,
) -> Path:
    rows = [row for row in rows if row.top1]
    with figure(path, (8, 5)) as (drawn, _):
        axes = drawn.add_subplot()
        for number, family in enumerate(families):
            of_family = sorted((row for row in rows if row.family == family), key=place)
            if not of_family:
                continue
            x, y = [place(row) for row in of_family], [row.top1 or 0.0 for row in of_family]
            axes.scatter(x, y, s=30, color=f"C{number % 10}", marker="osD^vP*X<>"[number % 10], label=family, zorder=2)
        if named:
            _name(axes, rows, place)
        axes.set_xscale("log")
        mark_decades(axes.xaxis)
        axes.set_xlabel(axis)
        axes.set_ylabel("published top-1 on ImageNet-1k, %")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        axes.set_title(title, fontsize=9)
    return path


def _name(axes: Any, rows: Sequence[ModelRow], place: Callable[[ModelRow], float]) -> None:
    # Names of neighbours alternate above and below.
    for number, row in enumerate(sorted(rows, key=place)):
        offset = (5, -10 if number % 2 else 4)
        axes.annotate(row.name, (place(row), row.top1 or 0.0), offset, textcoords="offset points", fontsize=7)
    axes.margins(x=0.15)
