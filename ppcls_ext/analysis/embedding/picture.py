"""A map of embeddings in two dimensions, by t-SNE."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import numpy as np

from ppcls_ext.analysis.drawing import figure, short
from ppcls_ext.analysis.embedding.content import UNKNOWN, Embeddings, EmbeddingsError

#: Below, t-SNE has too few neighbours to place a point by.
LEAST_IMAGES = 10
#: Classes that the legend can tell apart by colour and marker.
LARGEST_LEGEND = 30
_MARKERS = "osD"


def tsne(embeddings: Embeddings, metric: str, seed: int) -> np.ndarray:
    """Return a place in the plane for each image, ``[N, 2]``: scikit-learn's t-SNE from principal components.

    Raises:
        EmbeddingsError: there are fewer than ``LEAST_IMAGES`` images.
    """
    from sklearn.manifold import TSNE

    count = len(embeddings.files)
    if count < LEAST_IMAGES:
        raise EmbeddingsError(f"t-SNE needs at least {LEAST_IMAGES} images, got {count}")
    perplexity = min(30.0, (count - 1) / 3)
    # PCA cannot begin where the features have one dimension.
    start = "pca" if embeddings.features.shape[1] >= 2 else "random"
    return TSNE(perplexity=perplexity, metric=metric, init=start, random_state=seed).fit_transform(embeddings.features)


def save_map(path: Path, places: np.ndarray, labels: np.ndarray, names: Sequence[str], title: str) -> None:
    """Draw the places, coloured by class."""
    classes = [int(label) for label in np.unique(labels)]
    shown = {label: short(names[label]) if 0 <= label < len(names) else str(label) for label in classes}
    with figure(path, (7.5, 6), [title, *shown.values()]) as (drawn, fonts):
        axes = drawn.add_subplot()
        for number, label in enumerate(classes):
            x, y = places[labels == label].T
            name = "no label" if label == UNKNOWN else shown[label] if fonts.can_show(shown[label]) else str(label)
            marker = _MARKERS[number // 10 % len(_MARKERS)]
            axes.scatter(x, y, s=14, color=f"C{number % 10}", marker=marker, label=name, linewidths=0)
        if 1 < len(classes) <= LARGEST_LEGEND:
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, markerscale=1.5)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(title, fontsize=10)
