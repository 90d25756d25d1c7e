"""Learning-rate schedules with PaddleClas's arguments and values.

A schedule counts in optimizer steps, or in epochs with ``by_epoch``. Linear warm-up comes first; the schedule proper
begins after it and has the remaining length.
"""

from __future__ import annotations

import math
from typing import Callable, Mapping, Optional, Sequence, Union

from paddle.optimizer import lr as paddle_lr

from ppcls_ext.optim.checks import ONE_CYCLE, piecewise_table, schedule_problems
from ppcls_ext.utils.spelling import nearest


class Constant(paddle_lr.LRScheduler):
    """The same learning rate at every step."""

    def get_lr(self) -> float:
        """Return the learning rate."""
        return self.base_lr


class Cosine(paddle_lr.LRScheduler):
    """Half a cosine from ``learning_rate`` to ``eta_min``, where it stays.

    The rate is a function of the position alone, not of the rate before, so that a resumed run has it exactly.

    Args:
        learning_rate: at position 0.
        length: position at which ``eta_min`` is reached, at least 1.
        eta_min: rate at the end.
        start: position at which the schedule begins; what lies before it is left out.
    """

    def __init__(self, learning_rate: float, length: int, eta_min: float = 0.0, start: int = 0):
        self.length, self.eta_min, self.start = length, eta_min, start
        super().__init__(learning_rate)

    def get_lr(self) -> float:
        """Return the learning rate."""
        position = min(self.start + self.last_epoch, self.length)
        return self.eta_min + (self.base_lr - self.eta_min) * (1 + math.cos(math.pi * position / self.length)) / 2


class ReduceOnPlateau(paddle_lr.ReduceOnPlateau):
    """Paddle's, which counts evaluations: :meth:`observe` takes the place of ``step``.

    Its state is not a function of the position, so a resumed run has it from the checkpoint.
    """

    def step(self, *_: object) -> None:
        """Do nothing: steps and epochs do not count."""

    def observe(self, figure: float) -> None:
        """Count an evaluation and its figure, and lower the rate after too many without an improvement."""
        super().step(float(figure))


class ThenConstant(paddle_lr.LRScheduler):
    """A schedule up to a position, and a constant rate from there on, as stochastic weight averaging has it.

    Args:
        before: the schedule.
        start: first position with the constant rate.
        rate: that rate.
    """

    def __init__(self, before: paddle_lr.LRScheduler, start: int, rate: float):
        self._before: Optional[paddle_lr.LRScheduler] = None
        self.start, self.rate = start, rate
        super().__init__(before())
        self._before = before
        self.last_lr = self.get_lr()

    def step(self, epoch: Optional[int] = None) -> None:
        """Go to the next position, or to a certain one."""
        if self._before is not None:  # Paddle steps once while it initialises
            self._before.step(epoch)
        super().step(epoch)

    def get_lr(self) -> float:
        """Return the learning rate."""
        if self._before is None:
            return self.base_lr
        return self.rate if self.last_epoch >= self.start else self._before()


class _Span:
    """Lengths in the units that the schedule counts: optimizer steps, or epochs."""

    def __init__(self, epochs: int, steps_per_epoch: int, warmup_epoch: float, by_epoch: bool):
        self._steps_per_epoch = steps_per_epoch
        self._by_epoch = by_epoch
        if by_epoch:
            self.warmup = self.whole(min(warmup_epoch, epochs))
            self.remaining = epochs - self.warmup
        else:
            self.warmup = round(min(warmup_epoch, epochs) * steps_per_epoch)
            self.remaining = epochs * steps_per_epoch - self.warmup

    def whole(self, epochs: float) -> int:
        """Return a number of epochs in units, cut to whole steps."""
        if not self._by_epoch:
            return int(epochs * self._steps_per_epoch)
        return int(epochs)


def _constant(span: _Span, learning_rate: float):
    return Constant(learning_rate)


def _linear(span: _Span, learning_rate: float, end_lr: float = 0.0, power: float = 1.0, cycle: bool = False):
    if span.remaining <= 0:
        return Constant(learning_rate)
    return paddle_lr.PolynomialDecay(learning_rate, span.remaining, end_lr=end_lr, power=power, cycle=cycle)


def _cosine(
    span: _Span, learning_rate: float, eta_min: float = 0.0, warmup_prefix: bool = True, cooldown_epoch: float = 0.0
):
    if span.remaining <= 0:
        return Constant(learning_rate)
    start = 0 if warmup_prefix else span.warmup
    length = max(start + 1, start + span.remaining - span.whole(cooldown_epoch))
    return Cosine(learning_rate, length, eta_min, start)


def _step(span: _Span, learning_rate: float, step_size: float, gamma: float):
    return paddle_lr.StepDecay(learning_rate, max(1, span.whole(step_size)), gamma=gamma)


