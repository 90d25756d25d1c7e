"""Learning curves of runs."""

import csv
import json

import pytest

from ppcls_ext import cli
from ppcls_ext.analysis.curves.series import Curve, CurvesError, choose_figures, read_run
from ppcls_ext.engine.train.metrics_log import FILE_NAME, MetricsError


def write_run(folder, epochs=2, steps=2):
    """Losses that say where they are from: 100 epoch + 10 iteration, evaluation 1 below."""
    folder.mkdir(parents=True)
    rows = []
    for epoch in range(1, epochs + 1):
        for iteration in range(steps):
            place = {"epoch": epoch, "iteration": iteration, "step": (epoch - 1) * steps + iteration + 1}
            train = {"top1": 0.1 * epoch, "CELoss": 1.0, "loss": 100.0 * epoch + 10 * iteration}
            rows.append({"kind": "step", **place, "lr": 0.5 / epoch, "train": train, "images_per_second": 9.0})
        figures = {"top1": 0.1 * epoch, "loss": 100.0 * epoch - 1}
        ends = {"kind": "epoch", "epoch": epoch, "step": epoch * steps, "lr": 0.5 / epoch, "train": train}
        rows.append({**ends, **({"eval": figures} if epoch == epochs else {})})
    (folder / FILE_NAME).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def points(run, section, name):
    curve = run.find(section, name)
    return list(zip(curve.places, curve.values))


def test_by_epoch_and_by_step(tmp_path):
    folder = write_run(tmp_path / "run")
    by_epoch, by_step = read_run(f"mine={folder}"), read_run(str(folder), "step")
    assert (by_epoch.label, by_step.label) == ("mine", "run")
    assert points(by_epoch, "train", "loss") == [(1, 110.0), (2, 210.0)]
    assert points(by_step, "train", "loss") == [(1, 100.0), (2, 110.0), (3, 200.0), (4, 210.0)]
    assert points(by_epoch, "eval", "loss") == [(2, 199.0)] and points(by_step, "eval", "loss") == [(4, 199.0)]
    assert points(by_epoch, "", "lr") == [(1, 0.5), (2, 0.25)] and by_step.find("eval_ema", "loss") is None


def test_figures(tmp_path):
    run = read_run(str(write_run(tmp_path / "run")))
    assert choose_figures([run]) == ["loss", "top1"]
    assert choose_figures([run], ["top1", "CELoss"]) == ["top1", "CELoss"]
    with pytest.raises(CurvesError, match="'top5'; there are top1, CELoss, loss"):
        choose_figures([run], ["top5"])


def test_smoothing_by_hand():
    curve = Curve("train", "loss", [1, 2, 3], [4.0, 8.0, 8.0]).smoothed(0.5)
    # 2, 5, 6.5 over 0.5, 0.75, 0.875
    assert curve.values == pytest.approx([4.0, 5 / 0.75, 6.5 / 0.875])
    assert Curve("", "", [1], [3.0]).smoothed(0.0).values == [3.0]


def test_the_command(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", epochs=50)
    words = ["curves", str(tmp_path / "a"), f"多={tmp_path / 'b'}", "--smoothing", "0.6"]
    assert cli.main([*words, "--output", str(tmp_path / "new" / "c.png")]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "new" / f"c.{suffix}") for suffix in ("png", "csv")]
    assert (tmp_path / "new" / "c.png").read_bytes()[:4] == b"\x89PNG"
    with (tmp_path / "new" / "c.csv").open(encoding="utf-8-sig") as stream:
        rows = [row for row in csv.DictReader(stream) if (row["section"], row["figure"]) == ("eval", "loss")]
    assert [(row["run"], row["epoch"], row["value"]) for row in rows] == [("a", "2", "199.0"), ("多", "50", "4999.0")]


def test_figures_without_a_picture(tmp_path, capsys):
    folder = write_run(tmp_path / "a")
    assert cli.main(["curves", str(folder), "--format", "json", "--by", "step"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"run": "a", "section": "train", "figure": "loss", "step": 3, "value": 200.0} in rows
    assert cli.main(["curves", str(folder), "--format", "csv"]) == 0
    assert "a,eval,loss,2,199.0" in capsys.readouterr().out.splitlines()


def test_what_has_no_curves(tmp_path, capsys):
    (tmp_path / "train.log").write_text("old")
    with pytest.raises(MetricsError, match="metrics.jsonl cannot be read"):
        read_run(str(tmp_path))
    (tmp_path / FILE_NAME).write_text('{"kind": "step", "epoch": 1, "iteration": 0, "step": 1, "train": {}}\n')
    with pytest.raises(CurvesError, match="not finished an epoch; --by step"):
        read_run(str(tmp_path))
    assert cli.main(["curves", str(tmp_path)]) == 2
    assert cli.main(["curves", str(tmp_path), "--output", "a.jpg"]) == 2
    assert "ends in .png" in capsys.readouterr().err


def test_a_picture_at_the_end_of_training(trained, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    words = ["-o", f"Global.output_dir={tmp_path}", "Global.epochs=1", "Global.plot_curves=True"]
    words += ["Global.pretrained_model=null"]
    assert cli.main(["train", "-c", str(trained.write()), *words]) == 0
    assert (tmp_path / "curves.png").is_file() and str(tmp_path / "curves.png") in capsys.readouterr().out
