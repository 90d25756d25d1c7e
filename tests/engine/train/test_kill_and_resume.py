"""SIGKILL at random moments, also inside a save; the resumed run equals the unbroken one bit for bit."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.compat
@pytest.mark.slow
def test_killed_and_resumed_equals_unbroken(runs, tmp_path):
    """Defects 1, 2, 4: weights, optimizer, moving average, position and best figure are the unbroken run's."""
    runs.config["Arch"]["drop_path_rate"] = 0.2
    runs.config["EMA"] = {"decay": 0.9}
    runs.config["Global"].update(save_interval_steps=1, epochs=3)
    script = Path(__file__).with_name("kill_and_resume.py")
    command = [sys.executable, str(script), str(runs.write()), "--trials", "3", "--folder", str(tmp_path / "kills")]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    summary = re.search(r"3 trials, (\d+) kills, .*: all equal", result.stdout)
    assert summary and int(summary.group(1)) >= 3, result.stdout
