"""The picture of learning curves: a panel for each figure, and one for the learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

from ppcls_ext.analysis.curves.series import LR, SECTIONS, Run, choose_figures, read_run
from ppcls_ext.analysis.drawing import figure, short

#: Of a line, by section: evaluation is what a run is judged by.
_STYLES = {"train": "--", "eval": "-", "eval_ema": ":"}
_WORDS = {"train": "training", "eval": "evaluation", "eval_ema": "evaluation of the average"}


def draw_curves(path: Path, runs: Sequence[Run], names: Sequence[str], smoothing: float = 0.0) -> None:
    """Draw runs beside each other; colours tell runs apart, dashes training from evaluation.

    Args:
        path: where to write.
        runs: all by epoch, or all by step.
        names: figures, a panel each.
        smoothing: weight of the past in [0, 1); a value above 0 is written on the picture.
    """
    panels = [*names, LR]
    with figure(path, (4.2 * len(panels), 3.8), [run.label for run in runs]) as (drawn, _):
        for axes, name in zip(drawn.subplots(1, len(panels), squeeze=False)[0], panels):
            for number, run in enumerate(runs):
                for section in SECTIONS if name != LR else ("",):
                    _draw(axes, run, section, name, f"C{number % 10}", smoothing if name != LR else 0.0)
            axes.set_xlabel(runs[0].by)
            axes.set_title("learning rate" if name == LR else name, fontsize=10)
            axes.grid(alpha=0.3)
        _legend(drawn, runs, smoothing)


def draw_run(folder: Path) -> Path:
    """Draw ``curves.png`` into a run's folder, by epoch; return its path.

    Raises:
        MetricsError, CurvesError: see :func:`ppcls_ext.analysis.curves.series.read_run`.
    """
    run = read_run(str(folder))
    draw_curves(folder / "curves.png", [run], choose_figures([run]))
    return folder / "curves.png"


def _draw(axes: Any, run: Run, section: str, name: str, colour: str, smoothing: float) -> None:
    curve = run.find(section, name)
    if curve is None or not curve.places:
        return
    style = _STYLES.get(section, "-")
    marker = "." if len(curve.places) < 40 else None
    if smoothing:
        axes.plot(curve.places, curve.values, style, color=colour, alpha=0.25, linewidth=0.8)
        curve, marker = curve.smoothed(smoothing), None
    axes.plot(curve.places, curve.values, style, color=colour, marker=marker, linewidth=1.3)


def _legend(drawn: Any, runs: Sequence[Run], smoothing: float) -> None:
    """One legend below all panels: runs by colour, sections by dashes."""
    from matplotlib.lines import Line2D

    sections = [name for name in SECTIONS if any(curve.section == name for run in runs for curve in run.curves)]
    handles = [Line2D([], [], color=f"C{number % 10}", label=short(run.label)) for number, run in enumerate(runs)]
    handles += [Line2D([], [], color="0.3", linestyle=_STYLES[name], label=_WORDS[name]) for name in sections]
    title = f"thick: exponential moving average, weight {smoothing:g}; thin: as measured" if smoothing else None
    drawn.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5), fontsize=8, title=title)
