"""Reading PaddleClas's lists, and CSV files with columns."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Optional, Sequence

from ppcls_ext.data.errors import PreparationError
from ppcls_ext.data.label_list import read_label_list
from ppcls_ext.data.label_names import read_class_id_map
from ppcls_ext.data.preparation.collection import SHOWN, Collection, Item, check_class_names, part_of, some
from ppcls_ext.data.text_files import printable, read_text_file
from ppcls_ext.utils.spelling import nearest

LABEL_FILES = ("label_list.txt", "labels.txt", "label.txt", "classes.txt")
COLUMNS = ("path", "label", "group", "split")
LIST_NAMES = {"train": "train_list.txt", "val": "val_list.txt", "test": "test_list.txt"}


def lists_in(folder: Path) -> dict[Optional[str], Path]:
    """Return the lists of the parts that a folder holds, PaddleClas's way; empty without a training list."""
    found: dict[Optional[str], Path] = {
        part: folder / name for part, name in LIST_NAMES.items() if (folder / name).is_file()
    }
    return found if "train" in found else {}


def read_lists(
    source: Path,
    lists: dict[Optional[str], Path],
    image_root: Path,
    label_names: Optional[Path] = None,
    relabel: bool = False,
) -> Collection:
    """Read lists with one ``<path> <class id>`` a line.

    Args:
        source: what the user gave, for messages.
        lists: the list of each part; the part None is to be split.
        image_root: where relative paths start.
        label_names: names of the classes by id; by default a ``label_list.txt`` or ``labels.txt`` beside the lists.
        relabel: number the classes anew where ids are missing.

    Raises:
        FileNotFoundError, LabelFileError: if a list or the label file cannot be read.
        PreparationError: if an image is not there, or class ids do not count from 0 without gaps.
    """
    rows: list[tuple[str, int, Optional[str], str]] = []
    for part, path in lists.items():
        names, labels = read_label_list(path, None, image_root)
        numbers = [line.number for line in read_text_file(path, "label list").lines]
        rows += [
            (name, int(label), part, f"{printable(path)}:{number}")
            for name, label, number in zip(names, labels, numbers)
        ]
    beside = next(iter(lists.values())).parent
    label_names = label_names or next((beside / name for name in LABEL_FILES if (beside / name).is_file()), None)
    known = None if label_names is None else read_class_id_map(label_names)
    ids, class_names = _classes(rows, next(iter(lists.values())), known, label_names, relabel)
    kind = "lists" if len(lists) > 1 else "list"
    collection = Collection(source, kind, image_root, class_names)
    _add(collection, [Item(name, ids[label], part, None, where) for name, label, part, where in rows])
    return collection


def _classes(
    rows: Sequence[tuple],
    path: Path,
    known: Optional[list[str]],
    label_names: Optional[Path],
    relabel: bool,
) -> tuple[dict[int, int], list[str]]:
    """Return the new id of each label, and the names of the classes.

    Raises:
        PreparationError: if an id is negative, is beyond the label file, or has no image.
    """
    used = sorted({label for _, label, _, _ in rows})
    where = {label: place for _, label, _, place in reversed(rows)}
    if known is not None and (used[0] < 0 or used[-1] >= len(known)):
        wrong = used[0] if used[0] < 0 else used[-1]
        raise PreparationError(
            f"{where[wrong]}: class id {wrong}, but {label_names} names the classes 0 to {len(known) - 1}; correct one "
            "of them"
        )
    expected = list(range(len(known) if known is not None else used[-1] + 1))
    names = known or [str(label) for label in range(max(used[-1], 0) + 1)]
    if used == expected:
        check_class_names(names, f"classes in {label_names or path}")
        return {label: label for label in used}, names
    if not relabel:
        if used[0] < 0:
            raise PreparationError(f"{where[used[0]]}: class id {used[0]} is negative; ids count from 0")
        missing = [label for label in expected if label not in set(used)]
        named = "" if known is None else f" ({some(names[label] for label in missing)})"
        raise PreparationError(
            f"{printable(path)}: class ids are not contiguous, no image has class {some(missing)}{named}; ids are to "
            "count from 0. --relabel numbers the classes that have images anew; their names stay"
        )
    names = [str(label) if known is None else known[label] for label in used]
    return {label: number for number, label in enumerate(used)}, names


