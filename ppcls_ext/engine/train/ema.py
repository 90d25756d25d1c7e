"""Exponential moving average of the weights."""

from __future__ import annotations

import paddle

from ppcls_ext.engine.train.weight_average import WeightAverage


class ModelEMA(WeightAverage):
    """Moves by ``1 - decay`` towards the weights after each optimizer step.

    Args:
        model: the model to follow.
        decay: share of the old value, in [0, 1).
        warmup: use ``min(decay, (1 + t) / (10 + t))`` at step ``t``, so that the first steps do not linger.

    Raises:
        ValueError: if ``decay`` is out of range.
    """

    def __init__(self, model: paddle.nn.Layer, decay: float = 0.9999, warmup: bool = False):
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"EMA decay must be in [0, 1), got {decay}")
        self.decay = decay
        self.warmup = warmup
        super().__init__(model)

    def update(self, master_weights: dict[str, paddle.Tensor] | None = None) -> None:
        """Take one step; call it after each optimizer step.

        Args:
            master_weights: float32 weights by global parameter name, as the optimizer keeps them under AMP O2.
        """
        updates = self.updates + 1
        decay = min(self.decay, (1 + updates) / (10 + updates)) if self.warmup else self.decay
        self.take_in(1.0 - decay, master_weights)
