"""Stochastic weight averaging (Izmailov et al., arXiv 1803.05407): the mean of the weights after the last epochs."""

from __future__ import annotations

import paddle

from ppcls_ext.engine.train.weight_average import WeightAverage


class ModelSWA(WeightAverage):
    """The equal mean of the weights after epochs ``start_epoch``, ``start_epoch + freq``, and so on.

    Args:
        model: the model to follow.
        start_epoch: the first epoch after which weights are taken in, from 1.
        freq: epochs from one to the next.
    """

    def __init__(self, model: paddle.nn.Layer, start_epoch: int, freq: int = 1):
        self.start_epoch, self.freq = start_epoch, freq
        super().__init__(model)

    def after_epoch(self, epoch: int, master_weights: dict[str, paddle.Tensor] | None = None) -> None:
        """Take in the weights after ``epoch`` if it is one of those that count.

        Args:
            epoch: finished epochs.
            master_weights: float32 weights by global parameter name, as the optimizer keeps them under AMP O2.
        """
        if epoch >= self.start_epoch and (epoch - self.start_epoch) % self.freq == 0:
            self.take_in(1 / (self.updates + 1), master_weights)
