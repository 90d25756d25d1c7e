"""The confusion matrix."""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np

from ppcls_ext.metrics.counting import CountingMetric


class ConfusionMatrix(CountingMetric):
    """How many samples of each class (row) are predicted as each class (column): a table, without a figure.

    Args:
        class_num: number of classes C; the state has C * C numbers, 8 MB for 1000 classes.
    """

    names = ()
    table_name = "confusion_matrix"

    def __init__(self, class_num: int = 1000):
        super().__init__((class_num, class_num), class_num)

    def _count(self, classes: np.ndarray, predicted: np.ndarray) -> None:
        cells = np.bincount(classes * self.class_num + predicted, minlength=self.class_num**2)
        self._counts += cells.reshape(self._counts.shape)

    @property
    def matrix(self) -> np.ndarray:
        """The counts, int64 ``[class_num, class_num]``: ``matrix[i, j]`` samples of class i are predicted as j."""
        return self._counts.astype(np.int64)

    def compute(self) -> dict:
        """Return no figure; see :meth:`table`.

        Raises:
            ValueError: if no sample was counted.
        """
        self._require_samples()
        return {}

    def table(self, class_names: Optional[Sequence[str]] = None) -> list[list]:
        """Return the header, and a row a class with the number of samples predicted as each class.

        Args:
            class_names: names of the classes by id; by default the ids.
        """
        names = list(class_names or map(str, range(self.class_num)))
        return [["label", *names], *([name, *row] for name, row in zip(names, self.matrix.tolist()))]
