"""Arguments of optimizers and schedules that exclude or need each other, checked before anything is built.

The configuration's check and the functions that build share these: each fact has one owner and one sentence.
"""

from __future__ import annotations

from typing import Iterator, Mapping, Optional, Sequence

import paddle

#: Paddle's defaults of OneCycleLR.
ONE_CYCLE = {"divide_factor": 25.0, "end_learning_rate": 0.0001, "phase_pct": 0.3}
#: Arguments of schedules that are lengths in epochs.
_LENGTHS = ("warmup_epoch", "cooldown_epoch", "step_size", "decay_epochs", "milestones")


#: Optimizers that Paddle 2.6 has not.
OF_PADDLE_3 = ("NAdam", "RAdam")


def schedule_problems(section: Mapping, epochs: Optional[int] = None) -> Iterator[tuple[str, str]]:
    """Return ``(key, sentence)`` for each argument of ``Optimizer.lr`` that is wrong.

    Args:
        section: the section; keys that are None count as absent.
        epochs: length of the run, if it is known.
    """
    lr = {key: value for key, value in section.items() if value is not None}
    name, peak = lr.get("name", "Constant"), lr.get("learning_rate")
    if name == "ReduceOnPlateau" and lr.get("warmup_epoch"):
        yield "warmup_epoch", "ReduceOnPlateau follows the evaluations alone; Paddle cannot put a warm-up before it"
    if name == "ReduceOnPlateau" and lr.get("min_lr", 0.0) > (peak or 0.0):
        yield "min_lr", f"got {lr['min_lr']}; expected at most the learning rate, {peak}"
    if name == "OneCycleLR":
        yield from _one_cycle_problems(lr)
    if name == "Piecewise":
        names = ("learning_rate", "decay_epochs", "values")
        try:
            peak = piecewise_table(epochs or 1, **{key: lr[key] for key in names if key in lr})[1][0]
        except ValueError as error:
            yield "values", str(error)
    milestones = lr.get("milestones", [])
    if list(milestones) != sorted(set(milestones)):
        yield "milestones", f"got {list(milestones)}; expected increasing epochs"
    if lr.get("by_epoch"):
        for key in _LENGTHS:
            values = lr.get(key, [])
            if any(item != int(item) for item in (values if isinstance(values, (list, tuple)) else [values])):
                yield key, f"got {values}; expected whole epochs with by_epoch"
    if peak is None:
        return
    start = lr.get("warmup_start_lr", 0.0)
    if lr.get("warmup_epoch") and start >= peak:
        yield "warmup_start_lr", f"got {start}; expected less than the learning rate, {peak}"
    for key in ("eta_min", "end_lr"):
        if lr.get(key, 0.0) > peak:
            yield key, f"got {lr[key]}; expected at most the learning rate, {peak}, from which the schedule falls to it"
    warmup, cooldown = lr.get("warmup_epoch", 0), lr.get("cooldown_epoch", 0)
    if epochs and cooldown >= epochs - warmup > 0:
        yield (
            "cooldown_epoch",
            f"got {cooldown:g}; expected less than the {epochs - warmup:g} of the {epochs} epochs that the warm-up "
            "leaves",
        )


def _one_cycle_problems(lr: Mapping) -> Iterator[tuple[str, str]]:
    peak, end = lr.get("max_learning_rate"), lr.get("end_learning_rate", ONE_CYCLE["end_learning_rate"])
    start = peak and peak / lr.get("divide_factor", ONE_CYCLE["divide_factor"])
    if peak and end > start:
        yield (
            "end_learning_rate",
            f"got {end:g}; expected at most the rate it starts from, max_learning_rate / divide_factor = {start:g}",
        )
    if lr.get("three_phase") and lr.get("phase_pct", ONE_CYCLE["phase_pct"]) >= 0.5:
        yield "phase_pct", f"got {lr['phase_pct']}; expected less than 0.5 with three_phase: two phases take it"


def optimizer_problems(section: Mapping) -> Iterator[tuple[str, str]]:
    """Return ``(key, sentence)`` for each argument of ``Optimizer`` that contradicts another."""
    given = {key for key, value in section.items() if value is not None}
    name = section.get("name")
    if name in OF_PADDLE_3 and not hasattr(paddle.optimizer, name):
        yield "name", f"{name} needs Paddle 3; this is {paddle.__version__}, which has Adam, AdamW and Lamb"
    if {"weight_decay", "regularizer"} <= given:
        yield "weight_decay", "give weight_decay or regularizer, not both"
    if {"clip_norm", "clip_global_norm"} <= given:
        yield "clip_norm", "give clip_global_norm (norm of all gradients) or clip_norm (norm of each tensor), not both"


def piecewise_table(
    epochs: int,
    learning_rate: Optional[float] = None,
    decay_epochs: Optional[Sequence[float]] = None,
    values: Optional[Sequence[float]] = None,
) -> tuple:
    """Return ``(decay_epochs, values)`` of a Piecewise schedule.

    The table that the YAML gives is honoured. ``learning_rate`` alone means a tenth every 30 epochs; beside a
    table it may only repeat the first value.

    Raises:
        ValueError: if the arguments contradict each other or are incomplete.
    """
    if decay_epochs is None and values is None:
        if learning_rate is None:
            raise ValueError("Piecewise needs decay_epochs and values, or learning_rate alone")
        decay_epochs = list(range(30, epochs, 30))
        return decay_epochs, [learning_rate * 0.1**index for index in range(len(decay_epochs) + 1)]
    if decay_epochs is None or values is None:
        raise ValueError("Piecewise needs both decay_epochs and values")
    if len(values) != len(decay_epochs) + 1:
        raise ValueError(
            f"Piecewise: values must be one longer than decay_epochs, got {len(values)} values for "
            f"{len(decay_epochs)} decay_epochs"
        )
    if list(decay_epochs) != sorted(set(decay_epochs)):
        raise ValueError(f"Piecewise: decay_epochs must increase, got {list(decay_epochs)}")
    if learning_rate is not None and learning_rate != values[0]:
        raise ValueError(
            f"Piecewise: learning_rate {learning_rate} contradicts values[0] {values[0]}; "
            "scale values, or leave values and decay_epochs out"
        )
    return list(decay_epochs), list(values)
