"""Reading a folder of class folders, with or without folders for the parts above them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

from ppcls_ext.data.errors import LabelFileError, PreparationError
from ppcls_ext.data.image_files import IMAGE_SUFFIXES, images_below, is_hidden, is_image
from ppcls_ext.data.image_folder import class_folders
from ppcls_ext.data.preparation.collection import PART_NAMES, Collection, Item, check_class_names, some
from ppcls_ext.data.text_files import printable
from ppcls_ext.utils.spelling import nearest

#: What Windows and macOS leave in folders of pictures, in lower case.
SYSTEM_FILES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", "icon\r"))
SYSTEM_FOLDERS = frozenset(("__macosx", "@eadir", "$recycle.bin", "system volume information"))
#: Images by their names that no reader here opens.
UNSUPPORTED_SUFFIXES = (
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".psd", ".svg", ".ico"),
    *(".raw", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2"),
)


def read_folder(folder: Path) -> Collection:
    """Read ``folder/<class>/**/<image>``, or ``folder/train/<class>/…`` with ``val/`` or ``test/`` beside it.

    Raises:
        FileNotFoundError: if there is no such folder.
        PreparationError: if it does not hold class folders with images, or two classes differ by a slip.
    """
    try:
        names, hidden, system = _class_folders(folder)
    except LabelFileError:
        names = []
    if not names:
        raise PreparationError(
            f"{printable(folder)} holds no class folder; expected one folder for each class, "
            f"{printable(folder)}/<class>/<image>, or give a list or a CSV file"
        )
    parts = _part_folders(folder, names)
    if not parts:
        check_class_names(names, f"class folders in {printable(folder)}")
        collection = Collection(folder, "folders", folder, [name.strip() for name in names])
        for label, name in enumerate(names):
            _add(collection, Path(name), label, None)
    else:
        collection = _read_parts(folder, parts)
    collection.hidden += hidden
    collection.system += system
    _add_loose(collection, folder)
    return collection


def _class_folders(folder: Path) -> tuple[list[str], int, int]:
    """Return the class folders, how many images hidden ones hold, and how many files those of systems hold."""
    names, hidden = class_folders(os.fspath(folder))
    left_out = [images_below(folder / name) for name in names if name.casefold() in SYSTEM_FOLDERS]
    system = sum(len(found.paths) + len(found.others) + found.hidden for found in left_out)
    return [name for name in names if name.casefold() not in SYSTEM_FOLDERS], hidden, system


def _part_folders(folder: Path, names: list[str]) -> dict[str, str]:
    """Return the folder of each part; empty where the folders are classes."""
    holding = {name: PART_NAMES[name.casefold()] for name in names if name.casefold() in PART_NAMES}
    if len(set(holding.values())) < 2 or not all(_has_folders(folder / name) for name in holding):
        return {}
    rest = [name for name in names if name not in holding]
    if rest:
        raise PreparationError(
            f"{printable(folder)} holds the parts {some(holding)} and also {some(rest)}; move the latter away, or into "
            "the parts as classes"
        )
    if "train" not in holding.values():
        raise PreparationError(f"{printable(folder)} holds {some(holding)} but no train/")
    by_part: dict[str, str] = {}
    for name, part in holding.items():
        if part in by_part:
            raise PreparationError(f"{printable(folder)}: {by_part[part]!r} and {name!r} both mean {part}; keep one")
        by_part[part] = name
    return by_part


def _has_folders(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.is_dir() and not is_hidden(entry.name) for entry in entries)


def _read_parts(folder: Path, parts: dict[str, str]) -> Collection:
    classes, hidden, system = {}, 0, 0
    for part, name in parts.items():
        classes[part], in_hidden, of_system = _class_folders(folder / name)
        hidden, system = hidden + in_hidden, system + of_system
        check_class_names(classes[part], f"class folders in {printable(folder / name)}")
    known = classes["train"]
    for part, names in classes.items():
        unknown = [name for name in names if name not in known]
        if unknown:
            hint = nearest(unknown[0], known, 1)
            advice = f" (did you mean {hint[0]}?)" if hint else ""
            raise PreparationError(
                f"{printable(folder / parts[part])} has classes that {printable(folder / parts['train'])} has not: "
                f"{some(unknown)}{advice}; the classes of training are {some(known, 20)}"
            )
    collection = Collection(folder, "split folders", folder, [name.strip() for name in known])
    collection.hidden, collection.system = hidden, system
    for part, names in classes.items():
        for name in names:
            _add(collection, Path(parts[part], name), known.index(name), part)
    return collection


def _add(collection: Collection, below: Path, label: int, part: Optional[str]) -> None:
    """Add the images of a class folder.

    Raises:
        PreparationError: if it holds none.
    """
    root = collection.image_root
    found = images_below(root / below)
    collection.hidden += found.hidden
    others = [path for path in found.others if not _counts_as_system(collection, path)]
    if not found.paths:
        unreadable = [path for path in others if path.lower().endswith(UNSUPPORTED_SUFFIXES)]
        named = some(map(os.path.basename, unreadable))
        formats = f" It holds {named}: convert them to JPEG or PNG." if unreadable else ""
        raise PreparationError(
            f"class folder {printable(root / below)!r} holds no image ({', '.join(IMAGE_SUFFIXES)}); put images into "
            f"it, or delete it.{formats}"
        )
    collection.others += [os.path.relpath(path, root) for path in others]
    collection.items += [Item(Path(os.path.relpath(path, root)).as_posix(), label, part) for path in found.paths]


def _counts_as_system(collection: Collection, path: str) -> bool:
    parts = Path(os.path.relpath(path, collection.image_root)).parts
    system = parts[-1].casefold() in SYSTEM_FILES or any(is_hidden(part) for part in parts)
    collection.system += system
    return system


def _add_loose(collection: Collection, folder: Path) -> None:
    """Count the files beside the class folders: images without a class are named, the rest does not matter."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir():
                continue
            if entry.name.casefold() in SYSTEM_FILES:
                collection.system += 1
            elif is_image(entry.name) and is_hidden(entry.name):
                collection.hidden += 1
            elif is_image(entry.name):
                collection.others.append(entry.name)
