"""From scores to classes: Topk with label names, the same for the dygraph model and for an export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

#: Scores are rounded as PaddleClas rounds them.
SCORE_DECIMALS = 5


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis, in float32 and without overflow."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class Topk:
    """The ``topk`` classes of the highest score; of equal scores the lower class id comes first."""

    topk: int
    label_list: Sequence[str]
    #: Whether a result also holds the score of each class, unrounded, as ``all_scores``.
    all_scores: bool = False

    def __call__(self, scores: np.ndarray, file_names: Sequence[str]) -> list[dict]:
        """Return one result a row, with PaddleClas's keys.

        Args:
            scores: probabilities, ``[N, classes]``.
            file_names: N names, repeated in the results.

        Raises:
            ValueError: the number of classes is not the number of labels, or a score is not finite.
        """
        if scores.ndim != 2 or scores.shape[1] != len(self.label_list):
            raise ValueError(f"scores of shape {list(scores.shape)} do not fit the {len(self.label_list)} labels")
        if not np.isfinite(scores).all():
            bad = [name for name, row in zip(file_names, scores) if not np.isfinite(row).all()]
            raise ValueError(f"the model's output is not finite for {', '.join(bad[:5])}")
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self.topk]
        return [
            {
                "class_ids": ids.tolist(),
                "scores": [round(float(score), SCORE_DECIMALS) for score in row[ids]],
                "label_names": [self.label_list[i] for i in ids],
                "file_name": str(name),
                **({"all_scores": row.tolist()} if self.all_scores else {}),
            }
            for row, ids, name in zip(scores, order, file_names)
        ]