def _piecewise(span: _Span, decay_epochs: Sequence[float], values: Sequence[float]):
    if not decay_epochs:
        return Constant(values[0])
    return paddle_lr.PiecewiseDecay([span.whole(epoch) for epoch in decay_epochs], list(values))


def _multi_step(span: _Span, learning_rate: float, milestones: Sequence[float], gamma: float = 0.1):
    return paddle_lr.MultiStepDecay(learning_rate, [span.whole(epoch) for epoch in milestones], gamma=gamma)


def _one_cycle(span: _Span, max_learning_rate: float, **arguments):
    share = arguments.get("phase_pct", ONE_CYCLE["phase_pct"])
    if share * span.remaining <= 1:
        raise ValueError(
            f"phase_pct: got {share:g}; expected more than {1 / span.remaining:.3g}, since the rate must rise for more "
            f"than one of the {span.remaining} positions of the run"
        )
    return paddle_lr.OneCycleLR(max_learning_rate, total_steps=span.remaining, **arguments)


def _plateau(span: _Span, learning_rate: float, **arguments):
    return ReduceOnPlateau(learning_rate, **arguments)


SCHEDULERS: dict[str, Callable] = {
    "Constant": _constant,
    "ConstLR": _constant,
    "Linear": _linear,
    "Cosine": _cosine,
    "Step": _step,
    "Piecewise": _piecewise,
    "MultiStepDecay": _multi_step,
    "OneCycleLR": _one_cycle,
    "ReduceOnPlateau": _plateau,
}


def build_lr_scheduler(section: Mapping, epochs: int, steps_per_epoch: int) -> paddle_lr.LRScheduler:
    """Build the schedule of ``Optimizer.lr``.

    Args:
        section: ``{"name": ..., "learning_rate": ..., "warmup_epoch": 0, "warmup_start_lr": 0.0, "by_epoch": False,
            **arguments of the schedule}``; without a name the rate is constant. ``then``, which no YAML has, is
            ``{"epoch": finished epochs, "rate": constant rate from there on}``.
        epochs: length of the run.
        steps_per_epoch: optimizer steps an epoch.

    Returns:
        A scheduler with two more attributes: ``by_epoch`` says whether to call ``step()`` after an epoch or after each
        optimizer step, ``kind`` is the schedule's name for the log.

    Raises:
        KeyError: if the name is unknown; the message names the nearest.
        ValueError: if arguments are missing or contradict each other.
        TypeError: if an argument does not belong to the schedule.
    """
    section = {key: value for key, value in section.items() if value is not None}
    kind = section.pop("name", "Constant")
    if kind not in SCHEDULERS:
        raise KeyError(f"unknown schedule {kind!r}; supported: {', '.join(nearest(kind, SCHEDULERS) or SCHEDULERS)}")
    if epochs < 1 or steps_per_epoch < 1:
        raise ValueError(f"a schedule needs at least one epoch of one step, got {epochs} epochs of {steps_per_epoch}")
    for key, problem in schedule_problems({"name": kind, **section}, epochs):
        raise ValueError(f"{key}: {problem}")
    then = section.pop("then", None)
    by_epoch = section.pop("by_epoch", False)
    warmup_epoch = section.pop("warmup_epoch", 0)
    warmup_start_lr: Union[int, float] = section.pop("warmup_start_lr", 0.0)
    span = _Span(epochs, steps_per_epoch, warmup_epoch, by_epoch)
    if kind == "Piecewise":
        names = ("learning_rate", "decay_epochs", "values")
        table = piecewise_table(epochs, **{name: section.pop(name) for name in names if name in section})
        section.update(zip(("decay_epochs", "values"), table))
        peak = section["values"][0]
    elif kind == "OneCycleLR":
        peak = section.get("max_learning_rate")
        if peak is None:
            raise ValueError("the schedule OneCycleLR needs max_learning_rate")
    elif "learning_rate" not in section:
        raise ValueError(f"the schedule {kind} needs learning_rate")
    else:
        peak = section["learning_rate"]
    scheduler = SCHEDULERS[kind](span, **section)
    if span.warmup > 0:
        scheduler = paddle_lr.LinearWarmup(
            learning_rate=scheduler, warmup_steps=span.warmup, start_lr=warmup_start_lr, end_lr=peak
        )
    if then is not None:
        if isinstance(scheduler, ReduceOnPlateau):
            raise ValueError("ReduceOnPlateau has no positions at which a constant rate could begin")
        scheduler = ThenConstant(scheduler, span.whole(then["epoch"]), then["rate"])
    scheduler.by_epoch = by_epoch
    scheduler.kind = kind
    return scheduler
