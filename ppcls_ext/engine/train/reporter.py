"""What a training run reports: PaddleClas's log lines, the progress bar, VisualDL's curves and a closing summary."""

from __future__ import annotations

import datetime
import logging
import shlex
import socket
import sys
import time
from pathlib import Path
from typing import Any, Optional

import numpy as np
import paddle
from tqdm import tqdm

from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.train.meters import StepTimer

logger = logging.getLogger("ppcls_ext")


class Reporter:
    """Log, bar and curves of one run; silent on every process but the main one.

    Args:
        session: this process.
        epochs: length of the run.
        visualdl_dir: folder for VisualDL's records, or None.
    """

    def __init__(self, session: Session, epochs: int, visualdl_dir: Path | None = None):
        self.session, self.epochs = session, epochs
        self._started = time.monotonic()
        self._writer = _visualdl_writer(visualdl_dir) if visualdl_dir is not None and session.is_main else None

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
        return tqdm(
            total=total,
            initial=done,
            desc=f"epoch {epoch}/{self.epochs}",
            unit="batch",
            leave=False,
            disable=not (self.session.is_main and sys.stdout.isatty()),
        )

    def step(
        self, epoch: int, iteration: int, total: int, figures: dict[str, float], timer: StepTimer, ips: float, step: int
    ) -> None:
        """Log one step; ``figures`` are the epoch's means so far."""
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
        self.scalars({name if name.startswith("lr(") else f"train_{name}": v for name, v in figures.items()}, step)

    def epoch(self, epoch: int, figures: dict[str, float]) -> None:
        """Log the means of a whole epoch."""
        logger.info("[Train][Epoch %d/%d][Avg]%s", epoch, self.epochs, _format(figures))

    def scalars(self, figures: dict[str, float], step: int) -> None:
        """Add points to VisualDL's curves."""
        if self._writer:
            for name, value in figures.items():
                self._writer.add_scalar(tag=name, value=float(value), step=step)

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
        logger.info("files in %s: %s", output_dir, ", ".join([*names, "train.log"]))
        if config is not None and names:
            weights = output_dir / ("best_model" if "best_model" in names else "latest")
            logger.info(
                "next: ppcls_ext %s -c %s -o Global.pretrained_model=%s",
                "export" if summary["best_epoch"] else "eval",
                shlex.quote(str(config)),
                shlex.quote(str(weights)),
            )

    def close(self) -> None:
        """Write out what VisualDL still holds back."""
        if self._writer:
            self._writer.close()


def _visualdl_writer(folder: Path):
    from visualdl import LogWriter  # slow to import, and only some runs want it

    return LogWriter(logdir=str(folder))


def _format(figures: dict[str, float]) -> str:
    return ", ".join(f"{k}: {v:.8f}" if k.startswith("lr(") else f"{k}: {v:.5f}" for k, v in figures.items())
