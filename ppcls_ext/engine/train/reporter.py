"""What a training run tells: PaddleClas's log lines, the progress bar and VisualDL."""

from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path

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
        self._writer = None
        if visualdl_dir is not None and session.is_main:
            from visualdl import LogWriter  # slow to import, and only some runs want it

            self._writer = LogWriter(logdir=str(visualdl_dir))

    def begin(self, name: str, model: paddle.nn.Layer, images: int, iterations: int, samples: int, seed: int) -> None:
        """Say what is trained on what."""
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
        """Return the progress bar of an epoch; it shows itself on a terminal alone."""
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
        """Log one step; figures are the epoch's means so far."""
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

    def close(self) -> None:
        """Write out what VisualDL still holds back."""
        if self._writer:
            self._writer.close()


def _format(figures: dict[str, float]) -> str:
    return ", ".join(f"{k}: {v:.8f}" if k.startswith("lr(") else f"{k}: {v:.5f}" for k, v in figures.items())
