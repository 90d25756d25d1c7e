"""Lists of images: text files with one ``<path> <int>`` a line for training, one ``<path>`` a line for prediction."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Callable, Optional, Union

import numpy as np

from ppcls_ext.data.errors import LabelFileError
from ppcls_ext.data.text_files import Line, TextFile, read_text_file, shown

SHOWN = 5  # how many mistakes of one kind a message lists
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


def read_label_list(
    path: Union[str, Path], delimiter: Optional[str] = None, image_root: Union[str, Path, None] = None
) -> tuple[list[str], np.ndarray]:
    """Read a label list.

    A line is split at its last delimiter, so paths may hold spaces. Blank lines are skipped.

    Args:
        path: the list; see :mod:`ppcls_ext.data.text_files` for its encoding.
        delimiter: what stands between path and label; by default any run of spaces or tabs, or a comma.
        image_root: where relative paths start, to tell file names whose bytes are not UTF-8 from text in an unknown
            encoding.

    Returns:
        The paths as they are written, and the labels, int64 ``[n]``.

    Raises:
        FileNotFoundError: if there is no such file.
        LabelFileError: if a line is malformed (each is named as ``file:line``) or no line holds a sample.
    """

    def exists(text: str) -> bool:
        return image_root is not None and os.path.exists(os.path.join(image_root, _split(text, delimiter)[0]))

    file = read_text_file(path, "label list")
    names, labels, malformed = [], [], []
    for line in file.lines:
        text = _text_of(file, line, exists) if line.raw else line.text
        if text is None:
            malformed.append(file.undecodable(line))
            continue
        name, label = _split(text, delimiter)
        if name and _INTEGER.fullmatch(label):
            names.append(name)
            labels.append(int(label))
        else:
            between = " " if delimiter is None else delimiter
            malformed.append(f'{file.where(line)}: expected "<path>{shown(between)}<int>", got "{shown(text)}"')
    if malformed:
        more = [f"... and {len(malformed) - SHOWN} more lines of {path}"] if len(malformed) > SHOWN else []
        raise LabelFileError("\n".join(malformed[:SHOWN] + more))
    if not names:
        raise LabelFileError(f"{path}: the label list holds no sample")
    return names, np.array(labels, np.int64)


def read_image_list(path: Union[str, Path], root: Path) -> list[Path]:
    """Read a list of images to predict: one a line, whose name may hold spaces and may be followed by a class id.

    Args:
        path: the list; see :mod:`ppcls_ext.data.text_files` for its encoding.
        root: where relative paths start.

    Raises:
        FileNotFoundError: if there is no such file.
        LabelFileError: if it is no text, or holds no image.
    """
    file = read_text_file(path, "list of images")
    images = []
    for line in file.lines:
        text = _text_of(file, line, lambda text: os.path.exists(_listed_image(text, root)))
        if text is None:  # a name with such bytes may come to be; that it is not there is its prediction's error
            text = os.fsdecode(line.raw.strip())
        images.append(_listed_image(text, root))
    if not images:
        raise LabelFileError(f"the list {path} holds no image")
    return images


def relabelled(labels: np.ndarray) -> np.ndarray:
    """Return the labels as 0, 1, ... in the sorted order of the old ones, int64 ``[n]``."""
    return np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _text_of(file: TextFile, line: Line, exists: Callable[[str], bool]) -> Optional[str]:
    """Return a line's text; a file name is bytes to Linux, so what is not UTF-8 may be a name as it stands.

    Args:
        file: the list.
        line: of it.
        exists: whether the file that a line names is there.
    """
    if line.raw.isascii() or (line.text is not None and (file.encoding != "GBK" or exists(line.text))):
        return line.text
    as_bytes = os.fsdecode(line.raw.strip())
    return as_bytes if exists(as_bytes) else line.text


def _split(text: str, delimiter: Optional[str]) -> tuple[str, str]:
    """Return the path and the label of a line; "" for the path where there is only one part.

    By default a label stands after blanks, or after a comma with or without blanks around it.
    """
    if delimiter:
        name, _, label = text.rpartition(delimiter)
        return name.strip(), label.strip()
    name, _, label = text.rpartition(" ")
    if name and label.isascii() and label.isalnum() and name[-1] not in ", \t":
        return name, label  # nearly all lines
    label = text.rsplit(None, 1)[-1].rpartition(",")[2]
    name = text[: len(text) - len(label)].rstrip()
    return (name[:-1].rstrip() if name.endswith(",") else name), label


def _listed_image(line: str, root: Path) -> Path:
    whole = root / line
    name, label = _split(line, None)
    return whole if not name or not label.isdecimal() or os.path.exists(whole) else root / name
