"""Names of a checkpoint's files, and which checkpoint a path means."""

from __future__ import annotations

from pathlib import Path
from typing import Union

MANIFEST = "manifest.json"
#: Names of a set of files, from the one that users know to the oldest.
PLACES = ("", ".staged", ".previous")
#: The checkpoint that a folder stands for.
LATEST = "latest"

_SUFFIXES = (".pdparams", ".pdopt", ".pdstates", ".pdema", ".pdswa", f".{MANIFEST}")


def checkpoint_file(prefix: Path, place: str, suffix: str) -> Path:
    """Return a file of a checkpoint, such as ``output/latest`` + ``.previous`` + ``.pdopt``."""
    return prefix.with_name(f"{prefix.name}{place}.{suffix}")


def has_checkpoint(prefix: Path) -> bool:
    """Return whether a checkpoint of this prefix is there, also one that an interrupted save left half moved."""
    found = (checkpoint_file(prefix, place, MANIFEST) for place in PLACES)
    weights = (checkpoint_file(prefix, place, "pdparams") for place in PLACES if place != ".staged")
    return bool(prefix.name) and any(path.is_file() for path in (*found, *weights))


def checkpoint_prefix(path: Union[str, Path]) -> Path:
    """Return the prefix of the checkpoint that ``path`` means.

    That is the path itself (``output/latest``), any file of a checkpoint (``output/latest.pdopt``), or the folder of a
    run (``output``, ``output/``), which stands for its ``latest``. Nothing is opened.
    """
    path = Path(path)
    if has_checkpoint(path):
        return path
    for suffix in _SUFFIXES:
        if path.name.endswith(suffix):
            return path.with_name(path.name[: -len(suffix)])
    return path / LATEST if path.is_dir() else path
