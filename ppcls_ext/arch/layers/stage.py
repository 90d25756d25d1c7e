"""A stage of a network: downsampling, then blocks at one resolution."""

from __future__ import annotations

from typing import Optional, Sequence

import paddle
from paddle import nn

from ppcls_ext.arch.layers.recompute import RecomputeSequential


class Stage(nn.Layer):
    """Blocks at one resolution.

    Args:
        blocks: Run in order; each can be recomputed in the backward pass.
        downsample: Runs before them, if given.
        cpe: A conditional position encoding between the two, if given.
        norm: Runs last, if given.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Layer],
        downsample: Optional[nn.Layer] = None,
        cpe: Optional[nn.Layer] = None,
        norm: Optional[nn.Layer] = None,
    ):
        super().__init__()
        self.downsample = downsample
        self.cpe = cpe
        self.blocks = RecomputeSequential(*blocks)
        self.norm = norm

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take the previous stage's output, return this one's, in the network's own layout."""
        if self.downsample is not None:
            x = self.downsample(x)
        if self.cpe is not None:
            x = self.cpe(x)
        x = self.blocks(x)
        return x if self.norm is None else self.norm(x)
