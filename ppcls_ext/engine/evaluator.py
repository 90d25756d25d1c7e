"""Evaluation: every sample counted exactly once, on any number of processes."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Optional

import numpy as np
import paddle
from tqdm import tqdm

from ppcls_ext.config import Config
from ppcls_ext.data import build_dataloader
from ppcls_ext.engine.class_names import trained_class_names
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.logger import log_config, start_logging
from ppcls_ext.engine.model import load_trained, logits_of
from ppcls_ext.engine.precision import Precision
from ppcls_ext.losses import build_loss
from ppcls_ext.metrics import build_metrics

logger = logging.getLogger("ppcls_ext")


class Evaluator:
    """Runs a model over ``DataLoader.Eval`` and returns exact means.

    Each process evaluates its share of the samples, without padding; sums and counts are added at the end, so the
    result depends neither on the number of processes nor on a ragged last batch.

    Args:
        cfg: the validated config.
        session: this process.
        precision: autocast settings; by default float32.
    """

    def __init__(self, cfg: Config, session: Session, precision: Optional[Precision] = None):
        self.session = session
        self.precision = precision or Precision()
        self.print_every = cfg.Global.print_batch_step
        self.loader = build_dataloader(
            cfg.section("DataLoader.Eval"),
            "Eval",
            seed=cfg.Global.seed or 0,
            rank=session.rank,
            world_size=session.world_size,
            class_names=trained_class_names(cfg, recorded=cfg.mode != "train"),
        )
        eval_loss = cfg.section("Loss.Eval")
        self.loss = build_loss(eval_loss) if eval_loss else None
        eval_metric = cfg.section("Metric.Eval")
        self.metrics = build_metrics(eval_metric, cfg.Arch.class_num) if eval_metric else None

    @property
    def criterion(self) -> Optional[str]:
        """Name of the figure that decides which model is best, such as ``top1``; None without ``Metric.Eval``."""
        return self.metrics.criterion if self.metrics else None

    @paddle.no_grad()
    def run(self, model: paddle.nn.Layer, epoch: int = 0) -> dict[str, float]:
        """Return the means over all samples: the losses of ``Loss.Eval`` and the figures of ``Metric.Eval``.

        Raises:
            InvalidLogitsError: if the model returns NaN or infinity.
        """
        was_training = model.training
        model.eval()
        if self.metrics:
            self.metrics.reset()
        loss_sums: dict[str, float] = {}
        samples, started = 0, time.monotonic()
        batches = tqdm(
            self.loader.epoch(0),
            total=len(self.loader),
            desc="eval",
            unit="batch",
            leave=False,
            disable=not (self.session.is_main and sys.stdout.isatty()),
        )
        try:
            for index, batch in enumerate(batches):
                tick = time.monotonic()
                with self.precision.for_evaluation():
                    logits = logits_of(model(batch.images)).astype("float32")
                size = len(batch.indices)
                samples += size
                if self.loss:
                    for name, value in self.loss(logits, batch.labels).items():
                        loss_sums[name] = loss_sums.get(name, 0.0) + float(value) * size
                if self.metrics:
                    self.metrics.update(logits, batch.labels)
                if index % self.print_every == 0:
                    self._log_batch(epoch, index, loss_sums, samples, size / (time.monotonic() - tick))
        finally:
            if was_training:
                model.train()
        result = self._gather(loss_sums, samples)
        logger.info("[Eval][Epoch %d][Avg]%s", epoch, ", ".join(f"{k}: {v:.5f}" for k, v in result.items()))
        logger.info("[Eval] %d samples in %.1f s", self._samples, time.monotonic() - started)
        return result

    def _log_batch(self, epoch: int, index: int, loss_sums: dict, samples: int, ips: float) -> None:
        figures = {name: value / samples for name, value in loss_sums.items()}
        if self.metrics:
            figures.update(self.metrics.compute())
        logger.info(
            "[Eval][Epoch %d][Iter: %d/%d]%s, ips: %.5f images/sec",
            epoch,
            index,
            len(self.loader),
            ", ".join(f"{k}: {v:.5f}" for k, v in figures.items()),
            ips,
        )

    def _gather(self, loss_sums: dict[str, float], samples: int) -> dict[str, float]:
        # A process may have no sample at all, and then knows no loss names; the order below is the same everywhere.
        names = [*self.loss.names, "loss"] if self.loss else []
        state = self.metrics.state() if self.metrics else np.zeros(0)
        total = self.session.sum(np.concatenate([[samples], [loss_sums.get(name, 0.0) for name in names], state]))
        self._samples = int(total[0])
        result = {name: float(value / total[0]) for name, value in zip(names, total[1:])}
        if self.metrics:
            self.metrics.load_state(total[1 + len(names) :])
            result.update(self.metrics.compute())
        return result


def evaluate(cfg: Config, random_weights: bool = False) -> dict[str, float]:
    """Evaluate the weights that the config names on ``DataLoader.Eval``: what ``tools/eval.py`` does.

    Args:
        cfg: the validated config; ``Global.pretrained_model`` names the weights.
        random_weights: accept a config that names no weights; the model then has its initial ones.

    Returns:
        Means over all samples, such as ``{"CELoss": 0.1, "loss": 0.1, "top1": 0.98}``.

    Raises:
        MissingWeightsError, WeightMismatchError, NonFiniteWeightsError: see
            :func:`ppcls_ext.engine.model.load_trained`.
    """
    session = Session(cfg.Global.device)
    start_logging(session.is_main, Path(cfg.Global.output_dir) / "eval.log")
    log_config(cfg)
    evaluator = Evaluator(cfg, session, Precision.from_config(cfg))
    return evaluator.run(load_trained(cfg, "evaluated", random_weights))
