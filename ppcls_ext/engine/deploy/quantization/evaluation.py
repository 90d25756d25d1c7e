"""The classes that a model predicts for a list of images, with or without labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.image_files import LIST_SUFFIXES, list_images
from ppcls_ext.engine.deploy.accuracy import LabelledImages
from ppcls_ext.engine.deploy.inputs import Input
from ppcls_ext.engine.deploy.predictor import Predictor
from ppcls_ext.engine.deploy.quantization.errors import QuantizationError
from ppcls_ext.metrics.agreement import Agreement, compare_predictions

UNREAD = -1


@dataclass(frozen=True)
class EvaluationImages:
    """Images to compare two models on.

    Attributes:
        paths: of the images.
        labels: int ``[N]``, or None where they are not known.
    """

    paths: list[Path]
    labels: Optional[np.ndarray] = None

    @classmethod
    def read(cls, source: Union[str, Path], class_num: int) -> EvaluationImages:
        """Read a list, which must hold a class id on every line, or a folder, which has no labels.

        Raises:
            FileNotFoundError, ValueError: as for an accuracy, see :class:`LabelledImages`.
        """
        if Path(source).suffix.lower() in LIST_SUFFIXES:
            labelled = LabelledImages.read(source, class_num)
            return cls(labelled.paths, labelled.labels)
        return cls(list_images(source))

    def classes(self, predictor: Predictor) -> np.ndarray:
        """Return the predicted class of each image, ``UNREAD`` where it cannot be read."""
        results = predictor.stream([Input(str(path), path) for path in self.paths])
        return np.array([result["class_ids"][0] if result["class_ids"] else UNREAD for result in results])

    def compare(self, first: np.ndarray, second: np.ndarray) -> Agreement:
        """Compare the classes that two models predict.

        Raises:
            QuantizationError: no image could be read.
        """
        read = first != UNREAD
        if not read.any():
            raise QuantizationError(f"none of the {len(self.paths)} images to evaluate on can be read")
        labels = None if self.labels is None else self.labels[read]
        return compare_predictions(first[read], second[read], labels)


def damage(first: Iterable[np.ndarray], second: Iterable[np.ndarray]) -> float:
    """Return the mean difference of two models' probabilities, half the sum over the classes (total variation).

    Args:
        first: ``[N, classes]``, batch by batch.
        second: the other model's for the same images.
    """
    distances: list[float] = []
    for one, other in zip(first, second):
        distances.extend(np.abs(one - other).sum(axis=1) / 2)
    return float(np.mean(distances))


def probabilities(predictor: Predictor, batches: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the probabilities of preprocessed images, batch by batch."""
    return [predictor.score(images) for images in batches]
