"""Nearest neighbours among embeddings, and how often they tell the class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence

import numpy as np

from ppcls_ext.analysis.embedding.content import Embeddings, EmbeddingsError

METRICS = ("cosine", "euclidean")


@dataclass(frozen=True)
class Neighbours:
    """The nearest images of a gallery for each query, nearest first.

    Attributes:
        indices: int ``[N, K]``, into the gallery.
        distances: float ``[N, K]``; cosine distance is 1 minus the cosine.
    """

    indices: np.ndarray
    distances: np.ndarray


def find_neighbours(
    queries: Embeddings, count: int, gallery: Optional[Embeddings] = None, metric: str = METRICS[0]
) -> Neighbours:
    """Return the ``count`` nearest images of ``gallery`` for each query.

    Args:
        queries: N images.
        count: K; no more than the gallery holds.
        gallery: where to look; None means among the queries, each without itself.
        metric: one of ``METRICS``.

    Raises:
        EmbeddingsError: the features have different lengths, or the gallery holds fewer than ``count`` images.
    """
    from sklearn.neighbors import NearestNeighbors

    there = queries if gallery is None else gallery
    if there.features.shape[1] != queries.features.shape[1]:
        raise EmbeddingsError(
            f"the gallery's features have {there.features.shape[1]} numbers, the queries' {queries.features.shape[1]}: "
            "they are of different models"
        )
    size = len(there.files) - (gallery is None)
    if count > size:
        raise EmbeddingsError(f"{count} neighbours are asked for; there are {size} images to choose from")
    search = NearestNeighbors(n_neighbors=count, metric=metric).fit(there.features)
    # Without queries, scikit-learn leaves each image out of its own neighbours.
    distances, indices = search.kneighbors(None if gallery is None else queries.features)
    return Neighbours(indices, distances)


def knn_accuracy(
    neighbours: Neighbours, queries: Embeddings, ks: Sequence[int], gallery: Optional[Embeddings] = None
) -> dict[int, float]:
    """Return the accuracy in [0, 1] of the class that most of the ``k`` nearest have, for each ``k``.

    Of classes with as many votes the smallest id wins, as in scikit-learn's ``KNeighborsClassifier``.

    Raises:
        EmbeddingsError: the class of an image is not known.
    """
    there = queries if gallery is None else gallery
    if not (queries.labelled and there.labelled):
        raise EmbeddingsError("a k-NN accuracy needs lists with a class id on every line")
    votes = there.labels[neighbours.indices]
    accuracies = {}
    for k in ks:
        chosen = np.array([np.bincount(row[:k]).argmax() for row in votes])
        accuracies[k] = float((chosen == queries.labels).mean())
    return accuracies
