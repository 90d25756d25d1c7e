"""The stages of a prediction, one after the other and each timed: read, decode, preprocess, infer."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Callable, Sequence

import numpy as np

from ppcls_ext.analysis.benchmark.results import STAGES
from ppcls_ext.data.preprocess import build_transforms


class Prediction:
    """Predicts one batch of image files after the other, beginning again after the last.

    Args:
        infer: takes what preprocessing gives, ``[N, C, H, W]``, and waits for the result.
        transform_ops: the preprocessing, DecodeImage first.
        images: paths of files.
        batch: images a run.
        clock: tells the time in seconds.
    """

    def __init__(
        self,
        infer: Callable[[np.ndarray], object],
        transform_ops: Sequence[dict],
        images: Sequence[str],
        batch: int,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._infer = infer
        self._decode, *self._rest = build_transforms(transform_ops, from_bytes=True).operators
        self._paths = itertools.cycle(list(map(Path, images)))
        self._batch = batch
        self._clock = clock

    def run(self) -> dict:
        """Predict a batch; return the seconds of each stage."""
        times = [self._clock()]
        contents = [path.read_bytes() for path in itertools.islice(self._paths, self._batch)]
        times.append(self._clock())
        arrays = [self._decode(content) for content in contents]
        times.append(self._clock())
        for operator in self._rest:
            arrays = [operator(array) for array in arrays]
        batch = np.stack(arrays)
        times.append(self._clock())
        self._infer(batch)
        times.append(self._clock())
        return {stage: end - begin for stage, begin, end in zip(STAGES, times, times[1:])}
