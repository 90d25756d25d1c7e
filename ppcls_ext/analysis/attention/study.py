"""What ``ppcls_ext attention`` does for one model and one image."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

import numpy as np

from ppcls_ext.analysis.attention.pictures import draw_features, draw_heads, draw_positions, draw_query
from ppcls_ext.analysis.attention.recording import (
    AttentionError,
    attention_layers,
    feature_maps,
    position_similarity,
)
from ppcls_ext.analysis.drawing import require_matplotlib
from ppcls_ext.analysis.explanation.subject import shown
from ppcls_ext.analysis.subjects import Network
from ppcls_ext.data.errors import TransformError
from ppcls_ext.data.preprocess import build_transforms
from ppcls_ext.utils.files import open_regular, write_atomically
from ppcls_ext.utils.spelling import nearest
from ppcls_ext.utils.tables import write_table


@dataclass(frozen=True)
class AttentionOptions:
    """What is asked for.

    Attributes:
        output: folder to write to.
        query: row and column in pixels of the network's input; None takes its centre.
        layers: shell patterns of names.
        heads: whether to draw each head too.
        positions: whether to draw ViT's position embeddings.
        features: whether to draw feature maps.
    """

    output: Path
    query: Optional[tuple[int, int]] = None
    layers: Sequence[str] = ("*",)
    heads: bool = False
    positions: bool = False
    features: bool = False


def study(network: Network, path: Path, options: AttentionOptions) -> dict:
    """Draw and measure the attention of a model for an image.

    Files, their names beginning with the image's and the model's: ``.attention.png``, ``.attention.csv`` (numbers by
    layer), ``.attention.npz`` (each layer's map of the query, ``[heads, rows, columns]``), ``.attention.json``, and
    where asked for ``.heads.png``, ``.positions.png`` and ``.features.png``.

    Returns:
        ``image``, ``model``, ``query``, ``layers`` (``name``, ``stride``, ``heads`` and the numbers of
        :class:`ppcls_ext.analysis.attention.geometry.Locality`) and ``files``.

    Raises:
        AttentionError: the model has no attention or no positions, the query lies outside the image, no layer has such
            a name, or the image cannot be read.
        DrawingError: matplotlib is missing.
    """
    require_matplotlib()
    with open_regular(path) as file:
        content = file.read()
    try:
        image = np.asarray(build_transforms(network.transforms)(content), np.float32)
    except (TransformError, ValueError) as error:
        raise AttentionError(f"{path} cannot be read: {error}") from None
    height, width = image.shape[1:]
    query = options.query or (height // 2, width // 2)
    if not (0 <= query[0] < height and 0 <= query[1] < width):
        raise AttentionError(f"the query ({query[0]}, {query[1]}) is outside the image of {height}x{width} pixels")
    # Everything is computed before anything is written.
    features = feature_maps(network.model, image) if options.features else None
    positions = position_similarity(network.model) if options.positions else None
    every = attention_layers(network.model, image)
    layers = [layer for layer in every if any(fnmatch.fnmatchcase(layer.name, name) for name in options.layers)]
    if not layers:
        names = [layer.name for layer in every]
        hint = nearest(options.layers[0], names, 3) or names[:3]
        raise AttentionError(f"no attention layer is called {options.layers[0]!r}; there are {', '.join(hint)} …")
    numbers = [layer.locality() for layer in layers]

    options.output.mkdir(parents=True, exist_ok=True)
    label = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in network.label)
    stem = f"{path.stem}.{label}"
    picture = shown(image, network.transforms)
    title = f"{network.label}: attention of the place at row {query[0]}, column {query[1]}"
    files = [f"{stem}.attention.png"]
    draw_query(options.output / files[0], picture, query, layers, numbers, title)
    if options.heads:
        files.append(f"{stem}.heads.png")
        draw_heads(options.output / files[-1], picture, query, layers, title)
    if positions is not None:
        files.append(f"{stem}.positions.png")
        draw_positions(options.output / files[-1], positions, f"{network.label}: position embeddings")
    if features is not None:
        files.append(f"{stem}.features.png")
        draw_features(options.output / files[-1], picture, features, f"{network.label}: strongest channels by stage")
    rows = [
        {"name": layer.name, "stride": layer.stride, "heads": len(layer.probabilities), **number._asdict()}
        for layer, number in zip(layers, numbers)
    ]
    files.append(
        write_table(
            options.output / f"{stem}.attention.csv", [list(rows[0]), *(list(row.values()) for row in rows)]
        ).name
    )
    maps = {layer.name: layer.of_pixel(*query) for layer in layers}
    files.append(f"{stem}.attention.npz")
    write_atomically(options.output / files[-1], lambda aside: _save(aside, maps))
    summary = {"image": str(path), "model": network.label, "query": list(query), "layers": rows}
    files.append(f"{stem}.attention.json")
    text = json.dumps({**summary, "files": files}, ensure_ascii=False, indent=1)
    write_atomically(options.output / files[-1], lambda aside: aside.write_text(text, encoding="utf-8"))
    return {**summary, "files": files}


def _save(path: Path, maps: dict) -> None:
    with path.open("wb") as stream:
        np.savez_compressed(stream, **maps)
