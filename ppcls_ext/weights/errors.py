"""What can be wrong with weights, and how a message lists it."""

from __future__ import annotations

from typing import Sequence


class ConversionError(ValueError):
    """The file is sound, but not of the source or the model that it was taken for."""


class WeightMismatchError(ValueError):
    """The weights do not belong to the model."""


class NonFiniteWeightsError(ValueError):
    """The weights hold NaN or infinity, so that no output of the model would mean anything."""


class MissingWeightsError(ValueError):
    """No weights are given where random ones would give meaningless results."""


class RecordError(ValueError):
    """The record or manifest beside a file of weights is damaged or malformed; the message names it."""


class WeightPlanError(ValueError):
    """The weights that were asked for are not there, or belong to a model with other arguments.

    Attributes:
        problems: ``(argument, message)`` for each argument that has to change.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]):
        super().__init__("; ".join(message for _, message in problems))
        self.problems = tuple(problems)


class NoPublishedWeightsError(WeightPlanError):
    """There are no weights that could be downloaded; the message says what can be done instead."""

    def __init__(self, message: str):
        super().__init__([("pretrained", message)])


def listed(problems: list, most: int = 40) -> str:
    """Return one indented line for each problem, of ``most`` at most."""
    shown = [short(str(problem)) for problem in problems[:most]]
    if len(problems) > most:
        shown.append(f"… and {len(problems) - most} more")
    return "".join(f"\n  {line}" for line in shown)


def short(text: str, length: int = 300) -> str:
    """Return ``text``, which may quote a file, cut to ``length`` characters."""
    return text if len(text) <= length else f"{text[:length]}…"


def as_arguments(values: dict) -> str:
    """Return ``values`` as they are written in a call: ``form='official', depths=[2, 2]``."""
    return ", ".join(f"{key}={short(repr(value))}" for key, value in values.items())
