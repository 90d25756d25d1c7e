"""Pictures of a report: accuracy against throughput; throughput and memory against resolution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ppcls_ext.analysis.benchmark.results import TRAIN, Report, Row
from ppcls_ext.analysis.drawing import figure, mark_decades

ACCURACY, RESOLUTION = "accuracy.png", "resolution.png"
#: What tells lines of one picture apart, the resolution being its axis.
NAMES = ("model", "source", "engine", "precision", "batch", "threads", "mode")


def accuracy_points(report: Report) -> list[Row]:
    """Return the rows that have a throughput, not of training, and a published accuracy."""
    return [row for row in report.rows if row.images_per_second and row.top1 is not None and row.case.mode != TRAIN]


def resolution_lines(report: Report) -> dict[str, list[Row]]:
    """Return the rows of what was measured at two resolutions or more, by what else they are, by growing size."""
    lines: dict[str, list[Row]] = {}
    for row in report.rows:
        if row.images_per_second:
            names = [name for name in NAMES if name in ("model", "engine") or _differ(report, name)]
            lines.setdefault(row.case.label(names), []).append(row)
    sort = {label: sorted(rows, key=lambda row: row.case.height * row.case.width) for label, rows in lines.items()}
    return {label: rows for label, rows in sort.items() if len({row.case.resolution for row in rows}) > 1}


def draw_all(report: Report, folder: Path) -> list[Path]:
    """Draw the pictures for which a report has figures into a folder; return their paths."""
    drawn = []
    if accuracy_points(report):
        drawn.append(_draw_accuracy(report, folder / ACCURACY))
    if resolution_lines(report):
        drawn.append(_draw_resolution(report, folder / RESOLUTION))
    return drawn


def _draw_accuracy(report: Report, path: Path) -> Path:
    points = accuracy_points(report)
    with figure(path, (8, 5), [row.case.model for row in points]) as (drawn, _):
        axes = drawn.subplots()
        styles: dict = {}
        for row in points:
            key = (row.case.engine, row.case.batch)
            label = f"{row.case.engine}, batch {row.case.batch}" if key not in styles else None
            color, marker = styles.setdefault(key, (f"C{len(styles)}", "osD^vP*X"[len(styles) % 8]))
            axes.scatter(row.images_per_second, row.top1, color=color, marker=marker, label=label, zorder=2)
        axes.set_xscale("log")
        mark_decades(axes.xaxis)
        axes.set_xlabel("images/s")
        axes.set_ylabel("published top-1 on ImageNet-1k, %")
        fastest = {row.case.model: row for row in sorted(points, key=lambda row: row.images_per_second or 0.0)}
        rows = sorted(fastest.values(), key=lambda row: row.top1 or 0.0)
        low, high = axes.get_ylim()
        for row, height in zip(rows, spread([row.top1 or 0.0 for row in rows], gap=(high - low) / 25)):
            axes.annotate(
                row.case.model,
                (row.images_per_second or 0.0, row.top1 or 0.0),
                (1.02, height),
                textcoords=axes.get_yaxis_transform(),
                arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.6},
                fontsize=7,
                va="center",
            )
        _finish(drawn, [axes], report)
    return path


def spread(heights: list[float], gap: float) -> list[float]:
    """Return growing heights, moved up so far that no two are nearer than ``gap``."""
    moved: list[float] = []
    for height in heights:
        moved.append(height if not moved else max(height, moved[-1] + gap))
    return moved


def _draw_resolution(report: Report, path: Path) -> Path:
    lines = resolution_lines(report)
    with figure(path, (11, 5), list(lines)) as (drawn, _):
        speed, memory = drawn.subplots(1, 2)
        for label, rows in lines.items():
            pixels = [(row.case.height * row.case.width) ** 0.5 for row in rows]
            speed.plot(pixels, [row.images_per_second for row in rows], marker="o", label=label)
            peaks = [(side, row.device_bytes or row.peak_bytes) for side, row in zip(pixels, rows)]
            known = [(side, peak / 1e6) for side, peak in peaks if peak]
            if known:
                memory.plot(*zip(*known), marker="o", label=label)
        speed.set_yscale("log")
        mark_decades(speed.yaxis)
        memory.set_ylim(0, 1.1 * memory.get_ylim()[1])
        speed.set_ylabel("images/s")
        memory.set_ylabel("peak memory of the process, MB")
        for axes in (speed, memory):
            axes.set_xlabel("resolution (square root of the number of pixels)")
        _finish(drawn, [speed, memory], report)
    return path


def _finish(drawn: Any, all_axes: list, report: Report) -> None:
    for axes in all_axes:
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    threads = ", ".join(map(str, sorted({row.case.threads for row in report.rows})))
    drawn.suptitle(f"{report.machine.cpu}, {threads} threads, {report.machine.date} UTC", fontsize=9)


def _differ(report: Report, name: str) -> bool:
    return len({getattr(row.case, name) for row in report.rows}) > 1
