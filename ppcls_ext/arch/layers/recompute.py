"""Gradient checkpointing: keep a block's input only, and run the block again in the backward pass."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Callable, Iterator

import paddle
from paddle import nn
from paddle.distributed.fleet.utils import recompute as paddle_recompute

from ppcls_ext.arch.layers.paddle_fixes import is_recording


class RecomputeSequential(nn.Sequential):
    """A ``Sequential`` that recomputes each of its layers in the backward pass while ``recompute`` is True."""

    def __init__(self, *layers: nn.Layer):
        super().__init__(*layers)
        self.recompute = False

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Run the layers in order."""
        for layer in self:
            x = self.run(layer, x)
        return x

    def run(self, layer: nn.Layer, x: paddle.Tensor) -> paddle.Tensor:
        """Run one of the layers; without gradients, or while a graph is traced, there is nothing to save."""
        return recompute(layer, x) if self.recompute and is_recording() else layer(x)


def recompute(layer: Callable, x: paddle.Tensor) -> paddle.Tensor:
    """Return ``layer(x)`` without keeping its activations; the backward pass draws the same random numbers again.

    Running statistics are updated in the first run alone.

    Paddle's hook implementation is used because the re-entrant one gives no gradients to a layer whose input needs
    none, such as the first block behind a frozen stem. Paddle 2.6 cannot restore the random state there on a CPU, so
    it is restored here.
    """
    states: list[list] = []

    def run(x: paddle.Tensor) -> paddle.Tensor:
        if not states:
            states.append(paddle.get_rng_state())
            return layer(x)
        current = paddle.get_rng_state()
        paddle.set_rng_state(states[0])
        try:
            with _kept_statistics(layer):
                return layer(x)
        finally:
            paddle.set_rng_state(current)

    return paddle_recompute(run, x, preserve_rng_state=False, use_reentrant=False)


@contextmanager
def _kept_statistics(layer: Callable) -> Iterator[None]:
    """Keep the running statistics of BatchNorm as they are: with a momentum of 1 a batch adds nothing to them."""
    layers = layer.sublayers(include_self=True) if isinstance(layer, nn.Layer) else []
    norms = [(norm, norm._momentum) for norm in layers if isinstance(norm, (nn.BatchNorm2D, nn.SyncBatchNorm))]
    for norm, _ in norms:
        norm._momentum = 1.0
    try:
        yield
    finally:
        for norm, momentum in norms:
            norm._momentum = momentum
