"""Maps over the images that they explain."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Optional, Sequence

import numpy as np

from ppcls_ext.analysis.drawing import figure, short
from ppcls_ext.utils.files import write_atomically

#: Methods whose maps have two signs: red speaks for the class, blue against it.
SIGNED = ("integrated_gradients", "occlusion", "lime")
#: An overlay is enlarged to this many pixels at least.
LEAST_SIDE = 224


class Cell(NamedTuple):
    """A place in a grid: ``[H, W, 3]`` in [0, 1], a map ``[H, W]`` or None, the method, and the lines above.

    ``fallback`` stands for the last line where no font has its characters.
    """

    picture: np.ndarray
    map: Optional[np.ndarray]
    method: str
    lines: tuple[str, ...]
    fallback: str = ""


def overlaid(picture: np.ndarray, found: np.ndarray, method: str) -> np.ndarray:
    """Return a map over its image, float ``[H, W, 3]`` in [0, 1].

    The map's scale ends at the 99th percentile of its magnitude, so that single pixels do not darken the rest.
    """
    from matplotlib import colormaps

    top = float(np.percentile(np.abs(found), 99)) or float(np.abs(found).max()) or 1.0
    relative = np.clip(found / top, -1, 1)
    grey = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2) * 0.6 + 0.4
    if method in SIGNED:
        colours, strength = colormaps["RdBu_r"]((relative + 1) / 2)[..., :3], np.abs(relative)
    else:
        relative = np.maximum(relative, 0)
        colours, strength = colormaps["jet"](relative)[..., :3], 0.25 + 0.75 * relative
    strength = 0.75 * strength[..., None]
    return (1 - strength) * grey + strength * colours


def save_overlay(path: Path, picture: np.ndarray, found: np.ndarray, method: str) -> None:
    """Write a map over its image as PNG, small images enlarged without smoothing."""
    from PIL import Image

    pixels = Image.fromarray(np.uint8(np.round(255 * np.clip(overlaid(picture, found, method), 0, 1))))
    factor = -(-LEAST_SIDE // min(pixels.size))
    if factor > 1:
        pixels = pixels.resize((pixels.width * factor, pixels.height * factor), Image.Resampling.NEAREST)
    write_atomically(path, lambda aside: pixels.save(aside, format="PNG"))


def save_grid(path: Path, rows: Sequence[Sequence[Cell]]) -> None:
    """Draw a row for each image and model: the image, then the map of each method."""
    columns = max(map(len, rows))
    lines = max(len(cell.lines) for row in rows for cell in row)
    texts = [line for row in rows for cell in row for line in cell.lines]
    with figure(path, (2.1 * columns, (2.1 + 0.22 * lines) * len(rows)), texts) as (drawn, fonts):
        for places, row in zip(drawn.subplots(len(rows), columns, squeeze=False), rows):
            for axes in places:
                axes.axis("off")
            for axes, cell in zip(places, row):
                pixels = cell.picture if cell.map is None else overlaid(cell.picture, cell.map, cell.method)
                shade = 0.35 if cell.map is None and cell.method else 1.0
                small = max(pixels.shape[:2]) < 64
                axes.imshow(np.clip(pixels, 0, 1), alpha=shade, interpolation="nearest" if small else "antialiased")
                *first, last = [short(line) for line in cell.lines]
                last = last if fonts.can_show(last) else cell.fallback
                axes.set_title("\n".join([*first, last]), fontsize=8)
