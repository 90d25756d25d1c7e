"""What is drawn of a run: one series of points for each figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

from ppcls_ext.analysis.subjects import split_label
from ppcls_ext.engine.train.metrics_log import EPOCH, STEP, read_metrics

#: Sections of a line in the order in which a picture lists them.
SECTIONS = ("train", "eval", "eval_ema")
LR = "lr"


class CurvesError(ValueError):
    """Runs without the curves that are asked for; the message names what there is."""


@dataclass(frozen=True)
class Curve:
    """Points of one figure.

    Attributes:
        section: ``train``, ``eval`` or ``eval_ema``; empty for the learning rate.
        name: of the figure, such as ``loss`` or ``top1``.
        places: epochs, or optimizer steps.
        values: the figures there.
    """

    section: str
    name: str
    places: list[int]
    values: list[float]

    def smoothed(self, weight: float) -> Curve:
        """Return the exponential moving average, without the bias of its beginning.

        Args:
            weight: of what came before, in [0, 1); 0 changes nothing.
        """
        average, values = 0.0, []
        for number, value in enumerate(self.values, 1):
            average = weight * average + (1 - weight) * value
            values.append(average / (1 - weight**number))
        return Curve(self.section, self.name, self.places, values)


@dataclass(frozen=True)
class Run:
    """The curves of one run.

    Attributes:
        label: as pictures name it.
        by: ``epoch`` or ``step``.
        curves: in the order of the figures in the file.
    """

    label: str
    by: str
    curves: list[Curve]

    def find(self, section: str, name: str) -> Optional[Curve]:
        """Return a curve, or None."""
        return next((curve for curve in self.curves if (curve.section, curve.name) == (section, name)), None)

    @property
    def names(self) -> list[str]:
        """The names of its figures, the learning rate left out, each once."""
        return list(dict.fromkeys(curve.name for curve in self.curves if curve.section))


def read_run(word: str, by: str = EPOCH) -> Run:
    """Return the curves of a run.

    Args:
        word: the run's folder or its ``metrics.jsonl``, with or without ``label=`` before it.
        by: ``epoch``: a point an epoch; ``step``: a point for each logged step (means since the beginning of the
            epoch), and figures of evaluation at the step where their epoch ended.

    Raises:
        MetricsError: there are no figures, or they are damaged.
        CurvesError: the run has not reached the end of an epoch, or logged no step.
    """
    label, path = split_label(word)
    rows = read_metrics(path)
    found: dict[tuple[str, str], Curve] = {}
    for row in rows:
        for section in SECTIONS:
            if by == STEP and section == "train" and row["kind"] == EPOCH:
                continue  # the last step's, once more
            if by == EPOCH and row["kind"] == STEP:
                continue
            for name, value in row.get(section, {}).items():
                _add(found, section, name, row[by], value)
        if row["kind"] == by:
            _add(found, "", LR, row[by], row.get(LR))
    if not found:
        wanted = "finished an epoch; --by step shows its steps" if by == EPOCH else "logged a step"
        raise CurvesError(f"{Path(path)}: the run has not {wanted}")
    return Run(label, by, list(found.values()))


def _add(found: dict, section: str, name: str, place: int, value: Optional[float]) -> None:
    curve = found.setdefault((section, name), Curve(section, name, [], []))
    if value is not None:
        curve.places.append(place)
        curve.values.append(value)


def choose_figures(runs: Sequence[Run], names: Sequence[str] = ()) -> list[str]:
    """Return the figures to draw: those that are named, or the loss and the first metric of the runs.

    Raises:
        CurvesError: no run has one of the names.
    """
    known = list(dict.fromkeys(name for run in runs for name in run.names))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CurvesError(f"no run has the figure {unknown[0]!r}; there are {', '.join(known)}")
    if names:
        return list(dict.fromkeys(names))
    losses = [name for name in known if name == "loss"]
    return losses + [name for name in known if "loss" not in name.lower()][:1]
