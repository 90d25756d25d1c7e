"""True-positive rate at a bounded false-positive rate, as counts over PaddleClas's thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ppcls_ext.metrics.classes import class_ids, finite_logits
from ppcls_ext.metrics.counting import Counts

if TYPE_CHECKING:
    import paddle

#: PaddleClas tries the thresholds 0, 0.0001, …, 0.9999, and compares them with scores in float32.
THRESHOLDS = (np.arange(10_000) / 10_000).astype(np.float32)


class TprAtFpr(Counts):
    """The greatest true-positive rate of any threshold whose false-positive rate is at most ``max_fpr``.

    For two classes: class 0 is negative, every other one positive, and a sample's score is the softmax probability of
    class 1. A sample counts as positive if its score is above the threshold. Without negative samples each threshold is
    allowed; without positive ones the rate is 0.

    The state is two histograms of scores between the thresholds, of negative and of positive samples: whole numbers in
    float64, so that those of several processes add up exactly.

    Args:
        max_fpr: the greatest false-positive rate allowed, in [0, 1].
        class_num: number of classes, at least 2.

    Raises:
        ValueError: if an argument is out of its range.
    """

    names = ("tpr_at_fpr", "fpr", "threshold")

    def __init__(self, max_fpr: float = 1e-3, class_num: int = 2):
        if not 0 <= max_fpr <= 1:
            raise ValueError(f"TprAtFpr: max_fpr must be in [0, 1], got {max_fpr!r}")
        if class_num < 2:
            raise ValueError(f"TprAtFpr: the model must have at least 2 classes, got {class_num}")
        super().__init__((2, len(THRESHOLDS) + 1), class_num)
        self.max_fpr = max_fpr

    def update(self, logits: paddle.Tensor, labels: paddle.Tensor) -> None:
        """Count a batch.

        Args:
            logits: ``[N, class_num]``.
            labels: integer ``[N]`` or ``[N, 1]``; or floating-point ``[N, class_num]``, scored against the class with
                the largest share.

        Raises:
            ValueError: if shapes do not fit or a label is no class.
            InvalidLogitsError: if a logit is NaN or infinite; nothing is counted then.
        """
        import paddle

        logits = finite_logits(logits, self.class_num, "TprAtFpr")
        if not len(logits):
            return
        scores = paddle.nn.functional.softmax(logits, axis=-1)[:, 1].numpy()
        positive = class_ids(labels.numpy(), len(scores), self.class_num, "TprAtFpr") != 0
        passed = np.searchsorted(THRESHOLDS, scores, side="left")  # how many thresholds a score is above
        for row, of_row in enumerate((~positive, positive)):
            self._counts[row] += np.bincount(passed[of_row], minlength=self._counts.shape[1])

    def compute(self) -> dict:
        """Return the rate, and the false-positive rate and threshold at which it is reached (the lowest such one).

        Raises:
            ValueError: if no sample was counted.
        """
        totals = self._counts.sum(axis=1)
        if not totals.any():
            raise ValueError("TprAtFpr: no sample was counted, so there is no rate")
        # Column i: samples above threshold i.
        above = self._counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
        fpr, tpr = above / np.maximum(totals, 1)[:, None]
        allowed = np.where(fpr <= self.max_fpr, tpr, -1.0)
        best = int(allowed.argmax())
        if allowed[best] <= 0:
            return {"tpr_at_fpr": 0.0, "fpr": 0.0, "threshold": 1.0}
        return {
            "tpr_at_fpr": float(tpr[best]),
            "fpr": float(fpr[best]),
            "threshold": best / len(THRESHOLDS),
        }
