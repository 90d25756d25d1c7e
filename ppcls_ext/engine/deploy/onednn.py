"""Whether a graph is to run in oneDNN: tried in a process of its own, since some graphs crash or hang there.

On a CPU, oneDNN makes Paddle Inference up to 2.8 times as fast. But on Paddle 3.3 Swin fails and DilateFormer hangs
with it, and on 2.6 Swin takes seven times as long and DilateFormer crashes. An export tries it and writes down what
came of it; a predictor uses oneDNN only if that went well, with the same Paddle and the same instruction sets.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Optional, Sequence

import numpy as np
import paddle

from ppcls_ext.engine.deploy.comparison import difference
from ppcls_ext.engine.deploy.engines.graphs import GraphFiles
from ppcls_ext.engine.deploy.engines.paddle_engine import PaddleEngine
from ppcls_ext.engine.deploy.paddle_writing import PIR_FLAG, Sample
from ppcls_ext.utils.cpu_features import cpu_features

logger = logging.getLogger("ppcls_ext")

REPEATS = 3
#: Of the time without oneDNN; what saves less is not worth a second set of kernels.
WORTHWHILE = 0.9
#: A graph hangs if it takes this many times as long, and ``GRACE`` seconds, as without oneDNN.
PATIENCE, GRACE = 5, 10
#: Seconds for the whole process, on systems that cannot set an alarm.
TIMEOUT = 900
SAMPLES, RESULTS, TIMES = "samples.npz", "results.npz", "times.json"


def try_onednn(graph: GraphFiles, samples: Sequence[Sample]) -> dict:
    """Run a graph with and without oneDNN and compare it with the model.

    Args:
        graph: of Paddle.
        samples: inputs, and what the model gives for them.

    Returns:
        What ``inference.yml`` notes: ``use``; ``time``, as a fraction of the time without; ``reason`` why not; and
        where this was found out, ``paddle`` and ``cpu``.
    """
    found: dict = {"use": False}
    if all(np.array_equal(row, samples[0].output[0]) for sample in samples for row in sample.output):
        reason: Optional[str] = "the model gives the same output for every input, so a comparison would prove nothing"
    else:
        with tempfile.TemporaryDirectory(dir=graph.path.parent, prefix=".onednn-") as name:
            reason = _try(graph, samples, Path(name), found)
    found["use"] = reason is None
    if reason is not None:
        found["reason"] = reason
    logger.info("Paddle Inference: oneDNN is %s", "on" if reason is None else f"off: {reason}")
    return {**found, "paddle": paddle.__version__, "cpu": cpu_features()}


def _try(graph: GraphFiles, samples: Sequence[Sample], folder: Path, found: dict) -> Optional[str]:
    """Return what went wrong, if anything; enter the time into ``found``."""
    np.savez(folder / SAMPLES, *[sample.images for sample in samples])
    paths = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "MALLOC_PERTURB_": "165",  # what is read before it is written, or after it is freed, becomes visible
    }
    environment.pop(PIR_FLAG, None)  # it is for writing
    command = [sys.executable, "-m", __name__, str(graph.path), str(folder)]
    try:
        child = subprocess.run(
            command, env=environment, timeout=TIMEOUT, capture_output=True, text=True, errors="replace", check=False
        )
    except subprocess.TimeoutExpired:
        return f"it does not end within {TIMEOUT} seconds"
    if child.returncode:
        return _how_it_ended(child)
    results = np.load(folder / RESULTS)
    for index, sample in enumerate(samples):
        for repeat in range(REPEATS):
            _, problem = difference(sample.images.shape, sample.output, results[f"{index}_{repeat}"], "it", quiet=True)
            if problem:
                return problem
    without, with_it = json.loads((folder / TIMES).read_text())
    found["time"] = round(with_it / without, 2)
    return None if found["time"] <= WORTHWHILE else f"it takes {found['time']:g} times as long as without"


def _how_it_ended(child: subprocess.CompletedProcess) -> str:
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        return "it hangs" if name == "SIGALRM" else f"it crashes with {name}"
    lines = [line.strip() for line in child.stderr.splitlines() if line.strip()]
    return f"it fails: {lines[-1]}" if lines else f"it fails with exit code {child.returncode}"


def _run(graph: str, folder: str) -> None:
    """Run the samples without oneDNN, then with it, and leave results and seconds in ``folder``."""
    loaded = np.load(Path(folder, SAMPLES))
    samples = [loaded[name] for name in loaded.files]
    files = GraphFiles(Path(graph), ("output",))
    results: dict[str, np.ndarray] = {}
    without = _seconds(PaddleEngine(files), samples, {})
    if hasattr(signal, "alarm"):  # its default action ends the process, whatever native code does meanwhile
        signal.alarm(GRACE + int(PATIENCE * REPEATS * without))
    with_it = _seconds(PaddleEngine(files, onednn=True), samples, results)
    np.savez(Path(folder, RESULTS), **results)
    Path(folder, TIMES).write_text(json.dumps([without, with_it]))


def _seconds(engine: PaddleEngine, samples: Sequence[np.ndarray], results: dict) -> float:
    """Run the samples several times, in turn, since some faults show on the way back to an earlier size."""
    rounds = []
    for repeat in range(REPEATS):
        start = time.perf_counter()
        for index, images in enumerate(samples):
            results[f"{index}_{repeat}"] = engine(images)["output"]
        rounds.append(time.perf_counter() - start)
    return min(rounds)


if __name__ == "__main__":
    _run(*sys.argv[1:])
