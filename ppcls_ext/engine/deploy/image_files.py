"""Which images a prediction runs over: one file, a folder, or a list."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

#: File name suffixes of images, in lower case; the case of a file's own suffix does not matter.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
LIST_SUFFIXES = (".txt", ".lst", ".list")


def list_images(source: Union[str, Path], list_file: Union[str, Path, None] = None) -> list[Path]:
    """Return the images of ``source`` in a fixed order.

    Args:
        source: an image; a folder, whose images at any depth are taken, sorted by path; or a text file (``.txt``,
            ``.lst``, ``.list``) with one image a line, relative to the file's own folder. A class id at the end of the
            line, as in a training list, is left out.
        list_file: PaddleClas's ``Infer.infer_list``: such a text file whose lines are relative to the folder
            ``source``.

    Raises:
        FileNotFoundError: ``source`` or ``list_file`` is not there. That a *listed* image is not there is reported with
            that image's prediction instead.
        ValueError: it holds no image, or a file of another kind.
    """
    source = Path(source)
    if list_file is not None:
        return _read_list(Path(list_file), root=source)
    if source.is_dir():
        images = sorted(p for p in source.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if not images:
            raise ValueError(f"no image in the folder {source}: looked for *{', *'.join(IMAGE_SUFFIXES)}")
        return images
    if not source.exists():
        raise FileNotFoundError(f"no such image, folder or list: {source}")
    if source.suffix.lower() in LIST_SUFFIXES:
        return _read_list(source, root=source.parent)
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return [source]
    raise ValueError(
        f"{source} is neither an image ({', '.join(IMAGE_SUFFIXES)}) nor a list ({', '.join(LIST_SUFFIXES)}) "
        "nor a folder"
    )


def _read_list(list_file: Path, root: Path) -> list[Path]:
    if not list_file.is_file():
        raise FileNotFoundError(f"no such list of images: {list_file}")
    lines = [line.strip() for line in list_file.read_text(encoding="utf-8").splitlines()]
    images = [_listed_image(line, root) for line in lines if line]
    if not images:
        raise ValueError(f"the list {list_file} holds no image")
    return images


def _listed_image(line: str, root: Path) -> Path:
    """Return the path of one line, whose name may hold spaces and may be followed by a class id."""
    whole = root / line
    name = _without_class_id(line)
    return whole if name is None or whole.exists() else root / name


def _without_class_id(line: str) -> Optional[str]:
    head, _, tail = line.replace("\t", " ").rpartition(" ")
    return head.rstrip() if head and tail.isdigit() else None
