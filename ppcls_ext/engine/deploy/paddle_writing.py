"""From a model to Paddle's own graph, checked: ``inference.json`` or ``inference.pdmodel``."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
import paddle
from paddle import nn
from paddle.static import InputSpec

from ppcls_ext.engine.deploy.comparison import CHECKED_BATCH_SIZES, TRACE_ERRORS, difference, last_line
from ppcls_ext.engine.deploy.engines.graphs import PADDLE_SUFFIXES, PREFIX, paddle_graph
from ppcls_ext.engine.deploy.engines.paddle_engine import PaddleEngine
from ppcls_ext.engine.deploy.errors import ExportError
from ppcls_ext.engine.deploy.pdmodel_format import legacy_tracing

#: Read by Paddle 3 at import: 0 makes it write ``.pdmodel`` instead of ``.json``.
PIR_FLAG = "FLAGS_enable_pir_api"

logger = logging.getLogger("ppcls_ext")


@dataclass(frozen=True)
class Sample:
    """An input and what the dygraph model gives for it."""

    images: np.ndarray
    output: np.ndarray


def uses_pir() -> bool:
    """Return whether this process writes Paddle 3's graph format."""
    switch = getattr(paddle.framework, "use_pir_api", None)
    return bool(switch and switch())


def write_paddle_graph(
    name: str, model: nn.Layer, folder: Path, shape: tuple, native: list[Sample], other: list[Sample]
) -> dict:
    """Write the graph of this Paddle, for all sizes if it can be.

    Args:
        name: of the model, for messages.
        model: in evaluation mode.
        folder: to write into.
        shape: native size of an image ``[C, H, W]``.
        native: samples of that size.
        other: samples of another size that the model takes; none if it takes no other.

    Returns:
        What ``inference.yml`` says of it: ``graph`` and ``dynamic``.

    Raises:
        ExportError: it cannot be traced, or computes something else than the model.
    """
    channels, height, width = shape
    reason: Optional[str] = "it takes no other size"
    if other:
        reason = _try(model, folder, (channels, None, None), native + other)
    dynamic = reason is None
    if not dynamic:
        logger.warning("%s is exported for %d×%d only: %s", name, height, width, reason)
        reason = _try(model, folder, shape, native)
        if reason is not None:
            raise ExportError(f"{name} was not exported: {reason}")
    graph = next(file for suffix in PADDLE_SUFFIXES if (file := f"{PREFIX}{suffix}") and (folder / file).is_file())
    return {"graph": graph, "dynamic": ["batch", "height", "width"] if dynamic else ["batch"]}


def sample_of(model: nn.Layer, batch_size: int, shape: tuple) -> Sample:
    """Return normal noise, as normalised images are, and the model's output for it."""
    images = np.random.default_rng(batch_size).standard_normal((batch_size, *shape), dtype=np.float32)
    with paddle.no_grad():
        return Sample(images, model(paddle.to_tensor(images)).numpy())


def samples_at_another_size(model: nn.Layer, shape: tuple) -> list[Sample]:
    """Return samples at a size that the model takes beside its native one, or nothing.

    Multiples of the native size keep what it is divisible by; a non-square one shows exchanged axes.
    """
    channels, height, width = shape
    for new_height, new_width in ((height * 3 / 2, width), (height * 2, width), (height * 2, width * 2)):
        if new_height % 1:
            continue
        try:
            return [sample_of(model, n, (channels, int(new_height), int(new_width))) for n in CHECKED_BATCH_SIZES]
        except TRACE_ERRORS:  # how a backbone says that it does not take the size is not agreed upon
            continue
    return []


def _try(model: nn.Layer, folder: Path, shape: tuple, samples: list[Sample]) -> Optional[str]:
    """Write the graph for inputs ``[None, *shape]``, read it back and compare; return what went wrong, if anything."""
    try:
        _write(model, folder, shape)
    except TRACE_ERRORS as error:
        return f"tracing failed with {type(error).__name__}: {last_line(error)}"
    try:
        graph = paddle_graph(folder)
        if graph is None:
            return "no graph was written"
        engine = PaddleEngine(graph)
        for sample in samples:
            (output,) = engine(sample.images).values()
            _, problem = difference(sample.images.shape, sample.output, output)
            if problem:
                return problem
    except (RuntimeError, ValueError, OSError) as error:  # how Paddle reports a graph that it cannot run
        return f"the written graph does not run: {type(error).__name__}: {last_line(error)}"
    return None


def _write(model: nn.Layer, folder: Path, shape: tuple) -> None:
    # Given a layer that was not converted before, jit.save traces its whole forward and leaves the layer alone.
    with contextlib.nullcontext() if uses_pir() else legacy_tracing(model):
        paddle.jit.save(model, str(folder / PREFIX), input_spec=[InputSpec([None, *shape], "float32", "x")])
