"""Prediction of labelled lists: accuracies as evaluation counts them, and lists that processes share."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from ppcls_ext.cli import main
from ppcls_ext.config import load_config
from ppcls_ext.engine.deploy.shares import LostProcessError, Share
from ppcls_ext.engine.evaluator import evaluate

ROOT = Path(__file__).parents[3]


def predict(exported, *arguments) -> int:
    return main(["predict", "--model_dir", str(exported.folder), *map(str, arguments)])


# ---- accuracy --------------------------------------------------------------------------------------------------------


@pytest.mark.compat
def test_the_accuracy_is_that_of_evaluation(exported, tmp_path, capsys):
    """Also with fewer classes a result than the top-5 needs; the results keep the number that was asked for."""
    figures, lines = tmp_path / "accuracy.json", tmp_path / "out.jsonl"
    images = exported.digits / "val_list.txt"
    arguments = ["--infer_imgs", images, "--batch_size", 50, "--topk", 2, "--metrics", figures, "--output", lines]
    assert predict(exported, *arguments) == 0
    evaluated = evaluate(load_config(exported.config, mode="eval"))
    assert json.loads(figures.read_text()) == {
        "samples": 360,
        "unread": 0,
        "top1": pytest.approx(evaluated["top1"], abs=1e-12),
        "top5": pytest.approx(evaluated["top5"], abs=1e-12),
    }
    assert f"top1 {evaluated['top1']:.5f}  top5 {evaluated['top5']:.5f}  (360 images)" in capsys.readouterr().err
    results = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(results) == 360 and all(len(result["class_ids"]) == 2 for result in results)


def test_images_that_cannot_be_read_are_counted_apart(exported, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no image")
    known = (exported.digits / "val_list.txt").read_text().splitlines()[:3]
    listed = tmp_path / "list.txt"
    listed.write_text("broken.png 1\n" + "".join(f"{exported.digits}/{line}\n" for line in known))
    assert predict(exported, "--infer_imgs", listed, "--metrics") == 1
    assert "(3 images, 1 not read)" in capsys.readouterr().err
    listed.write_text("broken.png 1\n")
    assert predict(exported, "--infer_imgs", listed, "--metrics") == 1
    assert "no accuracy: 0 images, 1 not read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png\n", 'list.txt:1: expected "<path> <int>", got "a.png"'),
        ("a.png 10\n", "a.png has the class id 10; the model has 10 classes, 0 to 9"),
        ("a.png -1\n", "a.png has the class id -1"),
    ],
)
def test_a_list_without_the_right_labels_is_refused_before_anything_runs(exported, tmp_path, capsys, text, message):
    listed = tmp_path / "list.txt"
    listed.write_text(text)
    assert predict(exported, "--infer_imgs", listed, "--metrics", "--output", tmp_path / "out.json") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.json.part").exists()


def test_an_accuracy_needs_a_list(exported, capsys):
    assert predict(exported, "--infer_imgs", exported.digits / "images", "--metrics") == 2
    assert "an accuracy needs a list" in capsys.readouterr().err


# ---- several processes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 6, 20])
def test_shares_are_runs_of_nearly_equal_length(size, count):
    shares = [Share(rank, size).of(range(count)) for rank in range(size)]
    assert [item for share in shares for item in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_results_are_merged_in_order_whoever_ends_first(tmp_path):
    folder = Share(0, 3, "run").folder(tmp_path / "out.json")
    for rank in (2, 1):
        assert Share(rank, 3, "run").leave([{"n": 10 * rank}, {"n": 10 * rank + 1}], folder) == 2
    merged = Share(0, 3, "run").merge([{"n": 0}], folder)
    assert [result["n"] for result in merged] == [0, 10, 11, 20, 21]
    assert list(tmp_path.iterdir()) == []


def test_what_never_comes_is_not_waited_for(tmp_path, monkeypatch):
    parents = iter([7, 7, 1])
    monkeypatch.setattr("ppcls_ext.engine.deploy.shares.os.getppid", lambda: next(parents))
    with pytest.raises(LostProcessError, match="process 1 will not come"):
        list(Share(0, 2, "run").merge([], tmp_path))


def test_processes_of_other_launches_do_not_meet(monkeypatch, tmp_path):
    folders = []
    for addresses in ("127.0.0.1:4000,127.0.0.1:4001", "127.0.0.1:5000,127.0.0.1:5001"):
        for rank in ("0", "1"):
            monkeypatch.setenv("PADDLE_TRAINER_ENDPOINTS", addresses)
            monkeypatch.setenv("PADDLE_TRAINER_ID", rank)
            monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
            share = Share.from_environment()
            assert (share.rank, share.size) == (int(rank), 2)
            folders.append(share.folder(tmp_path / "out.json"))
    assert folders[0] == folders[1] != folders[2] == folders[3]


@pytest.mark.compat
def test_three_processes_give_what_one_gives(exported, tmp_path, capfd):
    images = exported.digits / "val_small.txt"
    one, three = tmp_path / "one.json", tmp_path / "three.json"
    assert predict(exported, "--infer_imgs", images, "--batch_size", 8, "--output", one) == 0
    command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "3", "--backend", "gloo"]
    command += ["--log_dir", str(tmp_path / "log"), str(ROOT / "tools" / "predict.py"), "--model_dir"]
    command += [
        str(exported.folder),
        "--infer_imgs",
        str(images),
        "--batch_size",
        "8",
        "--metrics",
        "--output",
        str(three),
    ]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(three.read_text()) == json.loads(one.read_text())
    assert "(43 images)" in done.stdout + done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "one.json", "three.json"]


def test_several_machines_need_a_file_that_they_share(exported, monkeypatch, capsys):
    monkeypatch.setattr(Share, "from_environment", lambda: types.SimpleNamespace(nodes=2, is_first=True))
    assert predict(exported, "--infer_imgs", exported.digits / "val_small.txt") == 2
    assert "on several machines --output is needed" in capsys.readouterr().err
