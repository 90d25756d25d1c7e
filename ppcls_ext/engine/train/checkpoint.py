"""Checkpoints that are whole at every instant.

A checkpoint is a set of files with PaddleClas's names (``latest.pdparams``, ``latest.pdopt``, ``latest.pdstates``, with
EMA ``latest.pdema``) and one manifest (``latest.manifest.json``) with the SHA-256 of each. A set of files cannot be
renamed in one step, so :meth:`CheckpointStore.save` goes through names of its own:

1. write and flush every file as ``latest.staged.*``, the manifest last: from here on the new set is whole;
2. rename ``latest.*`` to ``latest.previous.*``;
3. rename ``latest.staged.*`` to ``latest.*``.

A file never changes after its manifest was written, it only moves between these three names. So a reader takes a
manifest, looks for each of its files under all three names and checks them by hash; whatever the instant of a kill, at
least one manifest finds all its files. :func:`load_checkpoint` takes the newest that does.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import paddle

from ppcls_ext.utils.files import flush, flush_folder, sha256_of
from ppcls_ext.version import __version__
from ppcls_ext.weights.files.reader import read_pickle

logger = logging.getLogger("ppcls_ext")

MANIFEST = "manifest.json"
#: Names of a set, from the one that users know to the oldest.
PLACES = ("", ".staged", ".previous")


class CheckpointError(ValueError):
    """No whole checkpoint is there, or it belongs to another run."""


@dataclass
class Checkpoint:
    """A checkpoint as read: ``parts`` by suffix (``pdparams``, ``pdopt``, …), arrays instead of Tensors."""

    prefix: Path
    parts: dict
    info: dict


class CheckpointStore:
    """Writes checkpoints into one folder. Only one process may write to a folder (rank 0)."""

    def __init__(self, folder: Union[str, Path]):
        self.folder = Path(folder)

    def save(self, name: str, parts: dict[str, Any], step: int, arguments: Optional[dict] = None) -> Path:
        """Write a checkpoint and return its prefix.

        Args:
            name: ``latest``, ``best_model``, ``epoch_3`` …
            parts: what ``paddle.save`` takes, by suffix without dot.
            step: number of optimizer steps done; orders checkpoints of one name.
            arguments: the model's constructor arguments to which the weights are bound.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        prefix = self.folder / name
        self._finish_interrupted(prefix)
        files = {}
        for suffix, content in parts.items():
            path = _file(prefix, ".staged", suffix)
            paddle.save(content, str(path))
            flush(path)
            files[suffix] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        manifest = {
            "files": files,
            "step": step,
            **({"arguments": arguments} if arguments is not None else {}),
            "saved_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "ppcls_ext": __version__,
            "paddle": paddle.__version__,
        }
        path = _file(prefix, ".staged", MANIFEST)
        path.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        flush(path)
        flush_folder(self.folder)
        self._move(prefix, "", ".previous")
        self._move(prefix, ".staged", "")
        logger.info("Already save model in %s", prefix)
        return prefix

    def remove(self, name: str) -> None:
        """Delete a checkpoint and what was kept of the one before it."""
        for place in PLACES:
            self._discard(self.folder / name, place)

    def keep_last_epochs(self, count: int) -> None:
        """Delete all but the ``count`` newest ``epoch_N`` checkpoints; 0 keeps all."""
        if count <= 0:
            return
        epochs = sorted(
            int(match.group(1))
            for path in self.folder.glob("epoch_*.pdparams")
            if (match := re.fullmatch(r"epoch_(\d+)\.pdparams", path.name))
        )
        for epoch in epochs[:-count]:
            self.remove(f"epoch_{epoch}")

    def _finish_interrupted(self, prefix: Path) -> None:
        """Bring a set that a kill left staged to its place, so that the next save does not begin by deleting it."""
        path = _file(prefix, ".staged", MANIFEST)
        if path.exists():
            expected = json.loads(path.read_text(encoding="utf-8"))["files"]
            if all(_file(prefix, ".staged", suffix).exists() for suffix in expected):
                self._move(prefix, "", ".previous")
            self._move(prefix, ".staged", "", discard=False)
        self._discard(prefix, ".staged")

    def _move(self, prefix: Path, source: str, target: str, discard: bool = True) -> None:
        suffixes = [suffix for suffix in _suffixes(prefix, source) if suffix != MANIFEST]
        if not suffixes and not _file(prefix, source, MANIFEST).exists():
            return
        if discard:
            self._discard(prefix, target)
        # The manifest moves last: until then it vouches for the files under their old name and their new one.
        for suffix in [*suffixes, MANIFEST]:
            if _file(prefix, source, suffix).exists():
                os.replace(_file(prefix, source, suffix), _file(prefix, target, suffix))
        flush_folder(prefix.parent)

    def _discard(self, prefix: Path, place: str) -> None:
        # The manifest goes first, so that nothing vouches for a set that is being taken apart.
        for suffix in [MANIFEST, *_suffixes(prefix, place)]:
            _file(prefix, place, suffix).unlink(missing_ok=True)


