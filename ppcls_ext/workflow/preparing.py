"""``prepare``: from a folder, a list or a CSV file to a data set with a report."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Hashable, Optional, Sequence, Union

from ppcls_ext.analysis.dataset_page import write_histogram, write_page
from ppcls_ext.data.errors import PreparationError
from ppcls_ext.data.image_files import LIST_SUFFIXES
from ppcls_ext.data.preparation.collection import Collection, check_classes, some
from ppcls_ext.data.preparation.duplicates import POLICIES, Copies, dropped_copies, find_copies
from ppcls_ext.data.preparation.facts import describe
from ppcls_ext.data.preparation.folders import read_folder
from ppcls_ext.data.preparation.inspection import inspect_images
from ppcls_ext.data.preparation.splitting import split
from ppcls_ext.data.preparation.tables import lists_in, read_csv, read_lists
from ppcls_ext.data.preparation.writing import PreparedDataset, check_output, write_lists
from ppcls_ext.data.text_files import printable

VAL = 0.2


@dataclass(frozen=True)
class PrepareOptions:
    """How a data set is made.

    Attributes:
        val: share of validation; None: 0.2, or what the data's own parts are.
        test: share of the test part; None: 0, or what the data's own parts are.
        seed: of the split.
        group_pattern: regular expression searched in each path; what it finds (its first group, if it has one) names
            the group of images that stay together.
        duplicates: ``keep``, in one part; or ``drop``, one of each stays.
        image_root: where relative paths of a list or CSV file start; None: its own folder.
        label_names: names of the classes by id, for lists.
        relabel: number the classes of lists anew where ids are missing.
        overwrite: whether files of an earlier data set may be replaced.
        progress: whether to show a progress bar.
    """

    val: Optional[float] = None
    test: Optional[float] = None
    seed: int = 0
    group_pattern: Optional[str] = None
    duplicates: str = "keep"
    image_root: Optional[Path] = None
    label_names: Optional[Path] = None
    relabel: bool = False
    overwrite: bool = False
    progress: bool = True


def prepare_dataset(
    source: Union[str, Path], output: Union[str, Path, None] = None, options: Optional[PrepareOptions] = None
) -> PreparedDataset:
    """Check a user's images, split them, and write lists, a label file and a report. No image is moved or changed.

    Args:
        source: a folder of class folders (also below ``train/``, ``val/`` and ``test/``), a folder with PaddleClas's
            ``train_list.txt``, such a list, or a CSV file with the columns path, label and optionally group and split.
        output: folder to write to; by default ``dataset/<name of the source>``.
        options: how.

    Returns:
        The data set; ``report["warnings"]`` holds what deserves a look.

    Raises:
        FileNotFoundError: if the source is not there.
        PreparationError, LabelFileError: if it cannot become a data set; the message names the files and what to do.
    """
    options = options or PrepareOptions()
    source = Path(source)
    output = default_output(source) if output is None else Path(output)
    _check_options(options)
    check_output(output, source, options.overwrite)
    collection = _read(source, options)
    check_classes(collection)
    facts = inspect_images([collection.path(item) for item in collection.items], options.progress)
    left_out = {index: fact.error for index, fact in enumerate(facts) if fact.error}
    copies = find_copies(collection, facts)
    left_out.update(dropped_copies(collection, copies, options.duplicates))
    _check_left(collection, left_out)
    parts = _parts(collection, copies, left_out, options)
    report = {
        **describe(collection, facts, parts, copies, left_out),
        "seed": options.seed,
        "duplicates": options.duplicates,
        "group_pattern": options.group_pattern,
    }
    dataset = write_lists(output, collection, parts, report)
    histogram = write_histogram(dataset)
    write_page(dataset, histogram)
    return dataset


def default_output(source: Path) -> Path:
    """Return where a data set goes that the user gives no folder for."""
    name = source.resolve().name
    return Path("dataset") / (name if source.is_dir() else Path(name).stem)


def _check_options(options: PrepareOptions) -> None:
    for name in ("val", "test"):
        share = getattr(options, name)
        if share is not None and not 0 <= share < 1:
            raise PreparationError(f"--{name}: expected a share from 0 to below 1, got {share:g}")
    if (options.val or 0) + (options.test or 0) >= 1:
        raise PreparationError("--val and --test leave nothing for training; together they are to be below 1")
    if options.duplicates not in POLICIES:
        raise PreparationError(f"--duplicates: expected {' or '.join(POLICIES)}, got {options.duplicates!r}")
    if options.group_pattern is not None:
        try:
            re.compile(options.group_pattern)
        except re.error as error:
            raise PreparationError(f"--group_pattern {options.group_pattern!r}: {error}") from None


def _read(source: Path, options: PrepareOptions) -> Collection:
    if source.is_dir():
        lists = lists_in(source)
        if lists:
            root = options.image_root or source
            return read_lists(source, lists, root, options.label_names, options.relabel)
        for name in ("image_root", "label_names", "relabel"):
            if getattr(options, name):
                raise PreparationError(f"--{name} is about lists; {printable(source)} is a folder of class folders")
        return read_folder(source)
    if not source.exists():
        raise FileNotFoundError(f"no such folder, list or CSV file: {printable(source)}")
    root = options.image_root or source.parent
    if source.suffix.lower() == ".csv":
        return read_csv(source, root)
    if source.suffix.lower() in LIST_SUFFIXES:
        return read_lists(source, {None: source}, root, options.label_names, options.relabel)
    raise PreparationError(
        f"{printable(source)} is neither a folder nor a list ({', '.join(LIST_SUFFIXES)}); expected class folders, a "
        "PaddleClas list or a CSV file"
    )


def _check_left(collection: Collection, left_out: dict[int, str]) -> None:
    """Check that every class keeps an image.

    Raises:
        PreparationError: naming the class and why its images are left out.
    """
    left = {item.label for index, item in enumerate(collection.items) if index not in left_out}
    for label, name in enumerate(collection.class_names):
        if label not in left:
            reasons = [
                f"{collection.items[index].name}: {reason}"
                for index, reason in left_out.items()
                if collection.items[index].label == label
            ]
            raise PreparationError(
                f"the class {name!r} has no image that can be used ({some(reasons, 3)}); replace them, or take the "
                "class away"
            )


def _parts(
    collection: Collection, copies: Sequence[Copies], left_out: dict[int, str], options: PrepareOptions
) -> list[Optional[str]]:
    """Return the part of each image; None for those that are left out."""
    given = collection.parts
    for name in ("val", "test"):
        if name in given and getattr(options, name) is not None:
            raise PreparationError(f"--{name} is given, but {printable(collection.source)} has its own {name} part")
    val = 0.0 if "val" in given else VAL if options.val is None else options.val
    test = 0.0 if "test" in given else options.test or 0.0
    parts: list[Optional[str]] = [item.part for item in collection.items]
    free = [index for index, part in enumerate(parts) if index not in left_out and part in (None, "train")]
    groups = _groups(collection, copies, options.group_pattern)
    labels = [collection.items[index].label for index in free]
    for index, part in zip(free, split(labels, [groups[index] for index in free], val, test, options.seed)):
        parts[index] = part
    _check_groups(collection, parts, left_out, options.group_pattern)
    untrained = set(range(len(collection.class_names))) - {
        item.label for index, item in enumerate(collection.items) if parts[index] == "train" and index not in left_out
    }
    if untrained:
        names = [collection.class_names[label] for label in sorted(untrained)]
        raise PreparationError(f"no training image of {some(names)}; put some into the training part")
    return [None if index in left_out else part for index, part in enumerate(parts)]


def _group_of(collection: Collection, index: int, pattern: Optional[str]) -> Optional[str]:
    """Return the group that the user puts an image into."""
    item = collection.items[index]
    if item.group is not None:
        return item.group
    found = re.search(pattern, item.name) if pattern else None
    return None if found is None else (found[1] if found.re.groups else found[0])


def _groups(collection: Collection, copies: Sequence[Copies], pattern: Optional[str]) -> list[Hashable]:
    """Return what images that have to stay together have in common: their group, or that they are copies."""
    representative = list(range(len(collection.items)))

    def root(index: int) -> int:
        while representative[index] != index:
            representative[index] = representative[representative[index]]
            index = representative[index]
        return index

    first: dict[str, int] = {}
    for index in representative[:]:
        group = _group_of(collection, index, pattern)
        if group is not None:
            representative[root(index)] = root(first.setdefault(group, index))
    for item in copies:
        for index in item.indices[1:]:
            representative[root(index)] = root(item.indices[0])
    if pattern and not first:
        raise PreparationError(
            f"--group_pattern {pattern!r} matches no path, such as {printable(collection.items[0].name)!r}"
        )
    return [root(index) for index in representative]


def _check_groups(
    collection: Collection, parts: Sequence[Optional[str]], left_out: dict[int, str], pattern: Optional[str]
) -> None:
    """Check that the data's own parts do not share a group.

    Raises:
        PreparationError: naming the group, and an image of it in each part.
    """
    seen: dict[str, dict] = {}
    for index, item in enumerate(collection.items):
        group = _group_of(collection, index, pattern)
        if group is not None and index not in left_out:
            seen.setdefault(group, {}).setdefault(parts[index], item.name)
    torn = {group: names for group, names in seen.items() if len(names) > 1}
    if torn:
        group, names = next(iter(torn.items()))
        shown = ", ".join(f"{printable(name)} ({part})" for part, name in names.items())
        raise PreparationError(
            f"{len(torn)} groups are in several parts, the first {group!r}: {shown}; put each group into one part"
        )
