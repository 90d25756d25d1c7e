"""Dividing images into parts: each class in the same shares, groups kept together, by a seed."""

from __future__ import annotations

import warnings
from fractions import Fraction
from typing import Hashable, Optional, Sequence

import numpy as np

from ppcls_ext.data.errors import PreparationError

#: Folds that a share becomes at most: 0.15 is three of 20.
MOST_FOLDS = 20


def split(labels: Sequence[int], groups: Optional[Sequence[Hashable]], val: float, test: float, seed: int) -> list[str]:
    """Return the part of each image.

    Each class is shuffled by itself and gives its share, rounded, and at least one image to each part that it has
    enough images for; a single image goes to training. Groups within a class are given whole. Where groups hold images
    of several classes, scikit-learn's StratifiedGroupKFold looks for groups whose classes come near the shares; a group
    that holds all images of a class goes to training.

    Args:
        labels: class ids.
        groups: what images of one group have in common; None where each stands by itself.
        val: share of validation, in [0, 1).
        test: share of the test part, in [0, 1); with ``val`` below 1.
        seed: of the shuffling.

    Raises:
        PreparationError: if groups cannot be divided so that every class is trained, or a part would be empty.
    """
    labels_array = np.asarray(labels, np.int64)
    numbers = np.arange(len(labels_array))
    if groups is not None:
        numbers = np.unique([str(group) for group in groups], return_inverse=True)[1].reshape(-1)
    if len(np.unique(np.stack([numbers, labels_array]), axis=1).T) == len(np.unique(numbers)):
        found = _by_class(labels_array, numbers, val, test, seed)
        for part, share in (("val", val), ("test", test)):
            if share > 0 and part not in found:
                raise PreparationError(
                    f"the images cannot be divided: no class has an image for {part}: each has a single one, or a "
                    f"single group for all; add images, or groups, or give --{part} 0"
                )
        return found
    parts = np.full(len(labels_array), "train", dtype=object)
    rest = np.arange(len(labels_array))
    for part, share in (("test", test), ("val", val / (1 - test))):
        if share > 0:
            chosen = rest[_whole_groups(labels_array[rest], numbers[rest], share, seed, part)]
            parts[chosen] = part
            rest = np.setdiff1d(rest, chosen)
    return parts.tolist()


def _by_class(labels: np.ndarray, groups: np.ndarray, val: float, test: float, seed: int) -> list[str]:
    """Divide where no group holds images of two classes."""
    parts = np.full(len(labels), "train", dtype=object)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        spare = len(members) - 1  # one image for training
        in_val = min(spare, max(round(len(members) * val), 1)) if val > 0 else 0
        in_test = min(spare - in_val, max(round(len(members) * test), 1)) if test > 0 else 0
        # A generator for each class: a class that is added leaves the others' split as it is.
        rng = np.random.default_rng([seed, int(label)])
        _, first, sizes = np.unique(groups[members], return_index=True, return_counts=True)
        order = rng.permutation(np.argsort(first))  # of the groups, as their first images come
        left = {"val": in_val, "test": in_test}
        wanted = [part for part, count in left.items() if count]
        for group in order:
            part = next((name for name in wanted if sizes[group] <= left[name]), None)
            if part is not None:
                left[part] -= sizes[group]
                parts[members[groups[members] == groups[members[first[group]]]]] = part
        # Where every group is larger than a part's share, the smallest becomes the part.
        for part in wanted:
            rest = [group for group in order if parts[members[first[group]]] == "train"]
            if not (parts[members] == part).any() and len(rest) > 1:
                smallest = min(rest, key=lambda group: sizes[group])
                parts[members[groups[members] == groups[members[first[smallest]]]]] = part
    return parts.tolist()


def _whole_groups(labels: np.ndarray, groups: np.ndarray, share: float, seed: int, part: str) -> np.ndarray:
    """Return the indices of the groups that become a part."""
    from sklearn.model_selection import StratifiedGroupKFold

    alone = [np.unique(groups[labels == label]) for label in np.unique(labels)]
    pinned = np.isin(groups, [members[0] for members in alone if len(members) == 1])
    free = np.flatnonzero(~pinned)
    count = len(np.unique(groups[free]))
    if count < 2:
        raise PreparationError(
            f"the groups cannot be divided: {count} group could leave training without taking a class along; use a "
            "--group_pattern (or column group) with more groups, or give the parts yourself in a CSV column split"
        )
    most = min(MOST_FOLDS, count, int(np.unique(labels[free], return_counts=True)[1].max()))
    if most < 2:
        raise PreparationError("the groups cannot be divided: no class has two images in groups that may leave it")
    fraction = max(Fraction(share).limit_denominator(most), Fraction(1, most))
    folding = StratifiedGroupKFold(fraction.denominator, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes with fewer images than folds: the report tells of them
        folds = [chosen for _, chosen in folding.split(free, labels[free], groups[free])]
    for first in range(len(folds)):
        turned = folds[first:] + folds[:first]
        chosen = free[np.concatenate(turned[: fraction.numerator])]
        if len(chosen) and set(np.unique(np.delete(labels, chosen))) == set(np.unique(labels)):
            return chosen
    raise PreparationError(
        f"the groups cannot be divided so that each class is in training and {part}: a class has too few groups; give "
        "the parts yourself in a CSV column split"
    )
