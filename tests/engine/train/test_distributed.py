"""Processes on CPU, over gloo, started by Paddle's launcher as users start them: on one node, and on two."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.predictions import read_predictions
from ppcls_ext.engine.train.checkpoint import CheckpointError, load_checkpoint
from ppcls_ext.utils.state_dict import state_arrays

TABLES = ("per_class", "confusion_matrix")
ROOT = Path(__file__).resolve().parents[3]


def launch_command(script: str, config: Path, *overrides: str, processes: int, log_dir: Path) -> list:
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "paddle.distributed.launch", "--nproc_per_node", str(processes), "--backend", "gloo"]
        command += ["--log_dir", str(log_dir)]
    command += [str(ROOT / "tools" / script), "-c", str(config)]
    for override in overrides:
        command += ["-o", override]
    return command


def launch(runs, script: str, *overrides: str, processes: int, options: tuple = ()) -> str:
    """Run a script of ``tools/`` and return what the main process printed."""
    log_dir = runs.folder / f"log_{processes}"
    command = launch_command(script, runs.write(), *overrides, processes=processes, log_dir=log_dir)
    command += map(str, options)
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=runs.folder)
    logs = {path.name: path.read_text() for path in log_dir.glob("workerlog.*")}
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:] + str(logs)[-3000:]
    return result.stdout + logs.get("workerlog.0", "")


@pytest.mark.compat
@pytest.mark.slow
def test_two_processes_equal_one_with_the_doubled_batch(runs):
    """Six steps of 2 × 16 give the weights of 1 × 32; accumulation sends gradients once a step; figures are global.

    Early stopping ends both processes after the second of nine epochs, and the mean of their weights is the same.
    """
    runs.config["Global"].update(epochs=9, early_stopping={"metric": "loss", "patience": 1, "min_delta": 100})
    runs.config["SWA"] = {"start_epoch": 1}
    single = runs.output_dir / "single"
    double = runs.output_dir / "double"
    launch(runs, "train.py", f"Global.output_dir={single}", processes=1)
    halves = ("DataLoader.Train.sampler.batch_size=8", "Global.update_freq=2")
    launch(runs, "train.py", f"Global.output_dir={double}", *halves, processes=2)
    one, two = load_checkpoint(single / "latest").parts, load_checkpoint(double / "latest").parts
    assert one["pdstates"]["step"] == two["pdstates"]["step"] == 6
    for name, array in one["pdparams"].items():
        np.testing.assert_allclose(two["pdparams"][name], array, atol=2e-6, err_msg=name)
    averages = [load_checkpoint(folder / "swa").parts["pdparams"] for folder in (single, double)]
    for name, array in averages[0].items():
        np.testing.assert_allclose(averages[1][name], array, atol=2e-6, err_msg=name)
    # Defect 18: the means of an epoch are those of all processes.
    means = [
        re.search(r"\[Train\]\[Epoch 1/9\]\[Avg\]top1: (\S+), top5: (\S+), CELoss: (\S+),", path.read_text()).groups()
        for path in (single / "train.log", double / "train.log")
    ]
    np.testing.assert_allclose(*[np.array(figures, dtype=float) for figures in means], atol=2e-5)


def launch_nodes(runs, script: str, *overrides: str, nodes: int) -> list:
    """Run a script of ``tools/`` under one launcher a node, as if each were a machine; return what each printed.

    Unlike on one node, Paddle's launcher takes no ``--backend``: it chooses gloo by itself where there is no GPU.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        master = f"127.0.0.1:{probe.getsockname()[1]}"
    config, launchers = runs.write(), []
    for node in range(nodes):
        command = [sys.executable, "-m", "paddle.distributed.launch", "--nnodes", str(nodes), "--master", master]
        command += ["--rank", str(node), "--nproc_per_node", "1", "--log_dir", str(runs.folder / f"node_{node}")]
        command += [str(ROOT / "tools" / script), "-c", str(config)]
        command += [part for override in overrides for part in ("-o", override)]
        launchers.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=runs.folder)
        )
    try:
        printed = [launcher.communicate(timeout=180)[0] for launcher in launchers]
    finally:
        for launcher in launchers:
            launcher.terminate()
    workers = [path.read_text() for node in range(nodes) for path in (runs.folder / f"node_{node}").glob("workerlog.*")]
    assert [launcher.returncode for launcher in launchers] == [0] * nodes, "\n".join([*printed, *workers])[-6000:]
    return workers


