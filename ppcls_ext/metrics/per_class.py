"""Precision, recall and F1, as averages over the classes and class by class."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence, Union

import numpy as np

from ppcls_ext.metrics.counting import CountingMetric

AVERAGES = ("macro", "weighted", "micro")


class ClassFigures(NamedTuple):
    """Figures of each class, float64 ``[class_num]`` each; a quotient without a denominator is 0."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray


def class_figures(hits: np.ndarray, predicted: np.ndarray, support: np.ndarray) -> ClassFigures:
    """Return precision, recall and F1 of each class.

    Args:
        hits: ``[class_num]``, samples of the class that are predicted as it.
        predicted: ``[class_num]``, samples that are predicted as the class.
        support: ``[class_num]``, samples of the class.
    """
    precision = _quotient(hits, predicted)
    recall = _quotient(hits, support)
    return ClassFigures(precision, recall, _quotient(2 * hits, predicted + support), support)


def _quotient(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


class _ClassCounts(CountingMetric):
    """Counts hits, predictions and samples of each class: a state of ``3 * class_num`` numbers."""

    def __init__(self, class_num: int):
        super().__init__((3, class_num), class_num)

    def _count(self, classes: np.ndarray, predicted: np.ndarray) -> None:
        for row, ids in enumerate((classes[classes == predicted], predicted, classes)):
            self._counts[row] += np.bincount(ids, minlength=self.class_num)

    def _figures(self) -> ClassFigures:
        self._require_samples()
        return class_figures(*self._counts)


class _Averaged(_ClassCounts):
    """An average of one figure over the classes.

    ``macro`` is the mean over the classes that occur, in labels or in predictions; ``weighted`` weights each class by
    its samples; ``micro`` counts all samples together, which with one label a sample is the accuracy. These are
    scikit-learn's definitions; a quotient without a denominator is 0.

    Args:
        average: one of these, or several.
        class_num: number of classes.

    Raises:
        ValueError: for another average, or one that is there twice.
    """

    figure: str

    def __init__(self, average: Union[str, Sequence[str]] = "macro", class_num: int = 1000):
        super().__init__(class_num)
        self.averages = [average] if isinstance(average, str) else list(average)
        wrong = [item for item in self.averages if item not in AVERAGES]
        if wrong or not self.averages or len(set(self.averages)) != len(self.averages):
            raise ValueError(f"{self._name}: average must be one or more of {', '.join(AVERAGES)}, got {average!r}")
        self.names = [f"{self.figure}_{item}" for item in self.averages]

    def compute(self) -> dict:
        """Return the averages by name, such as ``{"f1_macro": 0.97}``, each in [0, 1].

        Raises:
            ValueError: if no sample was counted.
        """
        figures = self._figures()
        values = getattr(figures, self.figure)
        occurs = (self._counts[1] + self._counts[2]) > 0
        averages = {
            "macro": values[occurs].mean(),
            "weighted": (values * figures.support).sum() / figures.support.sum(),
            "micro": self._counts[0].sum() / figures.support.sum(),
        }
        return {name: float(averages[item]) for name, item in zip(self.names, self.averages)}


class Precision(_Averaged):
    """Share of a class's predictions that are right, averaged over the classes."""

    figure = "precision"


class Recall(_Averaged):
    """Share of a class's samples that are found, averaged over the classes."""

    figure = "recall"


class F1(_Averaged):
    """Harmonic mean of precision and recall of a class, averaged over the classes."""

    figure = "f1"


class PerClass(_ClassCounts):
    """Precision, recall, F1 and support of each class, as a table; its one figure is the mean recall of the classes.

    Args:
        class_num: number of classes.
    """

    names = ("mean_class_accuracy",)
    table_name = "per_class"

    def __init__(self, class_num: int = 1000):
        super().__init__(class_num)

    def compute(self) -> dict:
        """Return ``{"mean_class_accuracy": share}``: the mean recall over the classes that have samples.

        Raises:
            ValueError: if no sample was counted.
        """
        figures = self._figures()
        return {"mean_class_accuracy": float(figures.recall[figures.support > 0].mean())}

    def table(self, class_names: Optional[Sequence[str]] = None) -> list[list]:
        """Return the header, and a row a class.

        Args:
            class_names: names of the classes by id; by default the ids.

        Raises:
            ValueError: if no sample was counted.
        """
        figures = self._figures()
        names = class_names or [str(number) for number in range(self.class_num)]
        rows = [
            [number, names[number], *(round(float(column[number]), 6) for column in figures[:3]), int(support)]
            for number, support in enumerate(figures.support)
        ]
        return [["class_id", "class_name", "precision", "recall", "f1", "support"], *rows]
