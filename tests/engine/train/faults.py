"""File operations that go wrong: the process is killed inside one of them, or the disk is full from one of them on.

What counts as an operation: each ``write`` to a file (half of its bytes still reach the disk), fsync, rename and
unlink. Logs are left alone.
"""

import builtins
import errno
import io
import os
import signal
from contextlib import contextmanager
from pathlib import Path


class _WatchedFile:
    """A file whose writes are operations."""

    def __init__(self, file, operation):
        self._file, self._operation = file, operation

    def write(self, data):
        def half():
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._operation("write", half)
        return self._file.write(data)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *exception):
        return self._file.__exit__(*exception)

    def __getattr__(self, name):
        return getattr(self._file, name)


class Operations:
    """Counts operations, and lets the ``fatal``-th go wrong.

    Attributes:
        count: operations so far.
        kinds: their kinds, in order.
    """

    def __init__(self, fatal=0, full_disk=False):
        self.fatal, self.full_disk = fatal, full_disk
        self.count, self.kinds = 0, []
        self._process = os.getpid()

    def __call__(self, kind, half=lambda: None):
        if os.getpid() != self._process:  # a data worker, which has inherited this
            return
        self.count += 1
        self.kinds.append(kind)
        if not self.fatal or self.count < self.fatal:
            return
        if not self.full_disk:
            if self.count == self.fatal:
                half()
                os.kill(os.getpid(), signal.SIGKILL)
        elif kind in ("write", "fsync"):  # a full disk stays full, and lets files be renamed and deleted
            half()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def watched(fatal=0, full_disk=False):
    """Watch the operations of a ``with`` block; see :class:`Operations`.

    Args:
        fatal: number of the operation that goes wrong, from 1; 0: none.
        full_disk: whether it and all later writes fail; otherwise the process is killed inside it.
    """
    operations = Operations(fatal, full_disk)
    originals = (builtins.open, io.open, os.replace, os.fsync, Path.unlink)
    original_open, _, replace, fsync, unlink = originals

    def watching_open(file, mode="r", *arguments, **keywords):
        opened = original_open(file, mode, *arguments, **keywords)
        is_log = isinstance(file, (str, os.PathLike)) and str(file).endswith(".log")
        return _WatchedFile(opened, operations) if set(mode) & set("wax") and not is_log else opened

    def counting(kind, function):
        def wrapper(*arguments, **keywords):
            operations(kind)
            return function(*arguments, **keywords)

        return wrapper

    builtins.open = io.open = watching_open
    os.replace, os.fsync = counting("replace", replace), counting("fsync", fsync)
    Path.unlink = counting("unlink", unlink)
    try:
        yield operations
    finally:
        builtins.open, io.open, os.replace, os.fsync, Path.unlink = originals
