"""Running figures of a training epoch, and the times behind the ETA."""

from __future__ import annotations

import datetime
import time
from collections import deque
from typing import Optional

import numpy as np

from ppcls_ext.metrics import Metrics


class EpochMeter:
    """Sums of losses and metrics since the start of the epoch; figures are means over samples.

    Args:
        loss_names: names that the loss reports, in order.
        metrics: the metrics of ``Metric.Train``, or None.
    """

    def __init__(self, loss_names: list[str], metrics: Optional[Metrics]):
        self.loss_names = list(loss_names)
        self.metrics = metrics
        self.reset()

    def reset(self) -> None:
        """Begin an epoch."""
        self._sums = np.zeros(1 + len(self.loss_names), dtype=np.float64)
        if self.metrics:
            self.metrics.reset()

    def add(self, losses: dict[str, float], samples: int) -> None:
        """Count a batch's mean losses; metrics are updated by the caller."""
        self._sums += samples * np.array([1.0, *(losses[name] for name in self.loss_names)])

    def state(self) -> np.ndarray:
        """Return all sums as one float64 vector; those of several processes may be added."""
        return np.concatenate([self._sums, self.metrics.state() if self.metrics else np.zeros(0)])

    def load_state(self, state: np.ndarray) -> None:
        """Restore sums that :meth:`state` returned."""
        self._sums = np.array(state[: len(self._sums)], dtype=np.float64)
        if self.metrics:
            self.metrics.load_state(state[len(self._sums) :])

    def figures(self, state: np.ndarray) -> dict[str, float]:
        """Return the means that follow from a (possibly summed) state, metrics first as PaddleClas prints them."""
        own = self.state()
        self.load_state(state)
        figures = self.metrics.compute() if self.metrics and state[0] else {}
        if state[0]:
            figures.update({name: value / state[0] for name, value in zip(self.loss_names, self._sums[1:])})
        self.load_state(own)
        return figures


class StepTimer:
    """Times of a step, over the last steps: the whole step and the part spent waiting for data, in seconds."""

    def __init__(self, window: int = 50):
        self._batch: deque[float] = deque(maxlen=window)
        self._reader: deque[float] = deque(maxlen=window)
        self._tick = time.monotonic()

    def restart(self) -> None:
        """Exclude the time since the last step, such as an evaluation."""
        self._tick = time.monotonic()

    def data_ready(self) -> None:
        """Note that the batch has arrived."""
        self._reader.append(time.monotonic() - self._tick)

    def step_done(self) -> None:
        """Note that the step is over."""
        now = time.monotonic()
        self._batch.append(now - self._tick)
        self._tick = now

    @property
    def batch_cost(self) -> float:
        """Mean seconds a step."""
        return sum(self._batch) / max(1, len(self._batch))

    @property
    def reader_cost(self) -> float:
        """Mean seconds a step that the model waited for data."""
        return sum(self._reader) / max(1, len(self._reader))

    def eta(self, steps_left: int) -> str:
        """Return the time that ``steps_left`` steps will take, as ``days, h:mm:ss``."""
        return str(datetime.timedelta(seconds=int(self.batch_cost * steps_left)))
