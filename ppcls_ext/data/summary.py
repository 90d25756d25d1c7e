"""What a configuration check needs to know of the labels, without reading an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence

import numpy as np

from ppcls_ext.data.build import build_dataset
from ppcls_ext.data.label_list import SHOWN


@dataclass(frozen=True)
class LabelSummary:
    """The labels of one dataset: how many samples, the least and greatest label, the number of distinct ones."""

    count: int
    min: int
    max: int
    classes: int
    missing_count: int
    missing: tuple  # the first few files that do not exist
    relabel: bool
    original_classes: tuple  # the distinct labels as the files have them, before any relabelling
    class_names: Optional[tuple] = None  # by id, where the dataset knows them

    def problem(self, class_num: int) -> Optional[str]:
        """Return a sentence if the labels do not fit a model with ``class_num`` classes, else None."""
        if self.max < class_num:
            return None
        text = f"labels go from {self.min} to {self.max}, but class_num {class_num} allows 0 to {class_num - 1}"
        if self.min == 1 and self.max == class_num:
            return f"{text}; the labels look 1-based: subtract 1, or set dataset.relabel: True"
        return f"{text}; set Arch.class_num to {self.max + 1}, or correct the list"


def relabel_problem(train: LabelSummary, other: LabelSummary) -> Optional[str]:
    """Return a sentence if relabelling would give one class two numbers in two lists, else None.

    Each list is relabelled separately, so the numbers agree only where both lists have the same classes.
    """
    if not (train.relabel or other.relabel):
        return None
    if train.relabel and other.relabel and train.original_classes == other.original_classes:
        return None
    if train.relabel != other.relabel and train.original_classes == tuple(range(train.classes)):
        return None
    only = sorted(set(train.original_classes) ^ set(other.original_classes))
    found = f"; labels in one list alone: {only[:SHOWN]}" if only else ""
    return f"relabel numbers the classes of each list separately, so both must relabel and hold the same classes{found}"


def inspect_labels(
    section: dict, check_files: bool = True, class_names: Optional[Sequence[str]] = None
) -> LabelSummary:
    """Read the label list (or the class folders) of a ``dataset`` section.

    Args:
        section: ``DataLoader.<mode>.dataset``; its ``transform_ops`` are not looked at.
        check_files: also look for every image file (each folder is listed once).
        class_names: names of the classes by id in training, which number the folders of an ImageFolder.

    Raises:
        FileNotFoundError: if the list or the folder does not exist.
        ValueError: if the section or the list is malformed; lines are named as ``file:line``.
    """
    section = {**section, "transform_ops": [{"DecodeImage": None}]}
    dataset = build_dataset(section, "Eval", check_files=False, class_names=class_names)
    missing = dataset.missing_files() if check_files else []
    labels = dataset.labels
    return LabelSummary(
        count=len(labels),
        min=int(labels.min()),
        max=int(labels.max()),
        classes=len(np.unique(labels)),
        missing_count=len(missing),
        missing=tuple(missing[:SHOWN]),
        relabel=bool(section.get("relabel")),
        original_classes=dataset.original_classes,
        class_names=None if dataset.class_names is None else tuple(dataset.class_names),
    )
