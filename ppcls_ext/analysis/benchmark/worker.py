"""The child process that measures one configuration: ``python -m ppcls_ext.analysis.benchmark.worker``.

It reads one JSON object a line from standard input and answers each with one. The first names a subject and its
arguments, and opens it; each later one asks for a round. What libraries print goes to standard error.

A subject is a class: ``Subject(case, options)`` imports its libraries, ``open()`` builds the model and returns facts
for its :class:`~ppcls_ext.analysis.benchmark.results.Row`, ``run()`` runs it once, to its end on every device, and
returns the seconds of its stages or None. ``device_bytes()`` is optional.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Callable, Optional, TextIO

from ppcls_ext.analysis.benchmark.memory import peak_bytes, resident_bytes
from ppcls_ext.analysis.benchmark.results import Case

#: Characters of a reason that a table shows.
LONGEST_REASON = 240


@dataclass
class Runs:
    """Seconds of each run of one round, whole and by stage."""

    seconds: list
    stages: dict

    @classmethod
    def measure(cls, run: Callable[[], Optional[dict]], least: int, seconds: float, clock: Callable[[], float]) -> Runs:
        """Run at least so many times and so long, after one run that is not timed: the caches are another's.

        Args:
            run: what to time; it returns the seconds of its stages, or None.
            least: number of runs.
            seconds: of all runs together.
            clock: tells the time in seconds.
        """
        run()
        found = cls([], {})
        begin = clock()
        while len(found.seconds) < least or clock() - begin < seconds:
            start = clock()
            stages = run()
            found.seconds.append(clock() - start)
            for name, value in (stages or {}).items():
                found.stages.setdefault(name, []).append(value)
        return found


def serve(requests: TextIO, replies: TextIO, clock: Callable[[], float] = time.perf_counter) -> None:
    """Answer requests until there are no more, or one fails."""
    subject = None
    for line in requests:
        request = json.loads(line)
        try:
            if subject is None:
                subject, answer = _opened(request)
            else:
                runs = Runs.measure(subject.run, request["runs"], request["seconds"], clock)
                answer = {"seconds": runs.seconds, "stages": runs.stages, "peak_bytes": peak_bytes()}
                device_bytes = getattr(subject, "device_bytes", lambda: None)()
                if device_bytes is not None:
                    answer["device_bytes"] = device_bytes
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason in this configuration's row
            answer = {"error": reason(error)}
        print(json.dumps(answer), file=replies, flush=True)
        if "error" in answer:
            return


def _opened(request: dict) -> tuple:
    module, _, name = request["subject"].partition(":")
    subject = getattr(importlib.import_module(module), name)(Case(**request["case"]), request["options"])
    loaded = resident_bytes()
    facts = subject.open() or {}
    for _ in range(request["warmup"]):
        subject.run()
    return subject, {"facts": {"loaded_bytes": loaded, **facts}}


def reason(error: BaseException) -> str:
    """Return an error in one line: our own messages whole, of others what their libraries put last."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    ours = type(error).__module__.startswith("ppcls_ext") or len(lines) == 1
    line = " ".join(lines) if ours else lines[-1]
    line = line if len(line) <= LONGEST_REASON else line[:LONGEST_REASON].rstrip() + " …"
    plain = isinstance(error, (ValueError, RuntimeError, KeyError)) or (isinstance(error, OSError) and not error.errno)
    return line if plain else f"{type(error).__name__}: {line}"


def main() -> None:
    """Serve the parent through the standard streams."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, replies)


if __name__ == "__main__":
    main()
