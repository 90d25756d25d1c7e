"""Scoring among a part of the classes: the logits of the others are masked, and their images are left out."""

from __future__ import annotations

import numpy as np
import paddle

#: Added to the logits of classes that do not count: finite, since metrics refuse infinity; its softmax is 0.
MASKED = -1e30


class ClassMask:
    """The classes that count.

    Args:
        ids: int64, their ids.
        class_num: number of classes of the model.
    """

    def __init__(self, ids: np.ndarray, class_num: int):
        self.ids = ids
        bias = np.full(class_num, MASKED, np.float32)
        bias[ids] = 0
        self._bias = paddle.to_tensor(bias)

    def rows(self, labels: np.ndarray) -> np.ndarray:
        """Return the indices of the images whose class counts, int64.

        Args:
            labels: int ``[N]``.
        """
        return np.flatnonzero(np.isin(labels, self.ids))

    def masked(self, logits: paddle.Tensor) -> paddle.Tensor:
        """Return the logits ``[N, class_num]`` with those of other classes masked."""
        return logits + self._bias
