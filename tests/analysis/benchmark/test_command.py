"""The command, from the command line to the files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ppcls_ext import cli, registry
from ppcls_ext.analysis import drawing
from ppcls_ext.analysis.benchmark.results import Report, Row
from ppcls_ext.analysis.benchmark.session import Session
from ppcls_ext.analysis.machine import Machine

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.compat
def test_from_the_command_line_to_the_files(tmp_path):
    """A model in eager mode and exported; what cannot be is there with its reason; nothing but JSON is printed."""
    pytest.importorskip("onnxruntime")
    command = [sys.executable, str(ROOT / "tools" / "benchmark.py"), "ResNet18", "--resolution", "32", "--threads", "1"]
    command += ["--engine", "eager", "onnxruntime", "--mode", "forward", "train", "--rounds", "2", "--runs", "1"]
    command += ["--seconds", "0.01", "--warmup", "0", "--compare", "onnxruntime,forward", "eager,forward"]
    command += ["--format", "json", "--no_plot", "--output", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    found = Report.model_validate(json.loads(done.stdout))
    rows = {(row.case.mode, row.case.engine): row for row in found.rows}
    assert rows["train", "onnxruntime"].error == "an exported graph cannot be trained; only the engine eager can"
    for key in (("forward", "eager"), ("forward", "onnxruntime"), ("train", "eager")):
        row = rows[key]
        assert row.error is None and len(row.seconds) == 2 and row.runs >= 2, row.error
        assert row.params == registry.get_spec("ResNet18").params
        fc = 512 * 1000
        assert row.macs == (registry.get_spec("ResNet18").macs - fc) // 7**2 + fc, "32 x 32 has 1/49 of the area"
    assert rows["forward", "onnxruntime"].library.startswith("onnxruntime ")
    assert rows["forward", "onnxruntime"].peak_bytes < rows["forward", "eager"].peak_bytes, "it needs no Paddle"
    (ratio,) = found.ratios
    assert ratio.low <= ratio.median <= ratio.high
    assert {limit.case.engine for limit in found.limits} == {"numpy", "paddle", "onnxruntime"}
    assert all(limit.error is None and limit.gmacs_per_second > 0 for limit in found.limits)
    assert Report.model_validate_json((tmp_path / "benchmark.json").read_text(encoding="utf-8")) == found


@pytest.mark.parametrize(
    "words, message",
    [
        (["ResNet5O"], "no such backbone or exported folder: ResNet5O; did you mean"),
        (["ResNet50", "--engine", "onnx"], "invalid choice: 'onnx'"),
        (["ResNet50", "--resolution", "22x"], "neither a side such as 224 nor HEIGHTxWIDTH"),
        (["ResNet50", "--seconds", "0"], "no number of seconds"),
        (["ResNet50", "--device", "tpu"], "expected cpu, gpu or gpu:<number>"),
        (["ResNet50", "--compare", "eager", "ResNet18"], "nothing in this run is called so; did you mean ResNet50?"),
        (["ResNet50", "--mode", "predict", "--infer_imgs", "none.jpg"], "none.jpg"),
        (["."], "inference.yml"),
    ],
)
def test_mistakes_are_found_before_anything_runs(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    try:
        code = cli.main(["benchmark", *words])
    except SystemExit as stop:  # argparse
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_a_missing_matplotlib_is_found_before_anything_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["benchmark", "ResNet50", "--output", str(tmp_path / "out")]) == 2
    assert 'pip install "ppcls_ext[plot]"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("errors, code", [(["a", "b"], 1), (["a", None], 0)])
def test_the_exit_code_says_whether_anything_was_measured(capsys, monkeypatch, errors, code):
    def measure(self, jobs):
        rows = [Row(case=job.case, error=error, seconds=[[0.1]]) for job, error in zip(jobs, errors)]
        return Report(machine=Machine(), settings=self.settings, rows=rows)

    monkeypatch.setattr(Session, "run", measure)
    assert cli.main(["benchmark", "ResNet18", "--batch_size", "1", "8", "--format", "csv"]) == code
    assert capsys.readouterr().out.count(",a,") == errors.count("a")
