"""One run at a time in a folder; none overwrites what another has left; --resume."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ppcls_ext import cli
from ppcls_ext.config.loading import load_config
from ppcls_ext.engine.train.checkpoint import load_checkpoint
from ppcls_ext.engine.train.output_dir import OutputDirError, OutputLock
from ppcls_ext.engine.train.trainer import train

ROOT = Path(__file__).resolve().parents[3]

#: A run that holds the folder while a worker process of its own lives; both print when they are ready.
HOLDER = """
import os, sys, time
from pathlib import Path
from ppcls_ext.engine.train.output_dir import OutputLock
lock = OutputLock(Path(sys.argv[1]))
lock.acquire()
worker = os.fork()
if worker:
    print(worker, flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that has locked ``tmp_path``, and the id of its worker."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "output")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    worker = int(process.stdout.readline())
    yield process
    process.kill()
    os.kill(worker, signal.SIGKILL)
    process.wait()


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "train.lock"}


@pytest.mark.compat
def test_a_second_run_is_refused_until_the_first_is_gone(runs, holder):
    """The refusal names the process and writes nothing; a SIGKILL frees the folder, though a worker lives on."""
    runs.config["Global"].update(epochs=1, eval_during_train=False)
    (runs.output_dir / "config.yaml.77.tmp").write_text("half")
    before = content(runs.output_dir)
    with pytest.raises(OutputDirError, match=rf"a run is writing to .*output \(process {holder.pid} on \S+, since 20"):
        train(load_config(runs.write()))
    assert content(runs.output_dir) == before
    holder.kill()
    holder.wait()
    train(load_config(runs.write()))
    assert f"(process {holder.pid} on " in runs.log() and "it was killed" in runs.log()
    assert (runs.output_dir / "train.lock").read_text() == ""
    assert not list(runs.output_dir.glob("*.tmp"))


def test_a_lock_that_was_given_back_says_nothing(tmp_path):
    first = OutputLock(tmp_path)
    first.acquire()
    first.release()
    second = OutputLock(tmp_path)
    second.acquire()
    assert second.note == ""
    second.release()


@pytest.fixture
def finished(runs):
    """A finished run of one epoch."""
    runs.config["Global"]["epochs"] = 1
    train(load_config(runs.write()))
    return runs


@pytest.mark.compat
def test_a_finished_run_is_not_overwritten(finished):
    """Trial 16: refused with the ways out, before anything is written; each of them works."""
    before = content(finished.output_dir)
    with pytest.raises(
        OutputDirError,
        match=r"holds a finished run of Sequencer2D_S \(1 of 1 epochs, best metric 0\.\d+ at epoch 1\), which this run "
        r"would overwrite.*--resume.*Global\.output_dir=.*Global\.overwrite=True",
    ):
        train(load_config(finished.write()))
    assert content(finished.output_dir) == before
    elsewhere = finished.folder / "elsewhere"
    train(load_config(finished.write(), [f"Global.output_dir={elsewhere}"]))
    assert content(finished.output_dir) == before and (elsewhere / "latest.pdparams").exists()
    again = train(load_config(finished.write(), [f"Global.checkpoints={finished.output_dir}/", "Global.epochs=2"]))
    assert [epoch["epoch"] for epoch in again["history"]] == [2]
    (finished.output_dir / "epoch_7.pdparams").write_bytes(b"of a run from before")
    train(load_config(finished.write(), ["Global.overwrite=True", "Global.eval_during_train=False"]))
    assert load_checkpoint(finished.output_dir / "latest").parts["pdstates"]["epoch"] == 1
    names = set(content(finished.output_dir))
    assert not any(name.startswith(("epoch_7.", "best_model.", "latest.previous.", "epoch_2.")) for name in names)


def test_an_interrupted_run_is_not_overwritten_either(runs):
    runs.config["Global"]["save_interval_steps"] = 1
    runs.train_until(1, 2)
    with pytest.raises(OutputDirError, match=r"an interrupted run of Sequencer2D_S \(0 of 2 epochs\)"):
        train(load_config(runs.write()))


def test_a_run_that_was_killed_in_its_first_save_is_started_again(runs):
    """What it has staged is no checkpoint: there is nothing to lose, and nothing to resume."""
    runs.config["Global"].update(epochs=1, eval_during_train=False)
    runs.output_dir.mkdir()
    (runs.output_dir / "latest.staged.pdparams").write_bytes(b"half")
    train(load_config(runs.write()))
    assert load_checkpoint(runs.output_dir).parts["pdstates"]["epoch"] == 1
    assert not list(runs.output_dir.glob("*.staged.*"))


def test_the_checkpoint_of_another_folder_does_not_open_this_one(finished):
    """A run that goes on from elsewhere would replace what is here."""
    elsewhere = finished.folder / "elsewhere"
    os.rename(finished.output_dir, elsewhere)
    train(load_config(finished.write()))
    with pytest.raises(OutputDirError, match="finished run"):
        train(load_config(finished.write(), [f"Global.checkpoints={elsewhere}", "Global.epochs=2"]))


def test_resume_as_an_option(finished, capsys):
    """``--resume`` goes on from latest; where there is none, or beside Global.checkpoints, it is refused."""
    finished.config["Global"]["epochs"] = 2
    command = ["train", "-c", str(finished.write()), "--resume"]
    assert cli.main(command) == 0
    assert load_checkpoint(finished.output_dir / "latest").parts["pdstates"]["epoch"] == 2
    assert cli.main([*command, "-o", f"Global.checkpoints={finished.output_dir}"]) == 2
    assert "leave one out" in capsys.readouterr().err
    assert cli.main([*command, "-o", f"Global.output_dir={finished.folder / 'new'}"]) == 2
    assert "holds no checkpoint named latest" in capsys.readouterr().err
    assert not (finished.folder / "new").exists()


@pytest.mark.slow
def test_two_runs_at_once_end_with_one_and_the_right_files(runs):
    """Started together, one trains to its end and the other is refused; the files are those of a run alone."""
    # One thread: how many there are decides the order of sums, and a busy machine may give fewer.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FLAGS_paddle_num_threads": "1"}

    def start(*overrides) -> subprocess.Popen:
        command = [sys.executable, str(ROOT / "tools" / "train.py"), "-c", str(runs.write())]
        command += ["-o", *overrides] if overrides else []
        return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    started = [start(), start()]
    printed = [process.communicate()[1] for process in started]
    codes = sorted(process.returncode for process in started)
    assert codes == [0, 1], printed
    assert sum("Global.output_dir: " in text for text in printed) == 1, printed
    alone = start(f"Global.output_dir={runs.folder / 'alone'}")
    assert alone.communicate() and alone.returncode == 0
    found, expected = (load_checkpoint(folder / "latest").parts for folder in (runs.output_dir, runs.folder / "alone"))
    assert found["pdstates"]["epoch"] == 2 and found["pdstates"]["metric"] == expected["pdstates"]["metric"]
    assert all(np.array_equal(found["pdparams"][name], array) for name, array in expected["pdparams"].items())
