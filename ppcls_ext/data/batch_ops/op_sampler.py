"""OpSampler."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from ppcls_ext.data.batch_ops.operator import BatchOperator

# Probabilities such as 0.1 + 0.2 + 0.7 may add up to a little more than 1.
ROUNDING = 1e-9


class OpSampler(BatchOperator):
    """One of several operators, drawn for each batch; none with the probability that is left.

    Args:
        operators: the operators.
        probabilities: one for each, at most 1 in all.
    """

    def __init__(self, operators: Sequence[BatchOperator], probabilities: Sequence[float]):
        total = sum(probabilities)
        if total > 1 + ROUNDING:
            raise ValueError(f"prob: expected probabilities of at most 1 in all, got {total:g}")
        self.operators = list(operators)
        self.bounds = np.cumsum(probabilities)
        self.label_smoothing = max(operator.label_smoothing for operator in operators)

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what the drawn operator makes of the batch."""
        chosen = int(np.searchsorted(self.bounds, rng.random(), side="right"))
        return self.operators[chosen](images, labels, rng) if chosen < len(self.operators) else (images, labels)
