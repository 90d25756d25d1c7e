"""What a training run reports: PaddleClas's log lines, a progress bar, figures for curves, and a closing summary."""

from __future__ import annotations

import datetime
import logging
import shlex
import socket
import sys
import time
from pathlib import Path
from typing import Any, Mapping, Optional, cast

import numpy as np
import paddle
from tqdm import tqdm

from ppcls_ext.config import Config
from ppcls_ext.config.figures import OF_AVERAGE
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.train.meters import StepTimer
from ppcls_ext.engine.train.metrics_log import EPOCH, FILE_NAME, STEP, MetricsLog
from ppcls_ext.engine.train.trackers import Trackers

logger = logging.getLogger("ppcls_ext")

#: Figures of a step that are neither losses nor metrics.
_OF_STEP = ("grad_norm", "loss_scale")


class Reporter:
    """Log, bar and curves of one run; silent on every process but the main one.

    Args:
        cfg: the validated config: length of the run, folder of its files, and which trackers are wanted.
        session: this process.
        images: of a batch, over all processes.
    """

    def __init__(self, cfg: Config, session: Session, images: int):
        self.session, self.images = session, images
        self.epochs = cast(int, cfg.Global.epochs)  # a configuration for training has it
        self._started = self._epoch_started = time.monotonic()
        self._batches = 0
        self._figures: dict[str, float] = {}
        self._metrics: Optional[MetricsLog] = None
        self._trackers: Optional[Trackers] = None
        if session.is_main:
            folder = Path(cfg.Global.output_dir)
            self._metrics = MetricsLog(folder)
            self._trackers = Trackers(folder, cfg.Global.use_visualdl, cfg.Global.use_tensorboard)

    def continue_from(self, source: Optional[Path], epoch: int, iteration: int) -> None:
        """Keep the figures up to the position at which the run goes on; see :class:`MetricsLog`."""
        if self._metrics:
            self._metrics.begin(source, epoch, iteration)

    def begin(self, name: str, model: paddle.nn.Layer, images: int, iterations: int, samples: int, seed: int) -> None:
        """Log what is trained on what."""
        self._started = time.monotonic()
        parameters = sum(int(np.prod(p.shape)) for p in model.parameters() if p.trainable)
        logger.info(
            "train %s (%s trainable parameters) on %d × %s: %d images, %d batches an epoch, %d samples a step, "
            "seed %d, Paddle %s",
            name,
            f"{parameters:,}",
            self.session.world_size,
            self.session.device,
            images,
            iterations,
            samples,
            seed,
            paddle.__version__,
        )
        if self.session.world_size > 1:
            logger.info(
                "%d processes on %d node%s; process 0, on %s, writes this log and all files",
                self.session.world_size,
                self.session.nodes,
                "s" if self.session.nodes > 1 else "",
                socket.gethostname(),
            )

    def bar(self, epoch: int, done: int, total: int) -> tqdm:
        """Return the progress bar of an epoch; it is shown on a terminal only."""
        self._epoch_started, self._batches = time.monotonic(), total - done
        return tqdm(
            total=total,
            initial=done,
            desc=f"epoch {epoch}/{self.epochs}",
            unit="batch",
            leave=False,
            disable=not (self.session.is_main and sys.stdout.isatty()),
        )

    def step(
        self,
        epoch: int,
        iteration: int,
        total: int,
        figures: dict[str, float],
        timer: StepTimer,
        ips: float,
        step: int,
        lr: float,
    ) -> None:
        """Log one step; ``figures`` are the epoch's means so far, ``lr`` is what the step took."""
        steps_left = (self.epochs - epoch) * total + total - iteration - 1
        logger.info(
            "[Train][Epoch %d/%d][Iter: %d/%d]%s, batch_cost: %.5fs, reader_cost: %.5f, ips: %.5f samples/s, eta: %s",
            epoch,
            self.epochs,
            iteration,
            total,
            _format(figures),
            timer.batch_cost,
            timer.reader_cost,
            ips,
            timer.eta(steps_left),
        )
        train = {name: value for name, value in figures.items() if not name.startswith("lr(") and name not in _OF_STEP}
        self._record(
            {
                "kind": STEP,
                "epoch": epoch,
                "iteration": iteration,
                "step": step,
                "lr": lr,
                "train": train,
                **{name: figures[name] for name in _OF_STEP if name in figures},
                "images_per_second": round(ips * self.session.world_size, 2),
            }
        )

    def epoch(self, epoch: int, figures: dict[str, float]) -> None:
        """Log the means of a whole epoch."""
        logger.info("[Train][Epoch %d/%d][Avg]%s", epoch, self.epochs, _format(figures))
        self._figures = figures
        self._seconds = time.monotonic() - self._epoch_started

    def record_epoch(self, epoch: int, step: int, lr: float, evaluation: Mapping[str, float]) -> None:
        """Write the line of an epoch; before its checkpoints, so that what resumes from one of them finds it.

        Args:
            epoch: from 1.
            step: optimizer steps so far.
            lr: of the last step.
            evaluation: figures of evaluation, with ``ema_`` before those of the averaged weights; empty without.
        """
        row = {"kind": EPOCH, "epoch": epoch, "step": step, "lr": lr, "train": self._figures}
        own = {name: value for name, value in evaluation.items() if not name.startswith(OF_AVERAGE)}
        averaged = {name.removeprefix(OF_AVERAGE): evaluation[name] for name in evaluation if name not in own}
        if own:
            row["eval"] = own
        if averaged:
            row["eval_ema"] = averaged
        row["images_per_second"] = round(self.images * self._batches / max(self._seconds, 1e-9), 2)
        self._record(row)

    def _record(self, row: dict[str, Any]) -> None:
        if self._metrics and self._trackers:
            self._metrics.write(row)
            self._trackers.write(row)

    def end(self, summary: dict[str, Any], output_dir: Path, names: list[str], config: Optional[Path]) -> None:
        """Log the outcome: time, best figure, files and the command that comes next.

        Args:
            summary: what :meth:`ppcls_ext.engine.train.trainer.Trainer.run` returns.
            output_dir: where the files are.
            names: the checkpoints there.
            config: the resolved configuration, or None.
        """
        seconds = datetime.timedelta(seconds=round(time.monotonic() - self._started))
        best = ""
        if summary["best_epoch"]:
            best = f"; best {summary['criterion']}: {summary['best_metric']:.5f} at epoch {summary['best_epoch']}"
        logger.info("finished epoch %d, step %d, in %s%s", summary["epochs"], summary["steps"], seconds, best)
        logger.info("files in %s: %s", output_dir, ", ".join([*names, "train.log", FILE_NAME]))
        if config is not None and names:
            weights = output_dir / ("best_model" if "best_model" in names else "latest")
            logger.info(
                "next: ppcls_ext %s -c %s -o Global.pretrained_model=%s",
                "export" if summary["best_epoch"] else "eval",
                shlex.quote(str(config)),
                shlex.quote(str(weights)),
            )

    def close(self) -> None:
        """Write out what is still held back."""
        if self._metrics and self._trackers:
            self._metrics.close()
            self._trackers.close()


def _format(figures: dict[str, float]) -> str:
    return ", ".join(f"{k}: {v:.8f}" if k.startswith("lr(") else f"{k}: {v:.5f}" for k, v in figures.items())
