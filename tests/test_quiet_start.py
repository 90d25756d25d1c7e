"""The first line of a command is the command's: nothing that Paddle says to its developers comes before it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from config_sample import Sample


@pytest.mark.compat
def test_nothing_comes_before_the_output_of_a_command(tmp_path):
    """In a process of its own, since Paddle speaks when it is imported."""
    sample = Sample(tmp_path)
    sample.replace(
        "name: ppcls_ext.Sequencer2D_S", "name: ppcls_ext.ViT_small_patch16_224\n  img_size: 32\n  depths: [1]"
    )
    command = [sys.executable, "-m", "ppcls_ext", "eval", "-c", str(sample.path), "--random-weights"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "ccache" not in done.stderr and "OMP_NUM_THREADS" not in done.stderr
    assert done.stdout.splitlines()[0].endswith("ppcls INFO: configuration")
    assert done.stdout.count("configuration\n") == 1
