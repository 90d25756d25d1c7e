"""Label lists: text files with one ``<path> <int>`` a line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional, Union

import numpy as np

from ppcls_ext.data.errors import LabelFileError

SHOWN = 5  # how many mistakes of one kind a message lists
_INTEGER = re.compile(r"[+-]?\d{1,18}")


def read_label_list(path: Union[str, Path], delimiter: Optional[str] = None) -> tuple[list[str], np.ndarray]:
    """Read a label list.

    A line is split at its last delimiter, so paths may hold spaces. Blank lines are skipped.

    Args:
        path: the list, UTF-8.
        delimiter: what stands between path and label; by default any run of spaces or tabs.

    Returns:
        The paths as they are written, and the labels, int64 ``[n]``.

    Raises:
        FileNotFoundError: if there is no such file.
        LabelFileError: if a line is malformed (each is named as ``file:line``) or no line holds a sample.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"label list {str(path)!r} does not exist")
    names, labels, malformed = [], [], []
    with path.open("rb") as stream:
        for count, raw in enumerate(stream, start=1):
            try:
                line = raw.decode("utf-8-sig" if count == 1 else "utf-8").strip()
            except UnicodeDecodeError:
                malformed.append(f"{path.name}:{count}: expected UTF-8 text, got {raw.strip()!r}")
                continue
            if not line:
                continue
            name, _, label = line.rpartition(delimiter) if delimiter else _split_at_blank(line)
            name, label = name.strip(), label.strip()
            if name and _INTEGER.fullmatch(label):
                names.append(name)
                labels.append(int(label))
            else:
                between = " " if delimiter is None else delimiter
                malformed.append(f'{path.name}:{count}: expected "<path>{_shown(between)}<int>", got "{_shown(line)}"')
    if malformed:
        more = [f"... and {len(malformed) - SHOWN} more lines of {path}"] if len(malformed) > SHOWN else []
        raise LabelFileError("\n".join(malformed[:SHOWN] + more))
    if not names:
        raise LabelFileError(f"{path}: the label list holds no sample")
    return names, np.array(labels, np.int64)


def relabelled(labels: np.ndarray) -> np.ndarray:
    """Return the labels as 0, 1, ... in the sorted order of the old ones, int64 ``[n]``."""
    return np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _split_at_blank(line: str) -> tuple[str, str, str]:
    parts = line.rsplit(None, 1)
    return (parts[0], " ", parts[1]) if len(parts) == 2 else ("", "", line)


def _shown(text: str) -> str:
    return text.replace("\t", "\\t")
