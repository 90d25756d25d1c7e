"""Receptive fields side by side on one scale: a column a model, a row a stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ppcls_ext.analysis.drawing import figure, short
from ppcls_ext.analysis.receptive_field.session import Field, Fields

ABSOLUTE, RELATIVE = "absolute", "relative"
#: Below this part of a field's largest value everything has one colour on the relative scale.
FLOOR = 1e-3


def shown(arrays: dict[str, np.ndarray], scale: str) -> dict[str, np.ndarray]:
    """Return the values that colours stand for, from 0 to 1.

    Args:
        arrays: fields.
        scale: ``absolute``: log10(1 + field), from the least of all fields to the largest, as Sequencer's authors draw
            them, which also compares the sizes of gradients; ``relative``: the logarithm of each field as a part of its
            largest value, from a thousandth to 1.
    """
    if scale == RELATIVE:
        return {
            key: 1 - np.log(np.maximum(field / field.max(), FLOOR)) / np.log(FLOOR) for key, field in arrays.items()
        }
    logarithms = {key: np.log10(1 + field) for key, field in arrays.items()}
    low = min(values.min() for values in logarithms.values())
    high = max(values.max() for values in logarithms.values())
    return {key: (values - low) / (high - low) for key, values in logarithms.items()}


def draw(found: Fields, arrays: dict[str, np.ndarray], path: Path, scale: str = ABSOLUTE) -> Path:
    """Draw all fields."""
    labels = list(dict.fromkeys(field.label for field in found.fields))
    columns = [[field for field in found.fields if field.label == label] for label in labels]
    rows = max(map(len, columns))
    values = shown(arrays, scale)
    with figure(path, (2.2 * len(labels) + 0.9, 2.45 * rows + 0.5), labels) as (drawn, _):
        all_axes = drawn.subplots(rows, len(labels), squeeze=False)
        image = None
        for number, column in enumerate(columns):
            for row in range(rows):
                axes = all_axes[row][number]
                axes.set_xticks([])
                axes.set_yticks([])
                if row >= len(column):
                    axes.set_axis_off()
                    continue
                image = axes.imshow(values[column[row].key], cmap="inferno", vmin=0, vmax=1, interpolation="nearest")
                axes.set_title(_title(column[row], row == 0), fontsize=8)
        if image is not None:
            _add_scale(drawn, image, all_axes, scale)
    return path


def _title(field: Field, with_name: bool) -> str:
    size = f"{field.height}" if field.height == field.width else f"{field.height}x{field.width}"
    where = f"{field.stage}, {field.map_height}x{field.map_width} of {size}"
    return f"{short(field.label)}\n{where}" if with_name else where


def _add_scale(drawn: Any, image: Any, all_axes: Any, scale: str) -> None:
    bar = drawn.colorbar(image, ax=all_axes.ravel().tolist(), shrink=0.7, aspect=30)
    if scale == RELATIVE:
        ticks = np.linspace(0, 1, 4)
        bar.set_ticks(ticks, labels=[f"{FLOOR ** (1 - tick):g}" for tick in ticks])
        bar.set_label("part of the largest contribution", fontsize=8)
    else:
        bar.set_label("log10(1 + contribution), from least to largest", fontsize=8)
    bar.ax.tick_params(labelsize=7)
