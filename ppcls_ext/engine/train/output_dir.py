"""One run at a time per output folder, and no run overwrites an earlier one's checkpoints unasked."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import socket
import time
from pathlib import Path
from typing import Optional, TextIO

import numpy as np

from ppcls_ext.config import Config
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.train.checkpoint import CheckpointError, checkpoint_names, load_checkpoint, newest_whole
from ppcls_ext.utils.checkpoint_path import LATEST, checkpoint_prefix

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # the usual way to say that it is not there

logger = logging.getLogger("ppcls_ext")

LOCK_NAME = "train.lock"
#: What a run leaves that is killed while it writes a file aside (:func:`ppcls_ext.utils.files.write_atomically`).
_LEFTOVER = re.compile(r".*\.(yaml|json|csv)\.\d+\.tmp")


class OutputDirError(RuntimeError):
    """The output folder is in use by a run, or holds the checkpoints of one that would be overwritten."""


class OutputLock:
    """Keeps other runs out of a folder as long as this process lives.

    The operating system releases the lock when the process ends, however it ends. It is a POSIX record lock, not
    ``flock`` (which the package filelock takes): worker processes inherit the latter, and would hold it after a SIGKILL
    of the run. The file names the holder; a name that is left in an unlocked file is that of a run which was killed.

    Attributes:
        note: what there is to say about an earlier holder, for the log; empty if there is nothing.
    """

    def __init__(self, folder: Path):
        self.folder, self.note = folder, ""
        self._file: Optional[TextIO] = None

    def acquire(self) -> None:
        """Take the lock, and delete half-written files of a run that was killed.

        Raises:
            OutputDirError: naming host and process of the run that has the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / LOCK_NAME
        file = open(path, "a+", encoding="utf-8", errors="replace")
        try:
            _lock(file)
        except OSError as error:
            holder = _holder(file)
            file.close()
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                self.note = f"{path} cannot be locked ({error}): see to it that no second run writes to this folder"
                return
            raise OutputDirError(
                f"Global.output_dir: a run is writing to {self.folder}{holder}. Wait for it, stop it, or choose "
                "a different folder with -o Global.output_dir=<folder>"
            ) from None
        killed = _holder(file)
        if killed:
            self.note = f"the run before in {self.folder}{killed} ended without releasing its lock: it was killed"
        file.seek(0)
        file.truncate()
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        file.write(json.dumps(owner))
        file.flush()
        self._file = file
        for path in self.folder.iterdir():
            if _LEFTOVER.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def release(self) -> None:
        """Give the folder back. The file stays, empty: to delete it could take it from the next run."""
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()
            self._file.close()
            self._file = None


def check_not_overwritten(folder: Path, checkpoints: Optional[str], overwrite: bool) -> None:
    """Check that a run may write its checkpoints to ``folder``.

    Args:
        folder: the run's output folder.
        checkpoints: the checkpoint that the run resumes from, or None.
        overwrite: whether it may replace what is there.

    Raises:
        OutputDirError: if the folder holds checkpoints of a run that is not resumed; it says what they are, and the
            ways out.
    """
    names = checkpoint_names(folder)
    if not names or overwrite:
        return
    if checkpoints and checkpoint_prefix(checkpoints).parent.resolve() == folder.resolve():
        return
    raise OutputDirError(
        f"Global.output_dir: {folder} holds {_described(folder, names)}, which this run would overwrite. "
        f"To continue that run: --resume, or -o Global.checkpoints={folder}. To keep it: "
        "-o Global.output_dir=<a different folder>. To delete it: -o Global.overwrite=True"
    )


def claim(folder: Path, lock: OutputLock, checkpoints: Optional[str], overwrite: bool, session: Session) -> None:
    """Take the output folder for this run on the main process; all processes learn whether that worked.

    Args:
        folder: ``Global.output_dir``.
        lock: that of the folder.
        checkpoints: what the run resumes from.
        overwrite: whether it may overwrite an earlier run's checkpoints.
        session: this process.

    Raises:
        OutputDirError: on all processes, if it did not work.
    """
    refusal = None
    if session.is_main:
        try:
            lock.acquire()
            check_not_overwritten(folder, checkpoints, overwrite)
        except OutputDirError as error:
            refusal = error
    if session.sum(np.array([refusal is not None]))[0]:
        raise refusal or OutputDirError(f"process 0 cannot use {folder}; its message says why")


def resume_own(cfg: Config) -> None:
    """Let the run of ``cfg`` resume from the ``latest`` in its own output folder: the option ``--resume``.

    Raises:
        CheckpointError: if there is none, or the config already names a checkpoint.
    """
    folder = Path(cfg.Global.output_dir)
    if cfg.Global.checkpoints:
        raise CheckpointError(f"--resume and Global.checkpoints={cfg.Global.checkpoints} are both given; leave one out")
    if LATEST not in checkpoint_names(folder):
        raise CheckpointError(
            f"--resume: {folder} holds no checkpoint named {LATEST}; leave --resume out to start a new run"
        )
    cfg.Global.checkpoints = str(folder / LATEST)


def _described(folder: Path, names: list[str]) -> str:
    """Return what kind of run left ``names``: finished or interrupted, and its best figure."""
    listed = f"the checkpoints {', '.join(names)}" if len(names) > 1 else f"the checkpoint {names[0]}"
    newest = newest_whole(folder)
    if newest is None:
        return listed
    try:
        states = load_checkpoint(newest[0]).parts["pdstates"]
        epoch, epochs, best = states["epoch"], states["epochs"], states["best_epoch"]
        state = "a finished run" if epoch >= epochs else "an interrupted run"
        figure = f", best metric {states['metric']:.4f} at epoch {best}" if best else ""
        return f"{state} of {states['arch']} ({epoch} of {epochs} epochs{figure})"
    except (CheckpointError, KeyError, TypeError, ValueError):
        return listed


def _lock(file) -> None:
    """Lock ``file``, or raise an OSError."""
    if fcntl is not None:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        import msvcrt

        file.seek(1 << 30)  # what is locked cannot be read, and the name of the holder is to be read
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)


def _holder(file) -> str:
    """Return `` (process 123 on host-a, since …)`` from the content of a lock file; empty if it says nothing."""
    file.seek(0)
    text = file.read(1000)
    try:
        holder = json.loads(text)
        return f" (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (ValueError, KeyError, TypeError, RecursionError):
        return f" ({text[:80]!r})" if text.strip() else ""
