"""Accuracy, figures of each class, and what is taken for what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from ppcls_ext.analysis.report.scored import Scored
from ppcls_ext.data.real_labels import RealLabels

AVERAGES = ("macro", "weighted")


@dataclass(frozen=True)
class ClassRow:
    """The figures of a class; a quotient without a denominator is 0."""

    class_id: int
    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Confusion:
    """Images of one class that are taken for another.

    Attributes:
        truth: class id of the label.
        predicted: class id of the prediction.
        count: how many images.
        share: of the images of the class ``truth``.
    """

    truth: int
    predicted: int
    count: int
    share: float


@dataclass(frozen=True)
class Figures:
    """What is computed from the labels and the predicted classes.

    Attributes:
        samples: number of images.
        top1: share of the images whose label is the best class.
        top5: share of the images whose label is among the five best; None with fewer than six classes, or where the
            file holds fewer.
        averages: precision, recall and F1 by average: ``{"macro": {"precision": ...}, ...}``.
        per_class: the figures of each class that counts.
        matrix: int64 ``[C, C]``, images by label (row) and prediction (column), in the order of ``per_class``.
        confusions: the pairs that are confused, the most frequent first.
    """

    samples: int
    top1: float
    top5: Optional[float]
    averages: dict[str, dict[str, float]]
    per_class: list[ClassRow]
    matrix: np.ndarray
    confusions: list[Confusion]


def compute_figures(scored: Scored) -> Figures:
    """Return the figures of predictions.

    Averages are over the classes that occur, in labels or in predictions, as scikit-learn's are by default.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    labels, predicted, classes = scored.labels, scored.predicted, scored.classes
    columns = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    per_class = [
        ClassRow(int(number), scored.name(int(number)), float(precision), float(recall), float(f1), int(support))
        for number, precision, recall, f1, support in zip(classes, *columns)
    ]
    averages = {}
    for average in AVERAGES:
        values = precision_recall_fscore_support(labels, predicted, average=average, zero_division=0)[:3]
        averages[average] = dict(zip(("precision", "recall", "f1"), map(float, values)))
    matrix = confusion_matrix(labels, predicted, labels=classes)
    return Figures(
        samples=len(labels),
        top1=float(scored.right.mean()),
        top5=_top5(scored),
        averages=averages,
        per_class=per_class,
        matrix=matrix,
        confusions=_confusions(matrix, classes),
    )


def _top5(scored: Scored) -> Optional[float]:
    if len(scored.classes) <= 5 or scored.predictions.scores.shape[1] < 5:
        return None
    return float((scored.predictions.ranked(5) == scored.labels[:, None]).any(axis=1).mean())


def _confusions(matrix: np.ndarray, classes: np.ndarray) -> list[Confusion]:
    support = matrix.sum(axis=1)
    off = matrix - np.diag(np.diag(matrix))
    truths, predictions = np.nonzero(off)
    pairs = [
        Confusion(int(classes[i]), int(classes[j]), int(off[i, j]), float(off[i, j] / support[i]))
        for i, j in zip(truths, predictions)
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.share, pair.truth, pair.predicted))


def real_accuracy(scored: Scored, real: RealLabels) -> dict:
    """Return the accuracy by reassessed labels: ``{"top1": share, "samples": counted, "left_out": without labels}``.

    Raises:
        LabelFileError: if an image has another name than ImageNet's validation images.
    """
    right, counts = real.score(scored.predictions.files, scored.predicted)
    counted = int(counts.sum())
    top1 = float(right[counts].mean()) if counted else None
    return {"top1": top1, "samples": counted, "left_out": len(counts) - counted}
