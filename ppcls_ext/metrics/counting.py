"""Metrics whose state is whole numbers in one array, so that those of several processes add up exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ppcls_ext.metrics.classes import class_ids, finite_logits

if TYPE_CHECKING:
    import paddle


class Counts:
    """The parent of metrics whose state is one array of whole numbers, float64: exact up to 2**53.

    Args:
        shape: of the array.
        class_num: number of classes.
    """

    def __init__(self, shape: tuple[int, ...], class_num: int):
        self.class_num = class_num
        self._counts = np.zeros(shape, dtype=np.float64)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def reset(self) -> None:
        """Discard all samples."""
        self._counts = np.zeros_like(self._counts)

    def state(self) -> np.ndarray:
        """Return the counts as one vector; those of several processes may be added."""
        return self._counts.reshape(-1).copy()

    def load_state(self, state: np.ndarray) -> None:
        """Take over what :meth:`state` returned, or a sum of such.

        Raises:
            ValueError: if the length is wrong.
        """
        state = np.asarray(state, dtype=np.float64)
        if state.shape != (self._counts.size,):
            raise ValueError(f"{self._name}: the state must have shape ({self._counts.size},), got {state.shape}")
        self._counts = state.reshape(self._counts.shape).copy()


class CountingMetric(Counts):
    """The parent of metrics that count pairs of (class, predicted class)."""

    def _count(self, classes: np.ndarray, predicted: np.ndarray) -> None:
        raise NotImplementedError

    def update(self, logits: paddle.Tensor, labels: paddle.Tensor) -> None:
        """Count a batch; of equal logits the lower class id is the prediction.

        Args:
            logits: ``[N, class_num]``.
            labels: integer ``[N]`` or ``[N, 1]``; or floating-point ``[N, class_num]``, scored against the class
                with the largest share.

        Raises:
            ValueError: if shapes do not fit or a label is no class.
            InvalidLogitsError: if a logit is NaN or infinite; nothing is counted then.
        """
        logits = finite_logits(logits, self.class_num, self._name)
        samples = logits.shape[0]
        if samples:
            classes = class_ids(labels.numpy(), samples, self.class_num, self._name)
            self._count(classes, logits.numpy().argmax(axis=1))

    def _require_samples(self) -> None:
        if not self._counts.any():
            raise ValueError(f"{self._name}: no sample was counted, so there is nothing to compute")
