"""Which files are images: one list of suffixes and one walk of folders, for training and prediction alike."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Union

from ppcls_ext.data.label_list import read_image_list
from ppcls_ext.data.text_files import printable

logger = logging.getLogger("ppcls_ext")

#: File name suffixes of images, in lower case; the case of a file's own suffix does not matter.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
LIST_SUFFIXES = (".txt", ".lst", ".list", ".csv")


@dataclass(frozen=True)
class FoundImages:
    """The images in a folder and below, how many hidden ones were left out, and the files that are no images."""

    paths: list[str]
    hidden: int
    others: list[str] = field(default_factory=list)


def is_image(name: str) -> bool:
    """Return whether a file of this name is an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_list(path: Union[str, Path]) -> bool:
    """Return whether a path names a list of images rather than an image or a folder."""
    return str(path).lower().endswith(LIST_SUFFIXES) and not os.path.isdir(path)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is hidden: ``.ipynb_checkpoints``, ``._0.jpg``, ``.cache``."""
    return name.startswith(".")


def images_below(folder: Union[str, Path]) -> FoundImages:
    """Find the images in a folder and below.

    Hidden files and folders are no data. Links to folders are followed; a folder is searched once however many links
    lead to it, and a link to a folder that holds this one is not followed.
    """
    folder = os.fspath(folder)
    real = os.path.realpath(folder)
    seen = {_identity(str(parent)) for parent in (real, *Path(real).parents)}
    paths, others, hidden, hidden_folders = [], [], 0, set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        below_hidden = parent in hidden_folders
        new = []
        for name in sorted(folders):
            path = os.path.join(parent, name)
            identity = _identity(path)
            if identity in seen:
                continue
            seen.add(identity)
            if below_hidden or is_hidden(name):
                hidden_folders.add(path)
            new.append(name)
        folders[:] = new
        for name in names:
            if is_image(name):
                if below_hidden or is_hidden(name):
                    hidden += 1
                else:
                    paths.append(os.path.join(parent, name))
            else:
                others.append(os.path.join(parent, name))
    return FoundImages(sorted(paths), hidden, sorted(others))


def tell_hidden(count: int, folder: Union[str, Path]) -> None:
    """Log how many hidden images were left out, if any."""
    if count:
        logger.warning("%s: left out %d images that are hidden or in hidden folders", printable(folder), count)


def list_images(source: Union[str, Path], list_file: Union[str, Path, None] = None) -> list[Path]:
    """Return the images of ``source`` in a fixed order.

    Args:
        source: an image; a folder, whose images at any depth are taken, sorted by path; or a text file (``.txt``,
            ``.lst``, ``.list``, ``.csv``) with one image a line, relative to the file's own folder. A class id at the
            end of the line, as in a training list, is left out.
        list_file: PaddleClas's ``Infer.infer_list``: such a text file whose lines are relative to the folder
            ``source``.

    Raises:
        FileNotFoundError: ``source`` or ``list_file`` is not there. That a *listed* image is not there is reported with
            that image's prediction instead.
        ValueError: it holds no image, or is a file of a different kind.
    """
    source = Path(source)
    if list_file is not None:
        return read_image_list(Path(list_file), root=source)
    if os.path.isdir(source):  # unlike Path.is_dir, for names of any length
        found = images_below(source)
        tell_hidden(found.hidden, source)
        if not found.paths:
            raise ValueError(f"no image in the folder {source}: looked for *{', *'.join(IMAGE_SUFFIXES)}")
        return sorted(Path(path) for path in found.paths)
    if not os.path.exists(source):
        raise FileNotFoundError(f"no such image, folder or list: {source}")
    if source.suffix.lower() in LIST_SUFFIXES:
        return read_image_list(source, root=source.parent)
    if is_image(source.name):
        return [source]
    raise ValueError(
        f"{source} is neither an image ({', '.join(IMAGE_SUFFIXES)}) nor a list ({', '.join(LIST_SUFFIXES)}) "
        "nor a folder"
    )


def _identity(path: str) -> tuple:
    """Return what two names of one folder have in common."""
    try:
        status = os.stat(path)
    except OSError:
        return (path,)
    # Windows on old file systems has no numbers for files.
    return (status.st_dev, status.st_ino) if status.st_ino else (os.path.realpath(path),)
