"""What every command promises for any input, and the means to hold it to that.

1. The exit code is 0, 1 or 2: a right result, a failure that the message explains, or a command line or configuration
   that is refused before anything is done.
2. A code other than 0 comes with one named error on standard error; there is no traceback.
3. No command hangs: none works for more than ``MAX_SECONDS`` of processor time on inputs as small as these, and none
   waits for longer than ``MAX_WAIT``.
4. The process never grows by more than ``MAX_GROWTH`` bytes.
5. Nothing outside the output folder is created, changed or deleted.

Commands run in this process, with an alarm, a limit on the address space, and an audit hook that sees every file that
is opened for writing. A fault in a native library ends the tests, and ``faulthandler`` says where.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import signal
import sys
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence

from ppcls_ext import cli

MAX_SECONDS, MAX_WAIT = 10, 60
MAX_GROWTH = 500 << 20
#: More than the permitted growth, since what is reserved is not what is used; less than would harm the machine.
_MAX_RESERVED = 4 << 30
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.mkdir": 0, "os.remove": 0, "os.rmdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1, "os.chmod": 0}
#: Where Paddle itself keeps what it makes of a network before it exports it.
_PADDLES_OWN = os.path.expanduser("~/.cache/paddle/")
_NAMED_ERROR = re.compile(r"^(ppcls_ext [\w-]+: )?error: ", re.MULTILINE)

#: (what was tried, command, exit code) -> how often, over the whole session.
COUNTS: Counter = Counter()


class Hang(BaseException):
    """The alarm went off; no command may catch it."""


@dataclass
class Outcome:
    """What a command left behind."""

    code: object
    out: str
    err: str


class _Watch:
    """Collects the paths that are written to while it is on."""

    def __init__(self):
        self.on = False
        self.paths: set = set()
        self._hooked = False

    def start(self) -> None:
        if not self._hooked:  # an audit hook cannot be removed
            sys.addaudithook(self._see)
            self._hooked = True
        self.paths.clear()
        self.on = True

    def _see(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = set("wax+") & set(mode) if isinstance(mode, str) else (flags or 0) & _WRITING
        else:
            path, writes = (arguments[_CHANGES[event]], True) if event in _CHANGES else (None, False)
        if writes and isinstance(path, (str, bytes, os.PathLike)):
            self.paths.add(os.path.abspath(os.fsdecode(path)))


_watch = _Watch()


def run(kind: str, arguments: Sequence[str], folder: Path) -> Outcome:
    """Run a command in ``folder``, the only place that it may write to, and check every promise.

    Args:
        kind: what is tried, for the counts.
        arguments: the command's name and its arguments.
        folder: current folder of the command, which its output folder is in.
    """
    if arguments[0] == "export":
        arguments = [*arguments, "--no_onednn"]  # that is tried in a process of its own, which nothing here watches
    before = os.getcwd()
    os.chdir(folder)
    try:
        outcome = _run([os.fspath(argument) for argument in arguments], folder)
    finally:
        os.chdir(before)
    COUNTS[kind, arguments[0], outcome.code] += 1
    return outcome


def _run(arguments: list, folder: Path) -> Outcome:
    out, err = (  # as Python opens them
        io.TextIOWrapper(io.BytesIO(), "utf-8", errors=errors, write_through=True)
        for errors in ("strict", "backslashreplace")
    )
    said = f"ppcls_ext {' '.join(arguments)}"
    _watch.start()
    growth = None
    try:
        with _bounded(), _memory() as memory, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code: object = cli.main(arguments)
            except SystemExit as stop:  # argparse
                code = stop.code
        growth = memory.growth
    except Hang:
        raise AssertionError(f"{said}\nhangs:\n{traceback.format_exc()}") from None
    except BaseException:  # noqa: BLE001 - whatever it is, it is a finding
        raise AssertionError(f"{said}\nends in a traceback:\n{traceback.format_exc()}") from None
    finally:
        _watch.on = False
    outcome = Outcome(code, *(stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err)))
    said += f"\n{outcome}"
    assert code in (0, 1, 2), said
    assert "Traceback (most recent call last)" not in outcome.out + outcome.err, said
    if code:
        assert _NAMED_ERROR.search(outcome.err), f"no named error: {said}"
    assert growth is None or growth < MAX_GROWTH, f"grew by {growth >> 20} MB: {said}"
    stray = [path for path in _watch.paths if not _may_be_written(path, folder)]
    assert not stray, f"touched {stray}: {said}"
    return outcome


def _may_be_written(path: str, folder: Path) -> bool:
    """Return whether ``path`` is below ``folder``, or none of a user's files."""
    return Path(path).is_relative_to(folder) or path.startswith(("/dev/", "/proc/", _PADDLES_OWN))


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Raise :class:`Hang` when the time is over, and MemoryError when far too much memory is asked for."""

    def stop(number, frame):
        raise Hang(signal.Signals(number).name)

    timers = ((signal.SIGALRM, signal.ITIMER_REAL, MAX_WAIT), (signal.SIGPROF, signal.ITIMER_PROF, MAX_SECONDS))
    handlers = {number: signal.signal(number, stop) for number, *_ in timers}
    limits = resource.getrlimit(resource.RLIMIT_AS)
    reserved = _status("VmSize")
    if reserved:
        resource.setrlimit(resource.RLIMIT_AS, (reserved + _MAX_RESERVED, limits[1]))
    try:
        for _, timer, seconds in timers:
            signal.setitimer(timer, seconds)
        yield
    finally:
        for number, timer, _ in timers:
            signal.setitimer(timer, 0)
            signal.signal(number, handlers[number])
        resource.setrlimit(resource.RLIMIT_AS, limits)


class _memory:
    """Measures how far the process grows above what it holds at the start; ``growth`` is None where Linux is not."""

    def __enter__(self) -> _memory:
        self.growth = None
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts afresh
        self._start = _status("VmRSS")
        return self

    def __exit__(self, *_) -> None:
        if self._start:
            self.growth = _status("VmHWM") - self._start


def _status(field: str) -> int:
    """Return a figure of ``/proc/self/status`` in bytes; 0 where there is no such file."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    found = re.search(rf"^{field}:\s*(\d+) kB", text, re.MULTILINE)
    return int(found[1]) << 10 if found else 0
