"""Which epoch is the best one, and when to stop since no better one comes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Mapping, Optional


@dataclass
class Best:
    """The best value of the criterion so far, and its epoch; -inf and 0 before the first evaluation."""

    metric: float = float("-inf")
    epoch: int = 0

    def offer(self, value: float, epoch: int, falls: bool) -> bool:
        """Take over a better value and return whether it is one; a tie keeps the earlier epoch.

        Args:
            value: of the criterion in this epoch.
            epoch: number of finished epochs.
            falls: whether less is better, as of a loss.
        """
        if self.epoch and not (value < self.metric if falls else value > self.metric):
            return False
        self.metric, self.epoch = value, epoch
        return True


class EarlyStopping:
    """Counts evaluations without an improvement.

    An evaluation improves if its figure is better than the one of the last improvement by more than ``min_delta``. The
    first one improves. Figures are sums over all processes, so that all of them come to the same end.

    Args:
        metric: name of the figure that is watched.
        patience: evaluations in a row without an improvement, after which training stops; at least 1.
        min_delta: what an improvement must exceed.
        falls: whether less is better.
    """

    def __init__(self, metric: str, patience: int, min_delta: float, falls: bool):
        self.metric, self.patience, self.min_delta, self.falls = metric, patience, min_delta, falls
        self.reference = Best()
        self.waited = 0

    @property
    def is_over(self) -> bool:
        """Whether the patience is at its end."""
        return self.waited >= self.patience

    def update(self, value: float, epoch: int) -> None:
        """Count an evaluation."""
        gain = (self.reference.metric - value) if self.falls else (value - self.reference.metric)
        if not self.reference.epoch or gain > self.min_delta:
            self.reference, self.waited = Best(value, epoch), 0
        else:
            self.waited += 1

    def reason(self) -> str:
        """Return why training stopped, as a sentence."""
        direction = "fallen" if self.falls else "risen"
        times = "1 evaluation" if self.waited == 1 else f"{self.waited} evaluations"
        return (
            f"{self.metric} has not {direction} by more than {self.min_delta:g} in {times} since "
            f"epoch {self.reference.epoch} ({self.reference.metric:.5f})"
        )

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {
            "metric": self.metric,
            "best": self.reference.metric,
            "epoch": self.reference.epoch,
            "waited": self.waited,
        }

    def load_state(self, state: Optional[Mapping[str, Any]]) -> None:
        """Restore what :meth:`state` returned; the state of a different metric, or none, begins afresh."""
        if state and state["metric"] == self.metric:
            self.reference, self.waited = Best(float(state["best"]), int(state["epoch"])), int(state["waited"])


def is_early_stopping_state(value: Any) -> bool:
    """Return whether ``value`` is None, or what :meth:`EarlyStopping.state` returns."""
    if value is None:
        return True
    return (
        isinstance(value, dict)
        and isinstance(value.get("metric"), str)
        and isinstance(value.get("best"), (int, float))
        and not math.isnan(value["best"])
        and all(isinstance(value.get(name), int) and value[name] >= 0 for name in ("epoch", "waited"))
    )
