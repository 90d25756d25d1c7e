"""The manifest of a checkpoint: a JSON file with size and SHA-256 of each file, and what is known of the weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NoReturn

from ppcls_ext.utils.files import write_atomically

#: No manifest is longer; 21,841 class names take about 1 MB.
MAX_BYTES = 64 << 20
#: Counts are stored exactly by whatever reads JSON.
MAX_COUNT = 2**53


class CheckpointError(ValueError):
    """There is no whole checkpoint, or it belongs to a different run."""


def write_manifest(path: Path, manifest: dict) -> None:
    """Write ``manifest``; the file is whole or not there, whatever happens meanwhile."""
    write_atomically(path, lambda aside: aside.write_text(json.dumps(manifest, indent=1), encoding="utf-8"))


def read_manifest(path: Path) -> dict:
    """Return the content of a manifest: ``files``, ``step`` and, where known, ``arguments`` and ``class_names``.

    Raises:
        CheckpointError: naming the file, if it is not what :func:`write_manifest` writes.
    """
    try:
        if not path.is_file():
            raise ValueError("it is not a regular file")
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES >> 20} MiB")
        manifest = json.loads(path.read_bytes().decode("utf-8"), parse_constant=_no_number)
        _check(manifest)
    except RecursionError:
        raise CheckpointError(f"{path} is damaged: it is nested too deeply") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return manifest


def is_count(value: Any) -> bool:
    """Return whether ``value`` is a whole number from 0 to 2**53."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _check(manifest: Any) -> None:
    """Raise a ValueError that names the entry which is not as it should be."""
    if not isinstance(manifest, dict):
        raise ValueError(f"it holds a {type(manifest).__name__}, not an object")
    files = manifest.get("files")
    if not isinstance(files, dict) or not files:
        raise ValueError("'files' is not an object of file names")
    for suffix, facts in files.items():
        if not re.fullmatch(r"pd[a-z]+", suffix):
            raise ValueError(f"'files' names {suffix[:40]!r}, which is not the suffix of a checkpoint's file")
        if not isinstance(facts, dict) or not is_count(facts.get("bytes")) or not _is_hash(facts.get("sha256")):
            raise ValueError(f"'files.{suffix}' lacks a size in bytes or a SHA-256")
    if not is_count(manifest.get("step")):
        raise ValueError(f"'step' is not a count of steps: {str(manifest.get('step'))[:40]}")
    if not isinstance(manifest.get("arguments", {}), dict):
        raise ValueError("'arguments' is not an object")
    names = manifest.get("class_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("'class_names' is not a list of names")


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None
