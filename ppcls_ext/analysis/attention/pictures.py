"""Pictures of attention, of position embeddings and of feature maps."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import cv2
import numpy as np

from ppcls_ext.analysis.attention.geometry import LayerAttention, Locality
from ppcls_ext.analysis.drawing import figure
from ppcls_ext.analysis.explanation.pictures import overlaid

COLUMNS = 6


def draw_query(
    path: Path,
    picture: np.ndarray,
    query: tuple[int, int],
    layers: Sequence[LayerAttention],
    numbers: Sequence[Locality],
    title: str,
) -> None:
    """Draw what a query attends to, a panel for each layer, the mean over its heads.

    Args:
        path: where to write.
        picture: the image, ``[H, W, 3]`` in [0, 1].
        query: row and column, in pixels of the image.
        layers: of the network.
        numbers: of each layer.
        title: of the picture.
    """
    panels = [("query", picture)]
    for layer, number in zip(layers, numbers):
        words = f"{layer.name}\n{number.distance:.1f} px, 3×3: {100 * number.nearby:.0f}%"
        panels.append((words, _over(picture, layer.of_pixel(*query).mean(axis=0))))
    _grid(path, panels, query, title)


def draw_heads(
    path: Path, picture: np.ndarray, query: tuple[int, int], layers: Sequence[LayerAttention], title: str
) -> None:
    """Draw what a query attends to, a panel for each head of each layer."""
    panels = [("query", picture)]
    for layer in layers:
        maps = layer.of_pixel(*query)
        panels += [(f"{layer.name}\nhead {number}", _over(picture, found)) for number, found in enumerate(maps)]
    _grid(path, panels, query, title)


def _over(picture: np.ndarray, found: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    return overlaid(picture, cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST), "attention")


def _grid(path: Path, panels: Sequence[tuple], query: tuple[int, int], title: str) -> None:
    rows = -(-len(panels) // COLUMNS)
    with figure(path, (2.2 * min(COLUMNS, len(panels)), 2.55 * rows), [title]) as (drawn, _):
        grid = drawn.subplots(rows, min(COLUMNS, len(panels)), squeeze=False).ravel()
        for axes in grid:
            axes.axis("off")
        for axes, (words, pixels) in zip(grid, panels):
            axes.imshow(np.clip(pixels, 0, 1), interpolation="nearest")
            axes.plot(query[1], query[0], "x", color="#00c853", markersize=7, markeredgewidth=2)
            axes.set_title(words, fontsize=6.5)
        drawn.suptitle(title, fontsize=9, y=1 + 0.07 / rows)  # above the titles of the panels


def draw_positions(path: Path, similarity: np.ndarray, title: str) -> None:
    """Draw, at the place of each patch, how similar its position embedding is to all others'."""
    rows, columns = similarity.shape[:2]
    gap = 1
    mosaic = np.full((rows * (rows + gap) - gap, columns * (columns + gap) - gap), np.nan)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (rows + gap), column * (columns + gap)
            mosaic[top : top + rows, left : left + columns] = similarity[row, column]
    with figure(path, (6.5, 6.5 * rows / columns), [title]) as (drawn, _):
        axes = drawn.add_subplot()
        shown = axes.imshow(mosaic, vmin=-1, vmax=1, cmap="viridis", interpolation="nearest")
        axes.set_xticks(
            [column * (columns + gap) + columns / 2 for column in range(columns)], [str(n + 1) for n in range(columns)]
        )
        axes.set_yticks([row * (rows + gap) + rows / 2 for row in range(rows)], [str(n + 1) for n in range(rows)])
        axes.set_xlabel("column of the patch")
        axes.set_ylabel("row of the patch")
        axes.set_title(title, fontsize=9)
        drawn.colorbar(shown, ax=axes, fraction=0.046, label="cosine similarity")


def draw_features(path: Path, picture: np.ndarray, stages: Sequence[tuple[str, np.ndarray]], title: str) -> None:
    """Draw the strongest channels of each stage, a row a stage; each is scaled by itself."""
    columns = 1 + max(len(channels) for _, channels in stages)
    with figure(path, (1.5 * columns, 1.75 * len(stages)), [title]) as (drawn, _):
        for axes_of_stage, (name, channels) in zip(drawn.subplots(len(stages), columns, squeeze=False), stages):
            for axes in axes_of_stage:
                axes.axis("off")
            axes_of_stage[0].imshow(picture)
            axes_of_stage[0].set_title(f"{name}\n{channels.shape[1]}×{channels.shape[2]}", fontsize=7)
            for axes, channel in zip(axes_of_stage[1:], channels):
                axes.imshow(channel, cmap="viridis", interpolation="nearest")
        drawn.suptitle(title, fontsize=9)
