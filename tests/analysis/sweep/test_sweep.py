"""Models over image sizes: figures against the plain commands, gaps, tables, picture."""

import csv
import json

import paddle
import pytest
import yaml
from PIL import Image

from ppcls_ext import cli, create_backbone, registry
from ppcls_ext.analysis.benchmark.results import Case, Report, Row, Settings
from ppcls_ext.analysis.benchmark.session import Session
from ppcls_ext.analysis.machine import Machine
from ppcls_ext.analysis.sweep.measuring import Options, SweepError, sweep
from ppcls_ext.analysis.sweep.picture import draw
from ppcls_ext.analysis.sweep.results import Point, Sweep, exponent
from ppcls_ext.analysis.sweep.tables import table, to_csv, to_json, to_markdown
from ppcls_ext.config import load_config
from ppcls_ext.engine.evaluator import evaluate


def run_command(capsys, *words):
    try:
        code = cli.main([str(word) for word in words])
    except SystemExit as stop:  # argparse
        code = stop.code
    return (code, *capsys.readouterr())


# ---- accuracy and cost -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swept(trained, tmp_path_factory):
    """A run at its own size, at one between two sizes of its grid, and at twice its size."""
    words = [str(trained.output_dir), f"again={trained.write()}"]
    options = Options([(32, 32), (16, 16)], tmp_path_factory.mktemp("sweep"), speed=False)
    return sweep(words, options)


@pytest.mark.compat
def test_accuracy_is_that_of_evaluation_with_everything_in_proportion(trained, swept, tmp_path):
    """The configuration at 32 pixels is written by hand and goes through ``ppcls_ext eval``."""
    expected = {}
    for size in (16, 32):
        config = yaml.safe_load(trained.write().read_text())
        config["Global"].update(image_shape=[3, size, size], output_dir=str(tmp_path / str(size)))
        config["Global"]["pretrained_model"] = str(trained.output_dir / "best_model")
        config["DataLoader"]["Eval"]["dataset"]["transform_ops"][1:3] = [
            {"ResizeImage": {"resize_short": size}},
            {"CropImage": {"size": size}},
        ]
        path = tmp_path / f"{size}.yaml"
        path.write_text(yaml.safe_dump(config))
        expected[size] = evaluate(load_config(path, mode="eval"))
    points = swept.lines["output"]
    assert [(point.height, point.native) for point in points] == [(16, True), (32, False)]
    assert {point.height: point.metrics for point in points} == expected
    assert swept.criterion == "top1" and set(swept.samples.values()) == {360}


def test_multiply_adds_are_those_of_the_network(trained, swept):
    """All but the classifier are in proportion to the tokens: LSTMs run along rows and columns."""
    own, double = swept.lines["output"]
    head = 16 * 10
    assert double.macs - head == 4 * (own.macs - head)
    arguments = {key: value for key, value in trained.config["Arch"].items() if key != "name"}
    model = create_backbone(trained.config["Arch"]["name"], **arguments)
    assert own.params == sum(int(parameter.size) for parameter in model.parameters())


def test_the_power_of_a_line():
    """Between the last two sizes that have a figure: 3 x the pixels of a side cost 81 x, then nothing is known."""

    def point(side, macs):
        return Point(label="a", arch="A", height=side, width=side, macs=macs)

    assert exponent([point(8, 7), point(10, 5), point(30, 405), point(40, None)]) == pytest.approx(4)
    assert exponent([point(8, 7), point(16, 28)]) == pytest.approx(2)
    assert exponent([point(8, 7), point(16, None)]) is None


@pytest.mark.compat
def test_published_backbones_sweep_their_cost(tmp_path):
    """At the size of the registry the figure is the registry's; nothing is downloaded."""
    found = sweep(["ResNet18"], Options([(224, 224), (64, 64)], tmp_path, accuracy=False, speed=False))
    small, own = found.points
    assert own.native and own.macs == registry.get_spec("ResNet18").macs and small.macs < own.macs
    assert found.criterion is None and not own.metrics


def test_time_and_memory_of_a_run(trained, capsys, tmp_path):
    """In a process of its own, from the command line to the files."""
    code, out, err = run_command(
        capsys,
        *("sweep", trained.output_dir, "--resolution", "20", "--output", tmp_path, "--format", "json"),
        *("--rounds", "1", "--seconds", "0.01", "--batch_size", "2", "--threads", "1"),
    )
    assert code == 0, err
    found = Sweep.model_validate_json(out[out.index("{\n") :])
    (point,) = found.points
    assert point.error is None and point.speed.case.batch == 2 and 0 < point.metrics["top1"] <= 1
    assert point.images_per_second > 0 and 0 < point.model_bytes < point.peak_bytes
    assert Sweep.model_validate_json((tmp_path / "sweep.json").read_text(encoding="utf-8")) == found
    assert Image.open(tmp_path / "sweep.png").size[0] > 500 and (tmp_path / "sweep.md").is_file()


