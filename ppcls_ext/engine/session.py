"""One process of a run: its device, its rank, its log, and the few collectives that the engine needs."""

from __future__ import annotations

import logging
import os
import random
import sys
import textwrap
from pathlib import Path
from typing import Optional

import numpy as np
import paddle
import paddle.distributed as dist
from tqdm import tqdm

logger = logging.getLogger("ppcls_ext")

#: PaddleClas's line format, which log parsers know.
LOG_FORMAT = "[%(asctime)s] ppcls %(levelname)s: %(message)s"
DATE_FORMAT = "%Y/%m/%d %H:%M:%S"


class Session:
    """The process' place in the run.

    Attributes:
        rank: number of this process, 0 to ``world_size`` - 1.
        world_size: number of processes, on all nodes.
        nodes: number of machines, each with a launcher of its own.
        device: Paddle's device string, such as ``cpu`` or ``gpu:0``.
    """

    def __init__(self, device: str):
        environment = dist.ParallelEnv()
        self.world_size = environment.world_size
        # The launcher gives each process its card through the environment; on CPU there is no such number.
        self.device = device if device == "cpu" else f"{device}:{environment.device_id}"
        paddle.set_device(self.device)
        if self.world_size > 1 and not dist.is_initialized():
            dist.init_parallel_env()
        self.rank = dist.get_rank() if self.world_size > 1 else 0
        self.nodes = int(os.environ.get("PADDLE_NNODES") or 1)  # set by the launcher

    @property
    def is_main(self) -> bool:
        """Whether this process, the first of the first node, writes files and the console."""
        return self.rank == 0

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of ``values`` over all processes; every process must call it."""
        values = np.asarray(values, dtype=np.float64)
        if self.world_size == 1:
            return values
        tensor = paddle.to_tensor(values)
        dist.all_reduce(tensor)
        return tensor.numpy()

    def gather(self, value: float) -> np.ndarray:
        """Return the ``value`` of each process, by rank; every process must call it."""
        values = np.zeros(self.world_size)
        values[self.rank] = value
        return self.sum(values)


def seed_everything(seed: int, rank: int = 0, step: int = 0) -> None:
    """Seed Paddle, NumPy and Python from the run's seed, the process and the step.

    The engine calls this before each step, so that the state of the generators follows from the step number: a resumed
    run draws what the unbroken one would have drawn, and there is no state of many processes to gather and keep.
    """
    words = np.random.SeedSequence([seed, rank, step]).generate_state(2)
    paddle.seed(int(words[0]))
    np.random.seed(int(words[1]))
    random.seed(int(words[1]))


class _ConsoleHandler(logging.Handler):
    """Writes lines to standard output, above a progress bar if one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)


def start_logging(is_main: bool, file: Optional[Path] = None) -> logging.Logger:
    """Let the package's log go to standard output and, appended, to ``file``; processes but the main one stay silent.

    Lines are written around tqdm's progress bars.
    """
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = False
    logger.setLevel(logging.INFO)
    if not is_main:
        logger.addHandler(logging.NullHandler())
        return logger
    handlers: list[logging.Handler] = [_ConsoleHandler()]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(LOG_FORMAT, DATE_FORMAT))
        logger.addHandler(handler)
    return logger


def log_config(cfg) -> None:
    """Log what the validated config says beyond the defaults, and what it warns of."""
    logger.info("configuration\n%s", textwrap.indent(cfg.summary(), "  "))
    for warning in cfg.warnings:
        logger.warning("%s", warning)
