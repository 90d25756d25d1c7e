"""Batch statistics of weights that were never trained themselves, such as averages: measured over the training data."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import Iterable, Iterator

import numpy as np
import paddle

from ppcls_ext.arch.freezing import BATCH_NORMS
from ppcls_ext.data.sample import Batch
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.precision import Precision

logger = logging.getLogger("ppcls_ext")


def measured_layers(model: paddle.nn.Layer) -> list[paddle.nn.Layer]:
    """Return the BatchNorms whose statistics training updates; frozen ones keep theirs."""
    return [layer for layer in model.sublayers() if isinstance(layer, BATCH_NORMS) and not layer._use_global_stats]


@paddle.no_grad()
def update_batch_statistics(
    model: paddle.nn.Layer, batches: Iterable[Batch], session: Session, precision: Precision
) -> int:
    """Set running means and variances to their mean over ``batches``, and return the number of batches.

    Only BatchNorm computes as in training; dropout and drop path are off, as in evaluation. With several processes
    each takes its own batches, and the statistics are the mean over processes.

    Args:
        model: a model; nothing is done if it has no BatchNorm.
        batches: those of one epoch, of this process.
        session: this process.
        precision: of the forward pass.
    """
    layers = measured_layers(model)
    if not layers:
        return 0
    count = 0
    with _measuring(model, layers):
        for batch in batches:
            if not len(batch.indices):
                continue
            count += 1
            for layer in layers:
                # running = momentum * running + (1 - momentum) * batch: the mean of all batches so far
                layer._momentum = (count - 1) / count
            with precision.autocast():
                model(batch.images)
    if session.world_size > 1:
        for layer in layers:
            for tensor in (layer._mean, layer._variance):
                mean = session.sum(tensor.numpy()) / session.world_size
                tensor.set_value(paddle.to_tensor(mean.astype(np.float32)).astype(tensor.dtype))
    logger.info("batch statistics of %d layers are measured over %d batches", len(layers), count)
    return count


@contextmanager
def _measuring(model: paddle.nn.Layer, layers: list) -> Iterator[None]:
    """Let ``layers`` alone compute as in training; modes and momenta are restored."""
    modes = {layer: layer.training for layer in model.sublayers(include_self=True)}
    momenta = [layer._momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.train()
    try:
        yield
    finally:
        for layer, mode in modes.items():
            layer.training = mode
        for layer, momentum in zip(layers, momenta):
            layer._momentum = momentum
