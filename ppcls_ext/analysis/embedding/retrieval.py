"""What ``ppcls_ext embed`` does: features, neighbours, accuracy and map of the images of a list."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

from ppcls_ext.analysis.drawing import require_matplotlib
from ppcls_ext.analysis.embedding.content import SUFFIXES, Embeddings, check_suffix, read_embeddings, write_embeddings
from ppcls_ext.analysis.embedding.features import embed
from ppcls_ext.analysis.embedding.neighbours import find_neighbours, knn_accuracy
from ppcls_ext.analysis.embedding.picture import save_map, tsne
from ppcls_ext.analysis.subjects import Network, open_network
from ppcls_ext.utils.files import write_atomically
from ppcls_ext.utils.tables import write_table


@dataclass(frozen=True)
class RetrievalOptions:
    """What is asked for.

    Attributes:
        images: the queries: an image, a folder or a list.
        output: folder to write to.
        gallery: where to look for neighbours: a list, a folder, or a file of embeddings; None means the queries.
        ks: numbers of neighbours that vote.
        neighbours: listed for each image.
        metric: ``cosine`` or ``euclidean``.
        batch_size: images a forward pass.
        tsne: whether to draw a map.
        seed: of t-SNE.
        file_format: of the features, ``npz`` or ``parquet``.
    """

    images: Path
    output: Path
    gallery: Optional[Path] = None
    ks: Sequence[int] = (1, 5, 20)
    neighbours: int = 5
    metric: str = "cosine"
    batch_size: int = 32
    tsne: bool = True
    seed: int = 0
    file_format: str = "npz"


def retrieve(
    model: str, options: RetrievalOptions, overrides: Sequence[str] = (), random_weights: bool = False
) -> dict:
    """Embed images and compare them.

    Files: ``embeddings.npz`` (or ``.parquet``), ``gallery.npz`` where there is a gallery that was embedded,
    ``neighbours.csv``, ``embed.json``, and with a map ``tsne.csv`` and ``tsne.png``. More neighbours than the gallery
    has images are left out.

    Args:
        model: as :func:`ppcls_ext.analysis.subjects.open_network` takes it.
        options: what is asked for.
        overrides: as after ``-o``.
        random_weights: accept that no weights are given.

    Returns:
        What ``embed.json`` holds: ``images``, ``dimensions``, ``knn_accuracy`` by k (empty where classes are not
        known), ``metric``, ``files``.

    Raises:
        EmbeddingsError: the images cannot be embedded or compared.
        DrawingError: matplotlib is missing.
        SubjectError: see :func:`ppcls_ext.analysis.subjects.open_network`.
    """
    path = options.output / f"embeddings.{options.file_format}"
    check_suffix(path)
    if options.tsne:
        require_matplotlib("leave the map out with --no_tsne")
    network = open_network(model, overrides, random_weights)
    queries = embed(network, options.images, options.batch_size)
    files = [path.name]
    write_embeddings(path, queries)
    gallery = _gallery(network, options, files)
    size = len(queries.files) - 1 if gallery is None else len(gallery.files)
    ks = [k for k in options.ks if k <= size]
    count = min(max([options.neighbours, *ks]), size)
    accuracies = {}
    if count:
        neighbours = find_neighbours(queries, count, gallery, options.metric)
        there = queries if gallery is None else gallery
        if queries.labelled and there.labelled:
            accuracies = knn_accuracy(neighbours, queries, ks, gallery)
        rows = [
            (queries.files[row], rank + 1, there.files[index], there.labels[index], f"{distance:.6f}")
            for row, (indices, distances) in enumerate(zip(neighbours.indices, neighbours.distances))
            for rank, (index, distance) in enumerate(zip(indices[: options.neighbours], distances))
        ]
        head = ("file", "rank", "neighbour", "label", f"{options.metric}_distance")
        files.append(write_table(options.output / "neighbours.csv", [head, *rows]).name)
    if options.tsne:
        files += _map(network, queries, options)
    summary = {
        "model": network.label,
        "arch": network.arch,
        "images": len(queries.files),
        "dimensions": int(queries.features.shape[1]),
        "gallery": size,
        "metric": options.metric,
        "knn_accuracy": accuracies,
        "files": [*files, "embed.json"],
    }
    text = json.dumps(summary, ensure_ascii=False, indent=1)
    write_atomically(options.output / "embed.json", lambda aside: aside.write_text(text, encoding="utf-8"))
    return summary


def _gallery(network: Network, options: RetrievalOptions, files: list) -> Optional[Embeddings]:
    if options.gallery is None:
        return None
    if options.gallery.suffix in SUFFIXES:
        return read_embeddings(options.gallery)
    found = embed(network, options.gallery, options.batch_size)
    path = options.output / f"gallery.{options.file_format}"
    write_embeddings(path, found)
    files.append(path.name)
    return found


def _map(network: Network, queries: Embeddings, options: RetrievalOptions) -> list[str]:
    places = tsne(queries, options.metric, options.seed)
    rows = [(file, label, *map(float, place)) for file, label, place in zip(queries.files, queries.labels, places)]
    table = write_table(options.output / "tsne.csv", [("file", "label", "x", "y"), *rows])
    title = f"{network.label}: t-SNE of {len(rows):,} images by {options.metric} distance"
    save_map(options.output / "tsne.png", places, queries.labels, network.class_names, title)
    return [table.name, "tsne.png"]
