"""Checkpoints that are whole at every instant.

A checkpoint is a set of files with PaddleClas's names (``latest.pdparams``, ``latest.pdopt``, ``latest.pdstates``, with
EMA ``latest.pdema``) and one manifest (``latest.manifest.json``) with the SHA-256 of each. A set of files cannot be
renamed in one step, so :meth:`CheckpointStore.save` goes through names of its own:

1. write and flush every file as ``latest.staged.*``, the manifest last and atomically: now the new set is whole;
2. rename ``latest.*`` to ``latest.previous.*``;
3. rename ``latest.staged.*`` to ``latest.*``.

A file never changes after its manifest was written, it only moves between these three names. So a reader takes a
manifest, looks for each of its files under all three names and checks them by hash; whatever the instant of a kill, at
least one manifest finds all its files. :func:`load_checkpoint` takes the newest that does.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Sequence, Union

import paddle

from ppcls_ext.engine.train.manifest import CheckpointError, read_manifest, write_manifest
from ppcls_ext.utils.checkpoint_path import MANIFEST, PLACES, checkpoint_file, checkpoint_prefix
from ppcls_ext.utils.files import flush, flush_folder, sha256_of
from ppcls_ext.version import __version__
from ppcls_ext.weights.files.reader import read_pickle

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "CheckpointStore",
    "CheckpointWriteError",
    "load_checkpoint",
    "newest_whole",
]

logger = logging.getLogger("ppcls_ext")

#: Names that a run gives to its checkpoints.
RUN_NAMES = re.compile(r"latest|best_model|best_model_ema|swa|epoch_\d+")


class CheckpointWriteError(RuntimeError):
    """A checkpoint cannot be written, for example because the disk is full; the one before it is still whole."""


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

    def save(
        self,
        name: str,
        parts: dict[str, Any],
        step: int,
        arguments: Optional[dict] = None,
        class_names: Optional[Sequence[str]] = None,
    ) -> Path:
        """Write a checkpoint and return its prefix.

        Args:
            name: ``latest``, ``best_model``, ``epoch_3`` …
            parts: what ``paddle.save`` takes, by suffix without dot.
            step: number of optimizer steps done; orders checkpoints of one name.
            arguments: the model's constructor arguments to which the weights are bound.
            class_names: name of each class, by id, if the data set knows them.

        Raises:
            CheckpointWriteError: if a file cannot be written; it names the file, the reason and the newest checkpoint
                that is whole.
        """
        prefix = self.folder / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._finish_interrupted(prefix)
            files = {suffix: _write_part(prefix, suffix, content) for suffix, content in parts.items()}
            manifest = {
                "files": files,
                "step": step,
                **({"arguments": arguments} if arguments is not None else {}),
                **({"class_names": list(class_names)} if class_names is not None else {}),
                "saved_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "ppcls_ext": __version__,
                "paddle": paddle.__version__,
            }
            write_manifest(checkpoint_file(prefix, ".staged", MANIFEST), manifest)
            self._move(prefix, "", ".previous")
            self._move(prefix, ".staged", "")
        except OSError as error:
            raise self._not_written(prefix, error) from error
        logger.info("Already save model in %s", prefix)
        return prefix

    def remove(self, name: str) -> None:
        """Delete a checkpoint and the previous set kept beside it."""
        for place in PLACES:
            self._discard(self.folder / name, place)

    def remove_all(self) -> None:
        """Delete every checkpoint that a run has left in the folder."""
        for name in checkpoint_names(self.folder):
            self.remove(name)

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
        """Put a set that a kill left staged in its place; otherwise the next save would begin by deleting it."""
        path = checkpoint_file(prefix, ".staged", MANIFEST)
        if path.exists():
            try:
                expected = read_manifest(path)["files"]
            except CheckpointError as error:
                logger.warning("%s; the files staged with it are discarded", error)
            else:
                if all(checkpoint_file(prefix, ".staged", suffix).exists() for suffix in expected):
                    self._move(prefix, "", ".previous")
                self._move(prefix, ".staged", "", discard=False)
        self._discard(prefix, ".staged")

    def _move(self, prefix: Path, source: str, target: str, discard: bool = True) -> None:
        suffixes = [suffix for suffix in _suffixes(prefix, source) if suffix != MANIFEST]
        if not suffixes and not checkpoint_file(prefix, source, MANIFEST).exists():
            return
        if discard:
            self._discard(prefix, target)
        # The manifest moves last: until then it vouches for the files under their old name and their new one.
        for suffix in [*suffixes, MANIFEST]:
            if checkpoint_file(prefix, source, suffix).exists():
                os.replace(checkpoint_file(prefix, source, suffix), checkpoint_file(prefix, target, suffix))
        flush_folder(prefix.parent)

    def _discard(self, prefix: Path, place: str) -> None:
        # The manifest goes first, so that nothing vouches for a set that is being taken apart.
        for suffix in [MANIFEST, *_suffixes(prefix, place)]:
            checkpoint_file(prefix, place, suffix).unlink(missing_ok=True)

    def _not_written(self, prefix: Path, error: OSError) -> CheckpointWriteError:
        """Free the space of the unfinished set, and return the error to raise."""
        try:
            if not checkpoint_file(prefix, ".staged", MANIFEST).exists():
                self._discard(prefix, ".staged")
            free = f" ({shutil.disk_usage(self.folder).free / 2**20:,.0f} MiB free)"
        except OSError:
            free = ""
        kept = newest_whole(self.folder)
        return CheckpointWriteError(
            f"the checkpoint {prefix} cannot be written: {error}{free}; "
            + (
                f"the checkpoint of step {kept[1]} is whole: resume from it with -o Global.checkpoints={kept[0]}"
                if kept
                else f"no checkpoint in {self.folder} is whole"
            )
        )


def load_checkpoint(path: Union[str, Path]) -> Checkpoint:
    """Read the newest whole set of a checkpoint such as ``output/latest``.

    A damaged set is reported in the log by the name of its file, and the one before it is used.

    Args:
        path: a prefix, any file of a checkpoint, or the folder of a run, which means its ``latest``.

    Raises:
        CheckpointError: if no whole set is there; the message lists what is wrong with each.
    """
    prefix = checkpoint_prefix(path)
    candidates, problems = _candidates(prefix)
    for place, manifest in candidates:
        located, missing = _locate(prefix, place, manifest)
        if missing:
            problems += missing
            continue
        try:
            parts = {suffix: _read_part(file) for suffix, file in located.items()}
        except CheckpointError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            logger.warning("%s; the checkpoint of step %d is used instead", problem, manifest["step"])
        return Checkpoint(prefix=prefix, parts=parts, info=manifest)
    if not problems:
        raise CheckpointError(
            f"no checkpoint at {prefix}: {prefix.name}.{MANIFEST} is not there" + _other_checkpoints(prefix)
        )
    raise CheckpointError(f"no whole checkpoint at {prefix}:\n  " + "\n  ".join(problems))


def newest_whole(folder: Path) -> Optional[tuple[Path, int]]:
    """Return prefix and step of the newest whole checkpoint in ``folder``, or None.

    Of several of the same step, ``latest`` is named.
    """
    found = []
    for name in checkpoint_names(folder):
        for place, manifest in _candidates(folder / name)[0]:
            if not _locate(folder / name, place, manifest)[1]:
                found.append((manifest["step"], name == "latest", name))
                break
    return (folder / max(found)[2], max(found)[0]) if found else None


def checkpoint_names(folder: Path) -> list[str]:
    """Return the names of the checkpoints that a run has left in ``folder``, whole or not."""
    # Without its manifest, a staged set is none: a run was killed in its first save.
    ending = re.compile(rf"(\.previous)?\.({re.escape(MANIFEST)}|pdparams)|\.staged\.{re.escape(MANIFEST)}")
    names = set()
    for path in folder.iterdir() if folder.is_dir() else ():
        name, dot, rest = path.name.partition(".")
        if RUN_NAMES.fullmatch(name) and ending.fullmatch(dot + rest):
            names.add(name)
    return sorted(names)


def _candidates(prefix: Path) -> tuple[list[tuple[str, dict]], list[str]]:
    """Return ``(place, manifest)`` of each set, the newest first, and complaints about manifests."""
    found, problems = [], []
    for order, place in enumerate(PLACES):
        path = checkpoint_file(prefix, place, MANIFEST)
        if not path.exists():
            continue
        try:
            manifest = read_manifest(path)
        except CheckpointError as error:
            problems.append(str(error))
        else:
            found.append((manifest["step"], -order, place, manifest))
    found.sort(key=lambda item: item[:2], reverse=True)
    return [(place, manifest) for _, _, place, manifest in found], problems


def _locate(prefix: Path, place: str, manifest: dict) -> tuple[dict[str, Path], list[str]]:
    """Find each file of ``manifest`` under one of its three names, by size and hash; return files and complaints."""
    located, complaints = {}, []
    for suffix, facts in manifest["files"].items():
        found = [path for path in (checkpoint_file(prefix, name, suffix) for name in PLACES) if path.is_file()]
        right = next(
            (p for p in found if p.stat().st_size == facts["bytes"] and sha256_of(p) == facts["sha256"]),
            None,
        )
        if right is not None:
            located[suffix] = right
        elif checkpoint_file(prefix, place, suffix).exists():
            own = checkpoint_file(prefix, place, suffix)
            complaints.append(f"{own} is damaged: it does not have the SHA-256 that its manifest states")
        else:
            complaints.append(f"{checkpoint_file(prefix, place, suffix)} is missing")
    return located, complaints


def _write_part(prefix: Path, suffix: str, content: Any) -> dict:
    """Write one staged file and return what the manifest says of it."""
    path = checkpoint_file(prefix, ".staged", suffix)
    paddle.save(content, str(path))
    flush(path)
    return {"sha256": sha256_of(path), "bytes": path.stat().st_size}


def _read_part(path: Path) -> Any:
    try:
        return read_pickle(path)
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(f"{path} has the right SHA-256, but cannot be read: {error}") from error


def _suffixes(prefix: Path, place: str) -> list[str]:
    """Return the suffixes that exist for a set: ``pdparams``, ``manifest.json``, leftovers of a killed writer, …"""
    start = f"{prefix.name}{place}."
    known = re.compile(rf"pd[a-z]+|{re.escape(MANIFEST)}(\.\d+\.tmp)?")
    if not prefix.parent.is_dir():
        return []
    names = (path.name[len(start) :] for path in prefix.parent.iterdir() if path.name.startswith(start))
    return sorted(name for name in names if known.fullmatch(name))


def _other_checkpoints(prefix: Path) -> str:
    if not prefix.parent.is_dir():
        return f"; the folder {prefix.parent} does not exist"
    names = sorted(
        path.name[: -len(MANIFEST) - 1]
        for path in prefix.parent.glob(f"*.{MANIFEST}")
        if not path.name.endswith((f".staged.{MANIFEST}", f".previous.{MANIFEST}"))
    )
    return f"; the folder holds {', '.join(names)}" if names else f"; the folder {prefix.parent} holds none"
