"""Names of the figures of an evaluation, by which models are judged and training ends."""

from __future__ import annotations

from typing import Optional

from ppcls_ext.config.schema import Sections
from ppcls_ext.losses import build_loss
from ppcls_ext.metrics import build_metrics
from ppcls_ext.utils.spelling import nearest

#: Before the name of a figure: that of the averaged weights.
OF_AVERAGE = "ema_"


def criterion_of(config: Sections) -> Optional[str]:
    """Return the figure by which ``Global`` asks to judge models; None where it leaves that to ``Metric.Eval``."""
    stopping = config.Global.early_stopping
    watched = stopping.metric if stopping else None
    return config.Global.best_metric or (watched.removeprefix(OF_AVERAGE) if watched else None)


def loss_figures(section: Optional[list]) -> list[str]:
    """Return the names that ``Loss.Eval`` reports; less of each is better."""
    return [*build_loss(section).names, "loss"] if section else []


def metric_figures(section: Optional[list], class_num: int) -> list[str]:
    """Return the names that ``Metric.Eval`` reports; more of each is better."""
    return build_metrics(section, class_num).names if section else []


def figure_problem(name: str, known: list[str], has_average: bool = False) -> Optional[str]:
    """Return what is wrong with the name of a figure, or None.

    Args:
        name: the name; with ``ema_`` before it, that of the averaged weights.
        known: names that evaluation reports.
        has_average: whether averaged weights are evaluated.
    """
    if name.startswith(OF_AVERAGE) and name.removeprefix(OF_AVERAGE) in known:
        return None if has_average else f"got {name!r}, a figure of averaged weights: it needs a section EMA"
    if name in known:
        return None
    hint = nearest(name, known, count=1)
    advice = f"did you mean {hint[0]}?" if hint else f"it has {', '.join(known) or 'none'}"
    return f"evaluation has no figure {name!r}; {advice}"
