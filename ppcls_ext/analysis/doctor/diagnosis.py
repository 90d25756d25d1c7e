"""Runs the checks, each in a process of its own, so that one that crashes or hangs leaves the others alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Iterator, Mapping, Optional, Sequence

PASS, FAIL, SKIPPED = "pass", "fail", "skipped"
#: Seconds for a check beside those that it is asked to measure.
TIMEOUT = 600


@dataclass(frozen=True)
class Finding:
    """The outcome of a check.

    Attributes:
        check: its name.
        outcome: ``pass``, ``fail`` or ``skipped``.
        remark: what was found, or the reason.
    """

    check: str
    outcome: str
    remark: str

    def to_dict(self) -> dict:
        """Return all fields as plain data."""
        return asdict(self)


def with_this_package(environment: Mapping[str, str]) -> dict:
    """Return the environment of a process that is to import this package, wherever it lies."""
    paths = [str(Path(__file__).parents[3]), environment.get("PYTHONPATH")]
    return {**environment, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def diagnose(device: str, checks: Sequence[str], seconds: float, timeout: float = TIMEOUT) -> Iterator[Finding]:
    """Run checks one after the other.

    Args:
        device: ``cpu``, ``gpu`` or ``gpu:<number>``.
        checks: names of :data:`ppcls_ext.analysis.doctor.checks.CHECKS`.
        seconds: for which the throughput is measured.
        timeout: seconds after which a check has failed, beside ``seconds``.
    """
    for name in checks:
        yield _run(name, device, seconds, timeout + seconds)


def _run(name: str, device: str, seconds: float, timeout: float) -> Finding:
    environment = with_this_package(os.environ)
    with tempfile.TemporaryDirectory(prefix="ppcls_ext-doctor-") as folder:
        outcome = Path(folder, "outcome.json")
        command = [sys.executable, "-m", "ppcls_ext.analysis.doctor.child", name, device, str(seconds), str(outcome)]
        try:
            child = subprocess.run(
                command, env=environment, timeout=timeout, capture_output=True, text=True, errors="replace", check=False
            )
        except subprocess.TimeoutExpired:
            return Finding(name, FAIL, f"it did not end within {timeout:g} seconds")
        if outcome.is_file():
            return Finding(name, **json.loads(outcome.read_text(encoding="utf-8")))
    return Finding(name, FAIL, _how_it_ended(child))


def _how_it_ended(child: subprocess.CompletedProcess) -> str:
    if child.returncode < 0:
        return f"it crashed with {signal.Signals(-child.returncode).name}"
    last: Optional[str] = next((line for line in reversed(child.stderr.splitlines()) if line.strip()), None)
    return last.strip() if last else f"it ended with exit code {child.returncode}"
