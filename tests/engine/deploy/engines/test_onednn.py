"""The trial of oneDNN: what it finds, and that nothing crashes where it goes wrong."""

import logging
import sys

import numpy as np
import paddle
import pytest
from exported_graphs import run_paddle

from ppcls_ext.engine.deploy import onednn
from ppcls_ext.engine.deploy.engines.graphs import paddle_graph
from ppcls_ext.engine.deploy.engines.paddle_engine import PaddleEngine
from ppcls_ext.engine.deploy.onednn import try_onednn
from ppcls_ext.engine.deploy.paddle_writing import Sample
from ppcls_ext.utils.cpu_features import cpu_features

pytestmark = pytest.mark.compat


@pytest.fixture(scope="module")
def graph(exported):
    return paddle_graph(exported.folder)


@pytest.fixture(scope="module")
def samples(exported):
    images = [np.random.default_rng(n).standard_normal((n, 3, 16, 16), dtype=np.float32) for n in (1, 3)]
    return [Sample(x, run_paddle(exported.folder, x)) for x in images]


def stand_in(monkeypatch, tmp_path, text: str) -> None:
    """Let a script of the shell or of Python take the place of the process that tries."""
    script = tmp_path / "python"
    script.write_text(text)
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def test_a_graph_is_tried(graph, samples):
    """This small one is right in oneDNN, wherever that is; whether it is faster, only a clock can tell."""
    found = try_onednn(graph, samples)
    assert found["paddle"] == paddle.__version__ and found["cpu"] == cpu_features()
    assert found["time"] > 0
    assert found["use"] is (found["time"] <= 0.9)
    assert found["use"] or found["reason"] == f"it takes {found['time']:g} times as long as without"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("#!/bin/sh\nkill -SEGV $$\n", "it crashes with SIGSEGV"),
        ("#!/bin/sh\nkill -ALRM $$\n", "it hangs"),
        (
            "#!/bin/sh\necho one >&2; echo 'RuntimeError: std::exception' >&2; exit 1\n",
            "it fails: RuntimeError: std::exception",
        ),
        ("#!/bin/sh\nexit 3\n", "it fails with exit code 3"),
    ],
    ids=["crash", "hang", "error", "silent"],
)
def test_a_process_that_goes_wrong(graph, samples, monkeypatch, tmp_path, script, reason):
    stand_in(monkeypatch, tmp_path, script)
    found = try_onednn(graph, samples)
    assert found["use"] is False and found["reason"] == reason


WRITES = """#!{python}
import json, sys
import numpy as np
folder = sys.argv[4]
results = {{}}
for index, images in enumerate((1, 3)):
    for repeat in range(3):
        results[f"{{index}}_{{repeat}}"] = np.full((images, 10), 0.5, "float32")
np.savez(folder + "/results.npz", **results)
json.dump([1.0, {time}], open(folder + "/times.json", "w"))
"""


@pytest.mark.parametrize(
    ("output", "time", "use", "reason"),
    [
        (0.5, 0.4, True, None),
        (0.5, 0.95, False, "it takes 0.95 times as long as without"),
        (0.6, 0.4, False, "for an input 1×3×16×16 it and dygraph differ by 0.167"),
    ],
)
def test_what_decides(graph, monkeypatch, tmp_path, output, time, use, reason):
    """Results that differ, or a time that is not worth it, leave it off."""
    stand_in(monkeypatch, tmp_path, WRITES.format(python=sys.executable, time=time))
    expected = [np.full((n, 10), output, "float32") for n in (1, 3)]
    for array in expected:
        array[-1, 0] -= 1e-5  # not the same for every image
    images = [np.zeros((n, 3, 16, 16), "float32") for n in (1, 3)]
    found = try_onednn(graph, [Sample(x, y) for x, y in zip(images, expected)])
    assert found["use"] is use and found["time" if use else "reason"] is not None
    assert str(found.get("reason", "")).startswith(reason or "")


def test_outputs_that_are_all_the_same_prove_nothing(graph):
    same = [Sample(np.zeros((n, 3, 16, 16), "float32"), np.full((n, 10), 0.1, "float32")) for n in (1, 3)]
    assert "would prove nothing" in try_onednn(graph, same)["reason"]


@pytest.mark.parametrize(
    ("changes", "on", "said"),
    [
        ({}, True, ""),
        ({"use": False}, False, ""),
        ({"paddle": "2.5.0"}, False, "tried with another paddle; export again"),
        ({"cpu": ["avx"]}, False, "tried with another cpu; export again"),
    ],
)
def test_a_trial_holds_for_the_same_paddle_and_processor(graph, caplog, changes, on, said):
    found = {"use": True, "paddle": paddle.__version__, "cpu": cpu_features(), **changes}
    with caplog.at_level(logging.INFO, logger="ppcls_ext"):
        assert PaddleEngine(graph, onednn=found).onednn is on
    assert said in caplog.text


def test_the_alarm_is_set(monkeypatch, graph, samples, tmp_path):
    """What hangs in native code is ended by the system; here the second engine takes longer than it may."""
    if not hasattr(onednn.signal, "alarm"):
        pytest.skip("this system has no alarms")
    asked = []
    monkeypatch.setattr(onednn.signal, "alarm", asked.append)
    np.savez(tmp_path / onednn.SAMPLES, *[sample.images for sample in samples])
    onednn._run(str(graph.path), str(tmp_path))
    assert len(asked) == 1 and asked[0] >= onednn.GRACE
    assert set(np.load(tmp_path / onednn.RESULTS).files) == {f"{i}_{r}" for i in (0, 1) for r in range(onednn.REPEATS)}
