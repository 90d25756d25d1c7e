"""A sweep in one picture: accuracy, throughput, memory and multiply-adds against the image size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Callable, Optional

from ppcls_ext.analysis.drawing import figure, mark_decades
from ppcls_ext.analysis.sweep.results import Point, Sweep, exponent

MARKERS = "osD^vP*X"
SIDE = "resolution"


def draw(found: Sweep, path: Path) -> Optional[Path]:
    """Draw a sweep; a point without a figure is a gap in its line, and the size that a model was made for is filled.

    Returns:
        ``path``; None if there is no figure to draw.
    """
    panels = _panels(found)
    if not panels:
        return None
    columns = 2 if len(panels) == 4 else len(panels)
    rows = math.ceil(len(panels) / columns)
    with figure(path, (5.5 * columns, 4.2 * rows), list(found.lines)) as (drawn, _):
        all_axes = drawn.subplots(rows, columns, squeeze=False).ravel()
        for axes, (title, logarithmic, value) in zip(all_axes, panels):
            _draw_lines(axes, found, value)
            axes.set_title(title, fontsize=10)
            axes.set_xlabel(SIDE, fontsize=8)
            axes.set_xscale("log")
            _mark_sizes(axes, found)
            if logarithmic:
                axes.set_yscale("log")
                mark_decades(axes.yaxis)
            axes.grid(alpha=0.3)
        if panels[-1][0].startswith("multiply"):
            _mark_powers(all_axes[len(panels) - 1], found)
        handles, labels = all_axes[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), fontsize=8)
        machine = found.measured.machine
        drawn.suptitle(f"{machine.cpu}, {machine.date} UTC; filled: the model's own size", fontsize=9)
    return path


def _panels(found: Sweep) -> list[tuple[str, bool, Callable[[Point], Optional[float]]]]:
    """Return title, whether the axis is logarithmic, and value, of what the sweep has figures for."""
    criterion = found.criterion or ""
    case = next((point.speed.case for point in found.points if point.speed), None)
    how = f"batch {case.batch}, {case.threads} thread{'s' * (case.threads > 1)}" if case else ""
    all_panels: list[tuple[str, bool, Callable[[Point], Optional[float]]]] = [
        (f"{criterion}, %", False, lambda point: _times(point.metrics.get(criterion), 100)),
        (f"images/s ({how})", True, lambda point: point.images_per_second),
        (f"peak memory above libraries, MB ({how})", True, lambda point: _times(point.model_bytes, 1e-6)),
        (
            "multiply-adds of one image, millions; p: power of the side at the end",
            True,
            lambda point: _times(point.macs, 1e-6),
        ),
    ]
    return [panel for panel in all_panels if any(panel[2](point) is not None for point in found.points)]


def _times(value: Optional[float], factor: float) -> Optional[float]:
    return None if value is None else factor * value


def _draw_lines(axes: Any, found: Sweep, value: Callable[[Point], Optional[float]]) -> None:
    for number, (label, points) in enumerate(found.lines.items()):
        style = {"color": f"C{number % 10}", "marker": MARKERS[number % len(MARKERS)]}
        values = [math.nan if value(point) is None else value(point) for point in points]
        axes.plot([point.side for point in points], values, label=label, markerfacecolor="white", **style)
        own = [(point.side, figure_) for point, figure_ in zip(points, values) if point.native]
        if own:
            axes.plot(*zip(*own), linestyle="none", zorder=3, **style)


def _mark_sizes(axes: Any, found: Sweep) -> None:
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    sides = {point.side: point.resolution for point in found.points}
    axes.xaxis.set_major_locator(FixedLocator(list(sides)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticklabels(list(sides.values()), fontsize=8)


def _mark_powers(axes: Any, found: Sweep) -> None:
    """Say with which power of the side each line grows at its end, and draw lines of the powers 2 and 4 beside them."""
    powers = {label: exponent(points) for label, points in found.lines.items()}
    if all(power is None for power in powers.values()):
        return
    lines = dict(zip(*reversed(axes.get_legend_handles_labels())))
    shown = [(lines[label], f"p = {power:.2f}") for label, power in powers.items() if power is not None]
    sides = sorted({point.side for point in found.points})
    least = min(1e-6 * point.macs for point in found.points if point.macs)
    for power, style in ((2, "--"), (4, ":")):
        heights = [0.7 * least * (side / sides[0]) ** power for side in (sides[0], sides[-1])]
        (guide,) = axes.plot((sides[0], sides[-1]), heights, linestyle=style, color="0.6", linewidth=1)
        shown.append((guide, f"p = {power}"))
    axes.legend(*zip(*shown), fontsize=7, ncols=2, loc="upper left")
