"""ImageFolder: one folder a class."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Optional, Sequence

import numpy as np

from ppcls_ext.data.datasets import ClassificationDataset
from ppcls_ext.data.errors import LabelFileError
from ppcls_ext.data.image_files import images_below, is_hidden, is_image, tell_hidden
from ppcls_ext.data.label_names import read_class_names
from ppcls_ext.data.text_files import printable

logger = logging.getLogger("ppcls_ext")

SHOWN_CLASSES = 100


class ImageFolder(ClassificationDataset):
    """One folder a class: ``image_root/<class>/**/<image>``. Classes are numbered in the sorted order of their names.

    Evaluation is given the names of training, so that a class has one number in both, whatever folders are there.
    Hidden files and folders are no data. ``class_names`` are the folders' names by class id; an id that has no folder
    is its own name.

    Args:
        image_root: the folder of class folders.
        transform_ops: operators as in YAML.
        class_id_map_file: lines ``<id> <folder name>``, to number the classes otherwise.
        token_label: arguments of :class:`ppcls_ext.data.token_label.TokenLabels`, for a label of each token.
        class_names: names of the classes by id, those of training.
        skip_bad: see :class:`ClassificationDataset`.
        seed: see :class:`ClassificationDataset`.

    Raises:
        FileNotFoundError: if the folder or the map does not exist.
        LabelFileError: if there is no class folder, a class folder holds no image, the map lacks a class or contradicts
            ``class_names``, or training does not know a class.
        ValueError: if the operators are wrong.
    """

    class_names: list[str]

    def __init__(
        self,
        image_root: str,
        transform_ops: Optional[Sequence[dict]] = None,
        class_id_map_file: Optional[str] = None,
        token_label: Optional[dict] = None,
        *,
        class_names: Optional[Sequence[str]] = None,
        skip_bad: bool = False,
        seed: int = 0,
    ):
        self.classes, hidden = class_folders(image_root)
        class_ids = _class_ids(self.classes, image_root, class_id_map_file, class_names)
        self.class_names = _names_by_id(class_ids)
        paths, labels = [], []
        for folder in self.classes:
            found = images_below(os.path.join(image_root, folder))
            hidden += found.hidden
            if not found.paths:
                raise LabelFileError(f"class folder {printable(os.path.join(image_root, folder))!r} holds no image")
            paths.extend(found.paths)
            labels.extend([class_ids[folder]] * len(found.paths))
        self.image_root, self.hidden = image_root, hidden
        self.original_classes = tuple(sorted(set(labels)))
        super().__init__(paths, np.array(labels, np.int64), transform_ops, skip_bad=skip_bad, seed=seed)
        if token_label is not None:
            self.use_token_labels(token_label, image_root)

    def describe(self) -> None:
        """Log which name has which number and how many images, and how many images were left out."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        rows = [f"{i} {printable(name)} ({count})" for i, (name, count) in enumerate(zip(self.class_names, counts))]
        more = f", ... ({len(rows) - SHOWN_CLASSES} more)" if len(rows) > SHOWN_CLASSES else ""
        logger.info(
            "%s: %d images in %d class folders; class id, name and (images): %s",
            printable(self.image_root),
            len(self),
            len(self.classes),
            ", ".join(rows[:SHOWN_CLASSES]) + more,
        )
        tell_hidden(self.hidden, self.image_root)
        loose = sum(is_image(name) and not is_hidden(name) for name in os.listdir(self.image_root))
        if loose:
            logger.warning("%s: left out %d images that are in no class folder", printable(self.image_root), loose)


def class_names_of(section: Optional[dict]) -> Optional[list[str]]:
    """Return the names of the classes by id that training on a ``dataset`` section has; no image is looked for.

    Args:
        section: ``DataLoader.Train.dataset``.

    Returns:
        None where the section is missing or not an ImageFolder, or its folder is not on this machine.

    Raises:
        FileNotFoundError, LabelFileError: see :class:`ImageFolder`.
    """
    if not section or section.get("name") != "ImageFolder" or not os.path.isdir(section.get("image_root") or ""):
        return None
    root = section["image_root"]
    return _names_by_id(_class_ids(class_folders(root)[0], root, section.get("class_id_map_file"), None))


