"""Evaluation after an epoch: of the weights and of their average, and by which figure they are judged."""

from __future__ import annotations

from typing import Optional

from ppcls_ext.config import Config
from ppcls_ext.config.figures import OF_AVERAGE, criterion_of
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.evaluator import Evaluator
from ppcls_ext.engine.precision import Precision
from ppcls_ext.engine.train.selection import EarlyStopping
from ppcls_ext.engine.train.state import TrainState


class EpochEvaluation:
    """Evaluates a run's weights, and those of its moving average.

    Args:
        cfg: the validated config.
        session: this process.
        precision: autocast settings.

    Attributes:
        criterion: name of the figure that decides which model is best; None without any.
        falls: whether less of it is better.
    """

    def __init__(self, cfg: Config, session: Session, precision: Precision):
        self.evaluator = Evaluator(cfg, session, precision)
        loss = self.evaluator.loss
        self.losses = [*loss.names, "loss"] if loss else []
        self.criterion: Optional[str] = criterion_of(cfg) or self.evaluator.criterion
        self.falls = self.criterion in self.losses
        self._stopping = cfg.Global.early_stopping

    def early_stopping(self) -> Optional[EarlyStopping]:
        """Return what watches the figure of ``Global.early_stopping``; None without that section."""
        if self._stopping is None:
            return None
        metric = self._stopping.metric or self.criterion or ""  # the configuration has been checked: there is one
        falls = metric in self.losses or metric.removeprefix(OF_AVERAGE) in self.losses
        return EarlyStopping(metric, self._stopping.patience, self._stopping.min_delta, falls)

    def run(self, state: TrainState, epoch: int) -> dict[str, float]:
        """Return the figures of the weights, and with ``ema_`` before their names those of the average.

        Raises:
            InvalidLogitsError: if the model returns NaN or infinity.
        """
        figures = self.evaluator.run(state.model, epoch)
        if state.ema:
            with state.ema.applied():
                averaged = self.evaluator.run(state.model, epoch, "_ema")
            figures = {**figures, **{f"{OF_AVERAGE}{name}": value for name, value in averaged.items()}}
        return figures