def read_csv(path: Path, image_root: Path) -> Collection:
    """Read a CSV file with the columns ``path``, ``label`` (a name), and optionally ``group`` and ``split``.

    Classes are numbered in the order of their names; where all names are numbers, in the order of the numbers.

    Raises:
        FileNotFoundError, LabelFileError: if it cannot be read.
        PreparationError: if a column is missing or unknown, a cell is empty, or an image is not there.
    """
    file = read_text_file(path, "CSV file")
    places = [file.where(line) for line in file.lines]
    unread = next((line for line in file.lines if line.text is None), None)
    if unread is not None:
        raise PreparationError(file.undecodable(unread))
    rows = list(csv.reader([line.text for line in file.lines if line.text is not None]))
    if len(rows) != len(places):
        raise PreparationError(f"{printable(path)}: a quoted cell goes over several lines; expected one image a line")
    if len(rows) < 2:
        raise PreparationError(f"{printable(path)} holds no image; expected a line {','.join(COLUMNS[:2])} and images")
    columns = _columns([cell.strip() for cell in rows[0]], places[0])
    found: list[tuple[str, str, Optional[str], Optional[str], str]] = []
    for where, row in zip(places[1:], rows[1:]):
        if len(row) != len(rows[0]):
            raise PreparationError(
                f"{where}: {len(row)} cells, the first line has {len(rows[0])}; a name with a comma is to stand in "
                'quotes, "a,b.jpg"'
            )
        cells = {name: row[place].strip() for name, place in columns.items()}
        empty = next((name for name in ("path", "label", "split") if cells.get(name) == ""), None)
        if empty is not None:
            raise PreparationError(f"{where}: the cell {empty} is empty")
        part = part_of(cells["split"], where) if "split" in cells else None
        found.append((cells["path"], cells["label"], part, cells.get("group") or None, where))
    names = sorted({row[1] for row in found}, key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name))
    check_class_names(names, f"labels in {printable(path)}")
    ids = {name: number for number, name in enumerate(names)}
    collection = Collection(path, "csv", image_root, names)
    _add(collection, [Item(name, ids[label], part, group, where) for name, label, part, group, where in found])
    return collection


def _columns(header: Sequence[str], where: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for place, name in enumerate(header):
        lower = name.casefold()
        if lower not in COLUMNS:
            hint = nearest(name, COLUMNS, 1)
            advice = f"; did you mean {hint[0]}?" if hint else ""
            raise PreparationError(f"{where}: unknown column {name!r}, expected {', '.join(COLUMNS)}{advice}")
        if lower in found:
            raise PreparationError(f"{where}: the column {name} is there twice")
        found[lower] = place
    missing = [name for name in ("path", "label") if name not in found]
    if missing:
        raise PreparationError(f"{where}: the column {missing[0]} is missing; the first line names the columns")
    return found


def _add(collection: Collection, items: Sequence[Item]) -> None:
    """Add the images of a list, each once.

    Raises:
        PreparationError: if images are not there, or one has two classes.
    """
    missing = [item for item in items if not os.path.lexists(collection.path(item))]
    if missing:
        shown = "\n".join(f"  {item.where}: {printable(item.name)}" for item in missing[:SHOWN])
        raise PreparationError(
            f"{len(missing)} of {len(items)} images are not there (looked in {printable(collection.image_root)}), the "
            f"first:\n{shown}\nCorrect the lines or delete them, or say where relative paths start: --image_root"
        )
    seen: dict[str, Item] = {}
    for item in items:
        earlier = seen.setdefault(os.path.normpath(collection.path(item)), item)
        if earlier is item:
            collection.items.append(item)
        elif earlier.label != item.label:
            names = collection.class_names
            raise PreparationError(
                f"{earlier.where} and {item.where}: {printable(item.name)} is {names[earlier.label]!r} and "
                f"{names[item.label]!r}; delete one line"
            )
        elif earlier.part != item.part:
            raise PreparationError(
                f"{earlier.where} and {item.where}: {printable(item.name)} is in {earlier.part} and in {item.part}; "
                "delete one line"
            )
        else:
            collection.repeated += 1