def test_a_size_that_one_model_does_not_take_is_not_measured(trained, tmp_path, monkeypatch):
    """18 pixels are no multiple of the run's patches: a gap with the reason. The other model takes them."""
    asked = []

    def run(self, jobs):
        asked.extend((job.case.model, job.case.height, job.options["word"]) for job in jobs)
        return Report(machine=Machine(), settings=self.settings, rows=[Row(case=job.case) for job in jobs])

    monkeypatch.setattr(Session, "run", run)
    run_folder = str(trained.output_dir)
    found = sweep([run_folder, "other=ResNet18"], Options([(16, 16), (18, 18)], tmp_path, accuracy=False))
    gap = found.lines["output"][1]
    assert "multiples of 4" in gap.error and gap.speed is None and gap.macs is None
    other = "other=ResNet18"
    assert asked == [("output", 16, run_folder), ("other", 16, other), ("other", 18, other)]


# ---- mistakes --------------------------------------------------------------------------------------------------------


def test_a_size_that_no_model_takes(trained, tmp_path):
    with pytest.raises(SweepError, match="no model takes images of size 18: output: .*multiples of 4"):
        sweep([str(trained.output_dir)], Options([(16, 16), (18, 18)], tmp_path))


@pytest.mark.parametrize(
    "words, message",
    [
        (["ResNet18"], "no data to be evaluated on"),
        (["ResNet18", "ResNet18", "--no_accuracy", "--no_speed"], "two models are called ResNet18"),
        (["RsNet18"], "did you mean"),
        (["ResNet18", "--device", "tpu"], "expected cpu, gpu"),
    ],
)
def test_mistakes_on_the_command_line(capsys, tmp_path, words, message):
    code, _, err = run_command(capsys, "sweep", *words, "--resolution", "32", "--output", tmp_path / "out")
    assert code == 2 and message in err and not (tmp_path / "out").exists()


def test_a_model_that_diverged_is_a_gap(trained, tmp_path):
    """NaN scores give no accuracy, and the reason stands in the table."""
    weights = paddle.load(str(trained.output_dir / "best_model.pdparams"))
    paddle.save({key: 1e30 * value for key, value in weights.items()}, str(tmp_path / "huge.pdparams"))
    path = trained.write()
    options = Options([(16, 16)], tmp_path, [f"Global.pretrained_model={tmp_path / 'huge'}"], speed=False)
    (point,) = sweep([f"diverged={path}"], options).points
    assert not point.metrics and "NaN or infinit" in point.error


# ---- tables and picture ----------------------------------------------------------------------------------------------


def sample() -> Sweep:
    case = Case(model="a", height=16, width=16, batch=4)
    row = Row(case=case, seconds=[[0.1, 0.1]], peak_bytes=300_000_000, loaded_bytes=100_000_000)
    own = Point(label="a", arch="A", height=16, width=16, native=True, macs=10**6, metrics={"top1": 0.5}, speed=row)
    double = Point(label="a", arch="A", height=32, width=32, macs=16 * 10**6, metrics={"top1": 0.25})
    gap = Point(label="b", arch="B", height=16, width=16, error="takes | multiples of 32")
    measured = Report(machine=Machine(cpu="X"), settings=Settings())
    return Sweep(measured=measured, criterion="top1", samples={"a": 360}, points=[own, double, gap])


def test_tables_show_figures_and_reasons():
    head, *rows = table(sample())
    assert head == [
        *("Model", "Size", "top1, %", "Images/s", "p50, ms", "Peak, MB", "Above libraries, MB"),
        *("MMACs", "MACs ~ side^p, p", "Why not"),
    ]
    assert rows[0] == ["a", "16 *", "50.00", "40.0", "100", "300", "200", "1.0", "-", "-"]
    assert rows[1] == ["a", "32", "25.00", "-", "-", "-", "-", "16.0", "4.00", "-"]
    assert rows[2] == ["b", "16", *["-"] * 7, "takes | multiples of 32"]
    assert "takes \\| multiples of 32" in to_markdown(sample()) and "缺失原因" in to_markdown(sample(), "zh_CN")
    assert Sweep.model_validate_json(to_json(sample())) == sample()
    assert json.loads(to_json(sample()))["points"][0]["images_per_second"] == 40
    records = list(csv.DictReader(to_csv(sample()).splitlines()))
    assert [record["top1"] for record in records] == ["0.5", "0.25", ""]


def test_a_gap_is_a_gap_in_the_line(tmp_path, monkeypatch):
    """And the model's own size is marked."""
    from matplotlib.axes import Axes

    drawn = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, *data, **style: drawn.append(data) or plot(self, *data, **style))
    found = sample()
    found.points.insert(1, Point(label="a", arch="A", height=24, width=24, error="no"))
    assert Image.open(draw(found, tmp_path / "sweep.png")).size[0] > 500
    accuracy = drawn[0]
    assert accuracy[0] == [16, 24, 32] and accuracy[1][0] == 50 and accuracy[1][1] != accuracy[1][1]
    assert ((16.0,), (50.0,)) in drawn
    assert draw(Sweep(measured=found.measured, points=found.points[-1:]), tmp_path / "nothing.png") is None