def label_file_problem(class_names: Sequence[str], label_names: Sequence[str], label_file: str) -> Optional[str]:
    """Return a sentence if a label file gives a folder's name to a different class, else None.

    A label file may hold other names than the folders, such as "tench" for n01440764; so only a name that is a
    folder's can contradict.

    Args:
        class_names: the folders' names by class id.
        label_names: the label file's names by class id.
        label_file: its path.
    """
    folders = set(class_names)
    for class_id, (folder, name) in enumerate(zip(class_names, label_names)):
        if name != folder and name in folders:
            return (
                f"{label_file} calls class {class_id} {name!r}, but by the folders it is {printable(folder)!r} and "
                f"{name!r} is class {list(class_names).index(name)}; sort the file as the folders are, or give it as "
                "class_id_map_file of the dataset too"
            )
    return None


def class_folders(image_root: str) -> tuple[list[str], int]:
    """Return the names of the class folders, sorted, and the number of images in hidden ones.

    Raises:
        FileNotFoundError: if there is no such folder.
        LabelFileError: if it holds no class folder.
    """
    if not os.path.isdir(image_root):
        raise FileNotFoundError(f"image_root {printable(image_root)!r} is not a folder")
    real = os.path.realpath(image_root)
    holders = {real, *map(str, Path(real).parents)}
    folders, hidden = [], 0
    with os.scandir(image_root) as entries:
        for entry in entries:
            # A link back to image_root or above would be a class of all images.
            if not entry.is_dir() or (entry.is_symlink() and os.path.realpath(entry.path) in holders):
                continue
            if is_hidden(entry.name):
                found = images_below(entry.path)
                hidden += len(found.paths) + found.hidden
            else:
                folders.append(entry.name)
    if not folders:
        raise LabelFileError(f"image_root {printable(image_root)!r} holds no class folder")
    return sorted(folders), hidden


def _class_ids(
    folders: Sequence[str], image_root: str, class_id_map_file: Optional[str], class_names: Optional[Sequence[str]]
) -> dict[str, int]:
    """Return the number of each class, of those without a folder here too."""
    ids = {name: number for number, name in enumerate(folders if class_names is None else class_names)}
    if class_id_map_file:
        ids = _mapped_ids(class_id_map_file)
        missing = next((folder for folder in folders if folder not in ids), None)
        if missing is not None:
            raise LabelFileError(f"class folder {printable(missing)!r} has no line in {class_id_map_file}")
        for number, name in enumerate(class_names or ()):
            if ids.get(name, number) != number:
                raise LabelFileError(f"{class_id_map_file} numbers {name!r} {ids[name]}, in training it is {number}")
    if class_names is None:
        return ids
    known = set(class_names)
    unknown = [folder for folder in folders if folder not in known]
    if unknown:
        raise LabelFileError(
            f"image_root {printable(image_root)!r} has class folders that training does not know: {_some(unknown)}; "
            f"the folders here are {_some(folders)}, the classes of training are {_some(class_names)}"
        )
    return ids


def _mapped_ids(path: str) -> dict[str, int]:
    ids: dict[str, int] = {}
    for number, name in read_class_names(path).items():
        if name in ids:
            raise LabelFileError(f"{path}: the folder {name!r} has two class ids, {ids[name]} and {number}")
        ids[name] = number
    return ids


def _names_by_id(class_ids: dict[str, int]) -> list[str]:
    names = [str(number) for number in range(max(class_ids.values()) + 1)]
    for name, number in class_ids.items():
        names[number] = name
    return names


def _some(names: Sequence[str], most: int = 20) -> str:
    return ", ".join(map(printable, names[:most])) + (f", ... ({len(names)} in all)" if len(names) > most else "")