def load_checkpoint(prefix: Union[str, Path]) -> Checkpoint:
    """Read the newest whole checkpoint of ``prefix``, such as ``output/latest``.

    A damaged set is reported in the log by the name of its file, and the one before it is used.

    Raises:
        CheckpointError: if no whole set is there; the message lists what is wrong with each.
    """
    prefix = _without_suffix(Path(prefix))
    candidates, problems = [], []
    for order, place in enumerate(PLACES):
        path = _file(prefix, place, MANIFEST)
        if not path.exists():
            continue
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            candidates.append((manifest["step"], -order, place, manifest))
        except (ValueError, KeyError, TypeError) as error:
            problems.append(f"{path} is damaged: {error}")
    for _, _, place, manifest in sorted(candidates, key=lambda item: item[:2], reverse=True):
        located, missing = _locate(prefix, place, manifest)
        if missing:
            problems += missing
            continue
        for problem in problems:
            logger.warning("%s; the checkpoint of step %d is used instead", problem, manifest["step"])
        parts = {suffix: read_pickle(path) for suffix, path in located.items()}
        return Checkpoint(prefix=prefix, parts=parts, info=manifest)
    if not problems:
        raise CheckpointError(
            f"no checkpoint at {prefix}: {prefix.name}.{MANIFEST} is not there" + _other_checkpoints(prefix)
        )
    raise CheckpointError(f"no whole checkpoint at {prefix}:\n  " + "\n  ".join(problems))


def _locate(prefix: Path, place: str, manifest: dict) -> tuple[dict[str, Path], list[str]]:
    """Find each file of ``manifest`` under one of its three names, by size and hash; return files and complaints."""
    located, complaints = {}, []
    for suffix, facts in manifest["files"].items():
        found = [path for path in (_file(prefix, name, suffix) for name in PLACES) if path.exists()]
        right = next(
            (p for p in found if p.stat().st_size == facts["bytes"] and sha256_of(p) == facts["sha256"]),
            None,
        )
        if right is not None:
            located[suffix] = right
        elif _file(prefix, place, suffix).exists():
            own = _file(prefix, place, suffix)
            complaints.append(f"{own} is damaged: it does not have the SHA-256 that its manifest states")
        else:
            complaints.append(f"{_file(prefix, place, suffix)} is missing")
    return located, complaints


def _file(prefix: Path, place: str, suffix: str) -> Path:
    return prefix.with_name(f"{prefix.name}{place}.{suffix}")


def _suffixes(prefix: Path, place: str) -> list[str]:
    """Return the suffixes that exist for a set: ``pdparams``, ``pdopt``, …, ``manifest.json``."""
    start = f"{prefix.name}{place}."
    known = re.compile(rf"(pd[a-z]+|{re.escape(MANIFEST)})")
    if not prefix.parent.is_dir():
        return []
    names = (path.name[len(start) :] for path in prefix.parent.iterdir() if path.name.startswith(start))
    return sorted(name for name in names if known.fullmatch(name))


def _without_suffix(path: Path) -> Path:
    """Accept ``latest.pdparams`` or ``latest.manifest.json`` where a prefix was meant."""
    for suffix in (".pdparams", ".pdopt", ".pdstates", ".pdema", f".{MANIFEST}"):
        if path.name.endswith(suffix):
            return path.with_name(path.name[: -len(suffix)])
    return path


def _other_checkpoints(prefix: Path) -> str:
    if not prefix.parent.is_dir():
        return f"; the folder {prefix.parent} does not exist"
    names = sorted(
        path.name[: -len(MANIFEST) - 1]
        for path in prefix.parent.glob(f"*.{MANIFEST}")
        if not path.name.endswith((f".staged.{MANIFEST}", f".previous.{MANIFEST}"))
    )
    return f"; the folder holds {', '.join(names)}" if names else f"; the folder {prefix.parent} holds none"
