"""The parent's end of a child process that measures one configuration."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Optional, Sequence

from ppcls_ext.analysis.benchmark.results import Case
from ppcls_ext.utils.cpu_settings import MARK, THREAD_VARIABLES

WORKER = "ppcls_ext.analysis.benchmark.worker"
_ROOT = Path(__file__).resolve().parents[3]
#: Where a user's own number of threads may stand; a configuration has its own.
_OTHER_THREAD_VARIABLES = ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class ChildError(RuntimeError):
    """A child process failed; the message is the reason."""


class Child:
    """A process that holds one model open and runs it when it is asked.

    Args:
        subject: ``module:class`` of what it measures, see :mod:`ppcls_ext.analysis.benchmark.worker`.
        case: the configuration.
        options: for the subject, JSON's types.
        timeout: seconds after which it is stopped if it does not answer.
        paths: folders to import from besides.
    """

    def __init__(
        self, subject: str, case: Case, options: Optional[dict] = None, timeout: float = 1800, paths: Sequence = ()
    ):
        self.timeout = timeout
        self._first = {"subject": subject, "case": case.model_dump(), "options": options or {}}
        self._errors = tempfile.TemporaryFile()
        self._timed_out = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(case.threads, paths),
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()

    def open(self, warmup: int = 0) -> dict:
        """Build the model and run it ``warmup`` times; return facts.

        Raises:
            ChildError: it cannot be.
        """
        return self._ask({**self._first, "warmup": warmup})["facts"]

    def round(self, runs: int, seconds: float) -> dict:
        """Run so often and so long at least; return ``seconds``, ``stages`` and ``peak_bytes``.

        Raises:
            ChildError: it cannot be.
        """
        return self._ask({"runs": runs, "seconds": seconds})

    def close(self) -> None:
        """Stop the process."""
        for stream in (self._process.stdin, self._process.stdout):
            try:
                if stream is not None:
                    stream.close()
            except OSError:  # it has died with a request half written
                pass
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _ask(self, request: dict) -> dict:
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise ChildError("the process has no pipes")
        guard = threading.Timer(self.timeout, self._stop)
        guard.start()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            guard.cancel()
        if not line:
            raise ChildError(self._why_it_ended())
        answer = json.loads(line)
        if "error" in answer:
            raise ChildError(answer["error"])
        return answer

    def _stop(self) -> None:
        self._timed_out = True
        self._process.kill()

    def _why_it_ended(self) -> str:
        code = self._process.wait()
        if self._timed_out:
            return f"no answer within {self.timeout:g} s (--timeout); the process was stopped"
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", errors="replace").strip().splitlines()
        said = f": {lines[-1].strip()[:300]}" if lines else ""
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return f"the process died of {name}{hint}{said}"
        return f"the process ended with exit code {code}{said}"


def environment(threads: int, paths: Sequence = ()) -> dict[str, str]:
    """Return the environment of a child that computes with so many threads."""
    found = {name: value for name, value in os.environ.items() if name not in _OTHER_THREAD_VARIABLES}
    found.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    ours = [name for name in found.get(MARK, "").split(",") if name and name not in THREAD_VARIABLES]
    found[MARK] = ",".join(ours)  # the child takes the numbers above for the user's own
    folders = [str(_ROOT), *map(str, paths), found.get("PYTHONPATH", "")]
    found["PYTHONPATH"] = os.pathsep.join(folder for folder in folders if folder)
    return found
