"""metrics.jsonl: every logged step and epoch once, whatever interrupts a run."""

import json
import os
import shutil
import sys

import pytest

from ppcls_ext.engine.train.metrics_log import FILE_NAME, MetricsError, MetricsLog, read_metrics

TIMES = ("time", "images_per_second")


def lines(folder) -> list:
    """The rows without what depends on the clock."""
    return [{key: value for key, value in row.items() if key not in TIMES} for row in read_metrics(folder)]


@pytest.fixture(scope="module")
def unbroken(new_runs, tmp_path_factory):
    """A run of two epochs with an average, gradient norms and a save after each step."""
    runs = new_runs(tmp_path_factory.mktemp("unbroken"))
    configure(runs)
    trainer, summary = runs.train()
    return runs, summary


def configure(runs):
    runs.config["EMA"] = {"decay": 0.9}
    runs.config["Global"].update(log_grad_norm=True, save_interval_steps=1)


@pytest.mark.compat
def test_what_a_line_holds(unbroken):
    runs, summary = unbroken
    rows = read_metrics(runs.output_dir)
    places = [(row["kind"], row["epoch"], row.get("iteration"), row["step"]) for row in rows]
    assert places == [
        *[("step", 1, i, i + 1) for i in range(3)],
        ("epoch", 1, None, 3),
        *[("step", 2, i, i + 4) for i in range(3)],
        ("epoch", 2, None, 6),
    ]
    last, before = rows[-1], rows[-2]
    # Means since the beginning of the epoch: those of its last step are the epoch's.
    assert last["train"] == before["train"] and set(last["train"]) == {"top1", "top5", "CELoss", "loss"}
    history = summary["history"][-1]
    assert last["eval"] == {key[5:]: history[key] for key in history if key.startswith("eval_") and "ema" not in key}
    assert last["eval_ema"]["top1"] == history["eval_ema_top1"] and last["lr"] == before["lr"] > 0
    assert before["grad_norm"] > 0 and last["images_per_second"] > 0 and last["time"] > 1.7e9


@pytest.mark.parametrize("place", [(1, 2), (2, 0), (2, 1)], ids=str)
def test_a_resumed_run_has_the_lines_of_an_unbroken_one(runs, unbroken, place):
    configure(runs)
    runs.train_until(*place)
    with open(runs.output_dir / FILE_NAME, "a") as file:
        file.write('{"kind": "step", "epoch": 1, "iteration": 9')  # torn by the kill
    runs.train(f"Global.checkpoints={runs.output_dir}")
    assert lines(runs.output_dir) == lines(unbroken[0].output_dir)


def test_going_back_drops_what_came_after(runs, unbroken, tmp_path):
    shutil.copytree(unbroken[0].output_dir, tmp_path / "old")
    configure(runs)
    runs.train(f"Global.checkpoints={tmp_path / 'old' / 'epoch_1'}")  # into a folder of its own
    assert lines(runs.output_dir) == lines(unbroken[0].output_dir) == lines(tmp_path / "old")


def test_a_new_run_begins_anew(runs):
    runs.train("Global.epochs=1")
    first = lines(runs.output_dir)
    runs.train("Global.epochs=1", "Global.overwrite=True")
    assert lines(runs.output_dir) == first


def test_lines_are_whole(tmp_path, caplog):
    log = MetricsLog(tmp_path)
    log.begin(None, 0, 0)
    log.write({"kind": "epoch", "epoch": 1, "train": {"loss": float("nan")}})
    assert json.loads((tmp_path / FILE_NAME).read_text())["train"] == {"loss": None}
    log.close()
    log.begin(tmp_path / "before", 3, 0)
    assert "cannot be read" in caplog.text and read_metrics(tmp_path) == []


@pytest.mark.parametrize(
    "line", ["nothing", '{"kind": "hour"}', '{"kind": "step", "epoch": 1, "train": {}}', "[" * 9999], ids=range(4)
)
def test_damage_is_named(tmp_path, line):
    (tmp_path / FILE_NAME).write_text(f'{{"kind": "epoch", "epoch": 1, "train": {{}}}}\n{line}\n')
    with pytest.raises(MetricsError, match=rf"{FILE_NAME}:2: no figures"):
        read_metrics(tmp_path)


def test_no_file(tmp_path):
    with pytest.raises(MetricsError, match="metrics.jsonl cannot be read"):
        read_metrics(tmp_path)


def test_a_full_disk_does_not_stop_the_run(tmp_path, caplog):
    log = MetricsLog(tmp_path)
    log.begin(None, 0, 0)
    log._file = os.open("/dev/full", os.O_WRONLY)
    for _ in range(2):
        log.write({"kind": "epoch", "epoch": 1, "train": {}})
    assert caplog.text.count("goes on without it") == 1


def test_tensorboard_gets_the_same_figures(runs, monkeypatch):
    """Read back through the records' own format: length, checksum, content, checksum."""
    monkeypatch.setitem(sys.modules, "torch", None)  # tensorboardX takes the folder tests/golden/torch for PyTorch
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    runs.train("Global.use_tensorboard=True", "Global.epochs=1")
    (path,) = runs.output_dir.glob("events.out.tfevents.*")
    content, found, at = path.read_bytes(), {}, 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 8], "little")
        event = Event.FromString(content[at + 12 : at + 12 + length])
        found.update({(value.tag, event.step): value.simple_value for value in event.summary.value})
        at += 16 + length
    *steps, epoch = read_metrics(runs.output_dir)
    for row in steps:
        assert found["step/train/loss", row["step"]] == pytest.approx(row["train"]["loss"], rel=1e-6)
        assert found["step/lr", row["step"]] == pytest.approx(row["lr"], rel=1e-6)
    assert found["epoch/eval/top1", 1] == pytest.approx(epoch["eval"]["top1"], rel=1e-6)
    assert found["epoch/train/top1", 1] == pytest.approx(epoch["train"]["top1"], rel=1e-6)
