"""The doctor: what it expects is what networks give, and a machine that computes something else fails."""

import json
import sys

import numpy as np
import pytest

from ppcls_ext import registry
from ppcls_ext.analysis.doctor import checks, child, diagnosis, networks
from ppcls_ext.analysis.doctor.checks import CHECKS, CheckFailed, Skipped
from ppcls_ext.analysis.doctor.diagnosis import Finding, diagnose
from ppcls_ext.cli import main


def test_there_is_a_network_of_every_family():
    families = [family.name for family in registry.families()]
    assert sorted({registry.family_of(name).name for name in networks.NETWORKS}) == sorted(set(families))


@pytest.mark.compat
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_the_golden_output_is_what_a_cpu_gives(name):
    assert CHECKS[f"golden output of {name}"]("cpu", 0).startswith("differs by ")
    assert np.ptp(networks.golden()[name], axis=0).max() > 0.1  # the network tells the two images apart


@pytest.mark.parametrize("change", [1e-3, np.nan])
def test_another_output_fails(monkeypatch, change):
    expected = networks.golden()
    expected["ResNet50"][1, 2] += change
    monkeypatch.setattr(networks, "golden", lambda: expected)
    with pytest.raises(CheckFailed, match=r"differs by .* of the largest value; 0.0001 is allowed"):
        CHECKS["golden output of ResNet50"]("cpu", 0)


@pytest.mark.compat
def test_training_passes_on_a_cpu_and_other_precisions_are_skipped():
    assert CHECKS["training in float32"]("cpu", 0) == "8 networks: the loss falls"
    with pytest.raises(Skipped, match="float32 on a CPU"):
        CHECKS["training in bfloat16, O1"]("cpu", 0)
    with pytest.raises(Skipped, match="no fused kernel"):
        CHECKS["fused attention"]("cpu", 0)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([(1.6, 1.5), (1.9, 1.5)], "Sequencer2D_S: the loss is 1.9000; in float32 it is 1.6000"),
        ([(1.6, 1.5), (1.6, 1.6)], "Sequencer2D_S: the loss is 1.6000 before a step and 1.6000 after it"),
        ([(1.6, 1.5), (np.nan, np.nan)], "Sequencer2D_S: the loss is nan"),
    ],
)
def test_a_loss_that_is_wrong_or_does_not_fall_fails(monkeypatch, losses, message):
    given = iter(losses)
    monkeypatch.setattr(checks, "_losses_of_a_step", lambda *_: next(given))
    monkeypatch.setattr(checks, "_check_precision", lambda *_: None)
    with pytest.raises(CheckFailed, match=message):
        CHECKS["training in float16, O1"]("gpu", 0)


@pytest.mark.slow
@pytest.mark.compat
def test_two_processes_agree():
    assert CHECKS["two processes"]("cpu", 0) == "gloo: two processes agree"


@pytest.mark.slow
@pytest.mark.compat
def test_the_export_predicts_with_every_engine(monkeypatch):
    written = checks.export
    monkeypatch.setattr(checks, "export", lambda *given: written(*given, onednn=False))  # that has tests of its own
    remark = CHECKS["export and prediction"]("cpu", 0)
    assert [part.split()[0] for part in remark.split(", ")] == ["paddle", "onnxruntime", "openvino"]


# ---- each in a process of its own ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "remark"),
    [
        ("kill -SEGV $$", "it crashed with SIGSEGV"),
        ("echo one >&2; echo 'ImportError: libcudnn.so' >&2; exit 1", "ImportError: libcudnn.so"),
        ("exit 3", "it ended with exit code 3"),
        ("exec sleep 20", "it did not end within 1 seconds"),
    ],
    ids=["crash", "error", "silent", "hang"],
)
def test_a_check_that_goes_wrong_leaves_the_others_alone(monkeypatch, tmp_path, script, remark):
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!/bin/sh\n{script}\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    found = list(diagnose("cpu", ["device", "throughput"], 0, timeout=1))
    assert found == [Finding("device", "fail", remark), Finding("throughput", "fail", remark)]


def test_the_process_writes_what_came_of_it(tmp_path, monkeypatch):
    outcomes = []
    for name in ("device", "fused attention"):
        child.main(name, "cpu", "0", str(tmp_path / "outcome.json"))
        outcomes.append(json.loads((tmp_path / "outcome.json").read_text())["outcome"])
    monkeypatch.setitem(CHECKS, "device", lambda *_: checks._compare(np.ones(2), np.zeros(3), 1))
    child.main("device", "cpu", "0", str(tmp_path / "outcome.json"))
    assert json.loads((tmp_path / "outcome.json").read_text()) == {
        "outcome": "fail",
        "remark": "shape [2]; expected [3]",
    }
    assert outcomes == ["pass", "skipped"]


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_a_table_and_json(tmp_path, capsys):
    output = tmp_path / "doctor.json"
    assert main(["doctor", "--device", "cpu", "--only", "device", "--output", str(output)]) == 0
    assert "computes on Place(cpu)" in capsys.readouterr().out
    report = json.loads(output.read_text())
    assert report["findings"][0]["outcome"] == "pass"
    assert report["machine"]["device"] == "cpu" and "numpy" in report["machine"]["versions"]


def test_the_exit_code_says_whether_a_check_failed(monkeypatch, capsys):
    monkeypatch.setattr(diagnosis, "diagnose", lambda *_: iter([Finding("device", "fail", "wrong")]))
    assert main(["doctor", "--device", "cpu", "--only", "device", "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["findings"] == [
        {"check": "device", "outcome": "fail", "remark": "wrong"}
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "tpu"], "device is 'tpu'; expected cpu, gpu or gpu:<number>"),
        (["--only", "nothing"], "no check is called like nothing; there are: device, golden output of"),
        (["--device", "cpu", "--seconds", "0"], "--seconds is 0; expected more than 0"),
    ],
)
def test_a_wrong_command_line(capsys, words, message):
    assert main(["doctor", *words]) == 2
    assert message in capsys.readouterr().err
