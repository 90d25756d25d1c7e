"""Top-k accuracy as counts, so that the figures of several processes add up exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence, Union

import numpy as np

from ppcls_ext.metrics.classes import class_ids, finite_logits
from ppcls_ext.metrics.counting import Counts

if TYPE_CHECKING:
    import paddle


class TopkAcc(Counts):
    """Share of the samples whose class is among the k largest logits.

    The state is ``[samples, hits for k1, hits for k2, ...]``: whole numbers in float64, exact up to 2**53.

    Args:
        topk: the values of k; the first is the one that "best" is judged by.
        class_num: number of classes.

    Raises:
        ValueError: if a k is not in ``1 .. class_num``.
    """

    def __init__(self, topk: Union[int, Sequence[int]] = (1, 5), class_num: int = 1000):
        topk = [topk] if isinstance(topk, int) else list(topk)
        if not topk or len(set(topk)) != len(topk):
            raise ValueError(f"TopkAcc: topk must be one or more different integers, got {topk!r}")
        for k in topk:
            if not 1 <= k <= class_num:
                raise ValueError(f"TopkAcc: k must be from 1 to the number of classes, {class_num}, got {k!r}")
        super().__init__((1 + len(topk),), class_num)
        self.topk = topk
        self.names = [f"top{k}" for k in topk]

    def update(self, logits: paddle.Tensor, labels: paddle.Tensor) -> None:
        """Count a batch.

        Args:
            logits: ``[N, class_num]``.
            labels: integer ``[N]`` or ``[N, 1]``; or floating-point ``[N, class_num]``, scored against the class
                with the largest share.

        Raises:
            ValueError: if shapes do not fit or a label is no class.
            InvalidLogitsError: if a logit is NaN or infinite; nothing is counted then.
        """
        import paddle

        logits = finite_logits(logits, self.class_num, "TopkAcc")
        samples = logits.shape[0]
        if samples == 0:
            return
        _, ranked = paddle.topk(logits, max(self.topk), axis=1)
        classes = class_ids(labels.numpy(), samples, self.class_num, "TopkAcc")
        self.count(ranked.numpy(), classes)

    def count(self, ranked: np.ndarray, classes: np.ndarray) -> None:
        """Count samples whose classes are ranked already.

        Args:
            ranked: the best classes of each, best first, ``[N, max(topk)]``.
            classes: the right ones, ``[N]``.
        """
        hits = ranked == classes[:, None]
        self._counts += [len(ranked)] + [hits[:, :k].any(axis=1).sum() for k in self.topk]

    def compute(self) -> dict:
        """Return ``{"top1": share, ...}`` in [0, 1].

        Raises:
            ValueError: if no sample was counted.
        """
        if not self._counts[0]:
            raise ValueError("TopkAcc: no sample was counted, so there is no accuracy")
        return {name: float(hits / self._counts[0]) for name, hits in zip(self.names, self._counts[1:])}