@pytest.mark.compat
@pytest.mark.slow
def test_two_nodes_equal_one_process_with_the_doubled_batch(runs):
    """Two launchers that meet at an address: the same weights, one log, one set of files, and the same evaluation."""
    single, summary = runs.train("Global.save_interval=0")
    expected = state_arrays(single.model)
    output_dir = runs.folder / "nodes"
    half = ("DataLoader.Train.sampler.batch_size=16", "Global.save_interval=0", f"Global.output_dir={output_dir}")
    first, second = launch_nodes(runs, "train.py", *half, nodes=2)
    parts = load_checkpoint(output_dir / "latest").parts
    assert parts["pdstates"]["step"] == 6
    for name, array in expected.items():
        np.testing.assert_allclose(parts["pdparams"][name], array, atol=2e-6, err_msg=name)
    assert parts["pdstates"]["metric"] == pytest.approx(summary["best_metric"], abs=1e-9)
    log = (output_dir / "train.log").read_text()
    assert "2 processes on 2 nodes; process 0, on " in log and "Already save model" in first
    assert len(re.findall(r"\[Train\]\[Epoch 2/2\]\[Avg\]", log)) == 1
    assert "Already save model" not in second and "[Train]" not in second


def test_copies_of_different_age_are_refused(runs, monkeypatch):
    """On nodes without a common disk, one may resume from an older checkpoint than the other."""
    runs.train("Global.epochs=1")
    monkeypatch.setattr(Session, "gather", lambda self, value: np.array([value, max(value - 1, 0)]))
    expected = r"not the same for all processes.*process 0: \[1, 0, 3\]; process 1: \[0, 0, 2\]"
    with pytest.raises(CheckpointError, match=expected):
        runs.trainer(f"Global.checkpoints={runs.output_dir / 'latest'}")


@pytest.mark.compat
@pytest.mark.slow
def test_evaluation_counts_every_sample_once(runs):
    """Defect 25: evaluation runs on two CPU processes; 43 samples, batches of 16 a process, none twice.

    Tables and saved predictions are those of one process, in the order of the list.
    """
    _, summary = runs.train()
    weights = f"Global.pretrained_model={runs.output_dir / 'latest'}"
    expected = summary["history"][-1]
    runs.config["Metric"]["Eval"] += [{"F1": {"average": "weighted"}}, {"PerClass": {}}, {"ConfusionMatrix": {}}]
    tables, saved = [], []
    for processes in (1, 2):
        path = runs.folder / f"{processes}.npz"
        options = ("--save_predictions", path, "-o", f"Global.output_dir={runs.folder / str(processes)}")
        printed = launch(runs, "eval.py", weights, processes=processes, options=options)
        assert "[Eval] 43 samples" in printed
        figures = re.findall(
            r"\[Avg\]CELoss: (\S+), loss: \S+, top1: (\S+), top5: (\S+), f1_weighted: (\S+),", printed
        )[-1]
        saved.append(read_predictions(path))
        wanted = [expected[f"eval_{name}"] for name in ("CELoss", "top1", "top5")]
        wanted.append(f1_score(saved[0].labels, saved[0].ranked(1)[:, 0], average="weighted", zero_division=0))
        np.testing.assert_allclose(np.array(figures, dtype=float), wanted, atol=1.5e-5)
        tables.append([(runs.folder / str(processes) / f"{name}.csv").read_text() for name in TABLES])
    assert tables[0] == tables[1] and len(tables[0][0].splitlines()) == 11
    one, two = saved
    assert one.files == two.files and len(one) == 43 and one.labels.tolist() == two.labels.tolist()
    np.testing.assert_allclose(two.scores, one.scores, atol=1e-5)


@pytest.mark.slow
def test_sigterm_stops_both_processes_at_one_step(runs):
    """A signal to one process stops all at the same step, with a checkpoint to go on from."""
    runs.config["Global"].update(epochs=200, eval_during_train=False, save_interval=0)
    log_dir = runs.folder / "log"
    command = launch_command("train.py", runs.write(), processes=2, log_dir=log_dir)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=runs.folder) as launcher:
        log = runs.output_dir / "train.log"
        deadline = time.monotonic() + 120
        while not (log.exists() and "[Epoch 2/200]" in log.read_text()):
            assert time.monotonic() < deadline and launcher.poll() is None
            time.sleep(0.2)
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGTERM)
        launcher.wait(timeout=60)
    assert "stopped by a signal" in log.read_text()
    states = load_checkpoint(runs.output_dir / "latest").parts["pdstates"]
    assert states["step"] == 2 * states["epoch"] + states["iteration"]  # 96 images, 2 × 32 a step
