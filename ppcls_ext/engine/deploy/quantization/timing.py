"""Time of several engines, taken in turn so that what else the machine does meets all of them alike."""

from __future__ import annotations

import time
from typing import Mapping

import numpy as np

from ppcls_ext.engine.deploy.engines.base import Engine

BATCH_SIZE = 8
ROUNDS = 15


def milliseconds_an_image(engines: Mapping[str, Engine], images: np.ndarray, cpu_time: bool) -> dict[str, float]:
    """Return the median time of each engine.

    Args:
        engines: by name.
        images: a batch.
        cpu_time: count the process's time on all cores, which others on the machine disturb less, not the clock's.
    """
    clock = time.process_time if cpu_time else time.perf_counter
    for engine in engines.values():
        for _ in range(2):  # OpenVINO compiles for a shape that comes a second time
            engine(images)
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            start = clock()
            engine(images)
            times[name].append(clock() - start)
    return {name: float(np.median(taken)) * 1000 / len(images) for name, taken in times.items()}
