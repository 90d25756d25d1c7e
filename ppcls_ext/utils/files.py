"""Files that are whole or not there, and that stay: opening, flushing, renaming and hashing in one place."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO, Callable, Union

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


class NotRegularFileError(OSError):
    """The path is there, but reading it would hang or never end."""


def check_regular(path: Union[str, Path]) -> Path:
    """Return ``path`` if it is a regular file or a link to one.

    Raises:
        FileNotFoundError: if it is not there.
        NotRegularFileError: if it is a folder, pipe, device or socket: opening those may hang, or read without end.
    """
    _refuse_special(path, os.stat(path).st_mode)
    return Path(path)


def _refuse_special(path: Union[str, Path], mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for matches, name in _KINDS if matches(mode)), "no regular file")
        raise NotRegularFileError(f"{path} is {kind}; expected a regular file")


def open_regular(path: Union[str, Path]) -> BinaryIO:
    """Open a regular file for reading bytes.

    Raises:
        OSError: if it cannot be opened, or is no regular file; see :func:`check_regular`.
    """
    check_regular(path)  # first: the mere opening of some devices has an effect
    # A pipe that takes the file's place in between would block without O_NONBLOCK, which Windows does not have.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _refuse_special(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, flush it to the disk, and give it the name."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        write(aside)
        flush(aside)
        os.replace(aside, path)
        flush_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Make sure that the bytes are on the disk before a name vouches for them."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Make sure that the names in a folder are on the disk."""
    if os.name == "nt":  # Windows has no handle for a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a regular file, in hexadecimal."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
