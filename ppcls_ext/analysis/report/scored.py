"""Predictions that can be scored: each image with its label, among the classes that count."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Optional

import numpy as np

from ppcls_ext.analysis.report.errors import ReportError
from ppcls_ext.engine.predictions import LOGITS, UNKNOWN, Predictions

#: Score of a class that does not count; its probability is 0.
_MASKED = np.float32(-1e30)


@dataclass(frozen=True)
class Scored:
    """Labelled predictions of N images.

    Attributes:
        predictions: of the images that count.
        classes: int64, ascending, ids of the classes that count.
        left_out: number of images that do not, since their class does not.
    """

    predictions: Predictions
    classes: np.ndarray
    left_out: int = 0

    @property
    def labels(self) -> np.ndarray:
        """The right classes, int64 ``[N]``."""
        return self.predictions.labels

    @cached_property
    def predicted(self) -> np.ndarray:
        """The predicted classes, int64 ``[N]``."""
        return self.predictions.ranked(1)[:, 0]

    @cached_property
    def confidence(self) -> np.ndarray:
        """The probability of the predicted class, float64 ``[N]``."""
        return self.predictions.confidence()

    @property
    def right(self) -> np.ndarray:
        """Whether the prediction is the label, bool ``[N]``."""
        return self.predicted == self.labels

    @cached_property
    def losses(self) -> Optional[np.ndarray]:
        """The cross entropy of each image, float64 ``[N]``; None where the file holds the best classes alone."""
        if self.predictions.class_ids is not None:
            return None
        return -self.predictions.log_probabilities()[np.arange(len(self.labels)), self.labels]

    def name(self, class_id: int) -> str:
        """Return the name of a class, or its id where names are not known."""
        names = self.predictions.header.class_names
        return str(class_id) if names is None else names[class_id]


def scored(predictions: Predictions, path: object, classes: Optional[np.ndarray] = None) -> Scored:
    """Return predictions ready to be scored.

    Args:
        predictions: what a file holds.
        path: its name, for the messages.
        classes: ids of the classes that count, ascending; None counts all.

    Raises:
        ReportError: if labels are unknown, all images are of one class, or a part of the classes is asked of a file
            that holds the best ones alone.
    """
    count = len(predictions)
    unknown = int((predictions.labels == UNKNOWN).sum())
    if unknown:
        first = predictions.files[int((predictions.labels == UNKNOWN).argmax())]
        raise ReportError(
            f"{path}: the labels of {unknown} of {count} images are not known, such as {first}; predict "
            "the images of a list that has a class id at the end of each line"
        )
    if classes is None:
        every = np.arange(predictions.header.class_num)
        result = Scored(predictions, every)
    else:
        result = _among(predictions, path, classes)
    found = np.unique(result.labels)
    if len(found) < 2:
        raise ReportError(
            f"{path}: all {len(result.labels)} images are of one class, {result.name(int(found[0]))}; "
            "expected images of two classes or more"
        )
    return result


def _among(predictions: Predictions, path: object, classes: np.ndarray) -> Scored:
    if predictions.class_ids is not None:
        raise ReportError(
            f"{path} holds the best classes alone; to score among a part of the classes, write all scores: "
            "leave --save_topk out"
        )
    rows = np.isin(predictions.labels, classes)
    if not rows.any():
        raise ReportError(f"{path}: none of the {len(rows)} images is of one of the {len(classes)} classes that count")
    kept = predictions.take(rows)
    scores = np.full(kept.scores.shape, _MASKED, np.float32)
    scores[:, classes] = kept.log_probabilities()[:, classes]
    kept = replace(kept, scores=scores, header=replace(kept.header, kind=LOGITS))
    return Scored(kept, classes, int((~rows).sum()))
