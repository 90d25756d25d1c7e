"""Two files of predictions over the same images, brought into one order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional, Union

import numpy as np

from ppcls_ext.analysis.report.errors import ReportError
from ppcls_ext.data.real_labels import RealLabels
from ppcls_ext.engine.predictions import UNKNOWN, Predictions
from ppcls_ext.metrics.agreement import Agreement, compare_correctness, compare_predictions


def aligned(
    first: Predictions, second: Predictions, paths: tuple[Union[str, Path], Union[str, Path]]
) -> tuple[Predictions, Predictions]:
    """Return both in the order of the first.

    Images are matched by their paths, or else by their paths below the folder that all images of a file are in, so that
    the data may lie elsewhere on another machine.

    Raises:
        ReportError: if the images, their labels, or the classes differ; the message names the first.
    """
    if first.header.class_num != second.header.class_num and first.class_ids is None and second.class_ids is None:
        raise ReportError(
            f"{paths[0]} has {first.header.class_num} classes, {paths[1]} has {second.header.class_num}; "
            "expected two models with the same classes"
        )
    names = first.header.class_names, second.header.class_names
    if None not in names and list(names[0] or ()) != list(names[1] or ()):
        number = next(i for i, pair in enumerate(zip(names[0] or (), names[1] or ())) if pair[0] != pair[1])
        ours, theirs = ((of_one or ())[number] for of_one in names)
        raise ReportError(f"class {number} is {ours!r} in {paths[0]} and {theirs!r} in {paths[1]}")
    order = _order(first.files, second.files, paths)
    second = second.take(order)
    known = (first.labels != UNKNOWN) & (second.labels != UNKNOWN)
    differ = known & (first.labels != second.labels)
    if differ.any():
        row = int(differ.argmax())
        raise ReportError(
            f"{first.files[row]} has the label {first.labels[row]} in {paths[0]} and {second.labels[row]} in {paths[1]}"
        )
    return first, second


def _order(first: list[str], second: list[str], paths: tuple) -> np.ndarray:
    for key in (_normal, _below_common_folder):
        places = {name: row for row, name in enumerate(key(second))}
        names = key(first)
        if len(places) == len(second) and len(first) == len(second) and set(names) == set(places):
            return np.array([places[name] for name in names])
    names, others = _normal(first), set(_normal(second))
    only_first = [name for name in names if name not in others]
    only_second = [name for name in _normal(second) if name not in set(names)]
    shown = f"{only_first[0]} is in {paths[0]} alone" if only_first else f"{only_second[0]} is in {paths[1]} alone"
    raise ReportError(
        f"the files are of different images: {len(first)} and {len(second)} of them, "
        f"{len(set(names) & others)} in both; {shown}"
    )


def _normal(files: list[str]) -> list[str]:
    return [os.path.normpath(file) for file in files]


def _below_common_folder(files: list[str]) -> list[str]:
    names = [os.path.abspath(file) for file in files]
    folder = os.path.commonpath([os.path.dirname(name) for name in names])
    return [os.path.relpath(name, folder) for name in names]


def compare(first: Predictions, second: Predictions, real: Optional[RealLabels] = None) -> Agreement:
    """Compare two aligned files by their best classes; without labels they are compared with each other alone.

    Args:
        first: of one model.
        second: of the other, in the same order.
        real: reassessed labels, by which an image is right; images without any are left out.
    """
    ours, theirs = first.ranked(1)[:, 0], second.ranked(1)[:, 0]
    if real is not None:
        right, counts = real.score(first.files, ours)
        also_right, _ = real.score(first.files, theirs)
        if not counts.any():
            raise ReportError(f"{real.path} has no label for any of the {len(counts)} images")
        return compare_correctness(right[counts], also_right[counts], float((ours == theirs)[counts].mean()))
    labels = np.where(first.labels == UNKNOWN, second.labels, first.labels)
    return compare_predictions(ours, theirs, None if (labels == UNKNOWN).any() else labels)
