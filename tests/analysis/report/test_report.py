"""The report of one model and of two: every file that it promises, and what a page shows in a browser."""

import csv
import json
import logging
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_predictions import NAMES, SAMPLES, make_scores, write_predictions

from ppcls_ext import cli
from ppcls_ext.analysis import fonts
from ppcls_ext.analysis.drawing import short
from ppcls_ext.analysis.report.comparison import aligned
from ppcls_ext.analysis.report.errors import ReportError
from ppcls_ext.analysis.report.options import ReportOptions
from ppcls_ext.analysis.report.paired import report_pair
from ppcls_ext.analysis.report.single import report
from ppcls_ext.engine.predictions import read_predictions
from ppcls_ext.metrics.corruption import ALEXNET_ERRORS, SEVERITIES

pytest.importorskip("matplotlib", reason="matplotlib, the extra `plot`, is not installed")
ROOT = Path(__file__).parents[3]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def table(path) -> list:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


class Links(HTMLParser):
    """What a page would fetch."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href")]


@pytest.fixture(scope="module")
def reported(images, tmp_path_factory):
    """A report's folder, what it returned, and the file that it is of."""
    folder = tmp_path_factory.mktemp("reported")
    labels, scores = make_scores(0)
    path = write_predictions(folder / "one.npz", images[1], labels, scores, NAMES, model="ResNet<50>")
    options = ReportOptions(folder / "report", image_root=images[0], images=9)
    return options.output, report(path, options), path


def test_a_report_has_every_file_and_they_agree(reported):
    output, summary, _ = reported
    pictures = {"confusion_matrix.png", "calibration.png", "worst.png", "least_certain.png"}
    tables = {"per_class", "confusion_matrix", "confusions", "calibration", "worst", "least_certain", "images"}
    expected = {"index.html", "report.json", *pictures, *(f"{name}.csv" for name in tables)}
    assert {path.name for path in output.iterdir()} == expected
    for name in pictures:
        with Image.open(output / name) as picture:
            assert min(picture.size) > 200
    assert json.loads((output / "report.json").read_text(encoding="utf-8")) == json.loads(json.dumps(summary))
    rows = table(output / "images.csv")
    right = np.mean([row["right"] == "1" for row in rows])
    assert len(rows) == SAMPLES and right == pytest.approx(summary["top1"])
    matrix = np.array([[int(row[name]) for name in NAMES] for row in table(output / "confusion_matrix.csv")])
    assert matrix.trace() / matrix.sum() == pytest.approx(summary["top1"])
    assert sum(int(row["images"]) for row in table(output / "confusions.csv")) == SAMPLES - matrix.trace()
    assert sum(int(row["images"]) for row in table(output / "calibration.csv")) == SAMPLES


def test_the_worst_images_are_those_with_the_least_probability_of_their_label(reported):
    output, _, path = reported
    predictions = read_predictions(path)
    losses = -predictions.log_probabilities()[np.arange(SAMPLES), predictions.labels]
    worst = [predictions.files[row] for row in np.argsort(-losses)[:9]]
    assert [row["file"] for row in table(output / "worst.csv")] == worst
    least = [predictions.files[row] for row in np.argsort(predictions.confidence())[:9]]
    assert [row["file"] for row in table(output / "least_certain.csv")] == least


def test_the_page_stands_by_itself_and_names_are_text(reported):
    output, *_ = reported
    page = (output / "index.html").read_text(encoding="utf-8")
    assert all(link.startswith("data:image/png;base64,") for link in Links(page).found)
    assert "ResNet&lt;50&gt;" in page and "&lt;b&gt;cow&lt;/b&gt;" in page and "猫头鹰" in page
    assert "<b>" not in page and "http" not in page


def test_images_that_cannot_be_read_are_counted_and_named(images, tmp_path):
    """The damaged one, the missing one, and four good ones."""
    labels, scores = make_scores(0)
    path = write_predictions(tmp_path / "six.npz", images[1][:6], labels[:6], scores[:6])
    summary = report(path, ReportOptions(tmp_path / "report", image_root=images[0], images=6))
    assert set(summary["not_shown"]) == {"0.png", "1.png"}
    assert "cannot identify image file" in summary["not_shown"]["0.png"]
    assert summary["not_shown"]["1.png"] == "there is no such file"
    assert "2 images could not be shown" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_page_in_a_browser(reported, tmp_path):
    """Its script runs, its pictures load, its table sorts, and a name stays text."""
    output, summary, _ = reported
    page = (output / "index.html").read_text(encoding="utf-8")
    probe = """<script>
    document.querySelectorAll("th.sortable")[4].click();
    document.body.dataset.first = document.querySelectorAll("tbody")[1].rows[0].cells[1].textContent;
    window.addEventListener("load", function () {
      document.body.dataset.loaded = Array.from(document.images).filter(function (i) { return i.naturalWidth; }).length;
    });
    </script></body>"""
    copy = tmp_path / "probe.html"
    copy.write_text(page.replace("</body>", probe), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command = [CHROMIUM, *flags, f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run([*command, "--dump-dom", copy.as_uri()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 'data-ready="1"' in done.stdout
    assert f'data-loaded="{page.count("<img")}"' in done.stdout
    by_precision = sorted(summary["per_class"], key=lambda row: round(row["precision"], 4))
    first = {row["name"] for row in by_precision if row["precision"] == by_precision[0]["precision"]}
    shown = done.stdout.split('data-first="')[1].split('"')[0]
    assert shown.replace("&lt;", "<").replace("&gt;", ">") in first
    assert '<td class="">&lt;b&gt;cow&lt;/b&gt;</td>' in done.stdout


# ---- two models ---------------------------------------------------------------------------------------------------


def test_two_models_are_compared_image_by_image(one, other, images, tmp_path):
    output = tmp_path / "comparison"
    summary = report_pair(one, other, ReportOptions(output, image_root=images[0]))
    labels, first = make_scores(0)
    _, second = make_scores(5)
    first, second = first.argmax(axis=1), second.argmax(axis=1)
    changed = first != second
    assert summary["agreement"] == pytest.approx(1 - changed.mean())
    assert summary["accuracy"] == (pytest.approx((first == labels).mean()), pytest.approx((second == labels).mean()))
    assert summary["changed"]["broken"] == ((first == labels) & (second != labels)).sum()
    assert summary["changed"]["mended"] == ((first != labels) & (second == labels)).sum()
    rows = table(output / "changed.csv")
    assert {row["file"] for row in rows} == {images[1][row] for row in np.flatnonzero(changed)}
    assert all(row["first"] != row["second"] for row in rows)
    assert {path.name for path in output.iterdir()} == {"index.html", "comparison.json", "changed.csv", "changed.png"}


def test_a_model_equals_itself(one, tmp_path):
    summary = report_pair(one, one, ReportOptions(tmp_path / "same"))
    assert summary["agreement"] == 1 and summary["mcnemar"]["p_value"] == 1 and summary["changed"] == {}


def test_the_images_may_lie_elsewhere(tmp_path):
    labels, scores = make_scores(0)
    names = [f"{number // 10}/{number}.png" for number in range(SAMPLES)]
    here = write_predictions(tmp_path / "a.npz", [f"./data/val/{name}" for name in names], labels, scores)
    there = write_predictions(
        tmp_path / "b.npz", [f"/mnt/x/val/{name}" for name in names[::-1]], labels[::-1], scores[::-1]
    )
    first, second = aligned(read_predictions(here), read_predictions(there), (here, there))
    np.testing.assert_array_equal(first.scores, second.scores)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"files": [f"{number}.png" for number in range(1, SAMPLES + 1)]}, "39 in both; 0.png is in .*a.npz alone"),
        ({"labels": np.zeros(SAMPLES, int)}, "1.png has the label 1 in .*a.npz and 0 in .*b.npz"),
        ({"scores": np.ones((SAMPLES, 7), np.float32), "names": None}, "a.npz has 6 classes, .*b.npz has 7"),
        ({"names": [*NAMES[:5], "eagle"]}, "class 5 is 'owl' in .*a.npz and 'eagle' in"),
    ],
    ids=["images", "labels", "classes", "names"],
)
def test_files_that_cannot_be_compared(tmp_path, images, change, message):
    labels, scores = make_scores(0)
    content = {"files": images[1], "labels": labels, "scores": scores, "names": NAMES}
    write_predictions(tmp_path / "a.npz", **content)
    write_predictions(tmp_path / "b.npz", **{**content, **change})
    with pytest.raises(ReportError, match=message):
        report_pair(tmp_path / "a.npz", tmp_path / "b.npz", ReportOptions(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_without_labels_two_models_are_compared_with_each_other_alone(tmp_path, images):
    _, scores = make_scores(0)
    _, others = make_scores(5)
    unknown = np.full(SAMPLES, -1)
    first = write_predictions(tmp_path / "a.csv", images[1], unknown, scores)
    second = write_predictions(tmp_path / "b.npz", images[1], unknown, others, NAMES)
    summary = report_pair(first, second, ReportOptions(tmp_path / "out", image_root=images[0]))
    assert "mcnemar" not in summary and set(summary["changed"]) == {"changed"}


# ---- the command --------------------------------------------------------------------------------------------------


def run(capsys, *arguments) -> tuple:
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    return (code, *capsys.readouterr())


def test_the_command(capsys, one, other, images, tmp_path):
    common = ["--output", tmp_path / "out", "--image-root", images[0], "--images", 6, "--format", "json"]
    code, out, err = run(capsys, "report", one, *common)
    assert code == 0 and json.loads(out)["samples"] == SAMPLES and (tmp_path / "out" / "index.html").is_file()
    code, out, err = run(capsys, "report", one, other, *common)
    assert code == 0 and json.loads(out)["samples"] == SAMPLES


def test_mce_of_one_file(capsys, tmp_path):
    """Images named as ImageNet-C's are; severity 5 alone is always wrong."""
    files, labels = [], []
    for name in ALEXNET_ERRORS:
        for severity in SEVERITIES:
            files += [f"noise/{name}/{severity}/n0144{number}/x.JPEG" for number in range(2)]
            labels += [0, 1] if severity < 5 else [1, 0]
    scores = np.eye(2, dtype=np.float32)[np.arange(len(files)) % 2]
    path = write_predictions(tmp_path / "c.npz", files, np.array(labels), scores)
    code, out, _ = run(capsys, "report", path, "--output", tmp_path / "out", "--imagenet_c", "--format", "json")
    found = json.loads(out)["imagenet_c"]
    assert code == 0 and found["errors"] == dict.fromkeys(ALEXNET_ERRORS, pytest.approx(0.2))
    assert found["mce"] == pytest.approx(np.mean([0.2 / error for error in ALEXNET_ERRORS.values()]))
    plain = write_predictions(tmp_path / "d.npz", ["a.jpg", "b.jpg"], np.array([0, 1]), scores[:2])
    code, _, err = run(capsys, "report", plain, "--output", tmp_path / "out", "--imagenet_c")
    assert code == 1 and "a.jpg is not <corruption>/<severity>/<class>/<image>" in err


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["{one}", "{one}", "{one}"], 2, "expected one or two files of predictions, got 3"),
        (["{folder}/none.npz"], 1, "none.npz"),
        (["{folder}/a.txt"], 1, "expected a file that ends in .parquet, .npz, .csv"),
        (["{one}", "--image_root", "{folder}/none"], 1, "the folder of the images is not there"),
        (["{one}", "--labels", "real"], 1, "no real.json there"),
        (["{one}", "--labels", "{folder}/real.json"], 1, "ILSVRC2012_val_00000001.JPEG"),
        (["{one}", "--classes", "{folder}/classes.txt"], 1, "'goose' is none of the 6 classes"),
        (["{one}", "--class_names", "{folder}/classes.txt"], 1, "names 2 classes; "),
        (["{one}", "--image"], 2, "--image"),
    ],
)
def test_bad_input_has_a_name(capsys, one, tmp_path, arguments, code, message):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "real.json").write_text("[[0]]")
    (tmp_path / "classes.txt").write_text("cat\ngoose\n")
    words = [word.format(one=one, folder=tmp_path) for word in arguments]
    found, _, err = run(capsys, "report", *words, "--output", tmp_path / "out")
    assert found == code and message in err
    assert not (tmp_path / "out" / "index.html").exists()


@pytest.mark.parametrize("language", ["en", "zh_CN"])
def test_commands_of_the_page_parse(language):
    page = (ROOT / "docs" / language / "report.md").read_text(encoding="utf-8")
    lines = re.findall(r"^ppcls_ext .*$", page, re.MULTILINE)
    commands = [cli.build_parser().parse_args(shlex.split(line)[1:]).command for line in lines]
    assert len(commands) >= 12 and {"eval", "predict", "report"} <= set(commands)


# ---- fonts --------------------------------------------------------------------------------------------------------


def test_characters_without_a_font_are_told_and_replaced(monkeypatch, caplog):
    monkeypatch.setattr(fonts, "_candidates", lambda: ["A font"])
    monkeypatch.setattr(
        fonts, "_characters", lambda family: frozenset("abc") if family == fonts.OWN else frozenset("猫")
    )
    fonts._tell_missing.cache_clear()
    with caplog.at_level(logging.WARNING, "ppcls_ext"):
        found = fonts.choose_fonts(["ab 猫", "狗"])
    assert found.families == [fonts.OWN, "A font"] and found.missing == {"狗"}
    assert found.can_show("a猫") and not found.can_show("a狗")
    assert "Noto Sans CJK" in caplog.text and "fonts-noto-cjk" in caplog.text
    caplog.clear()
    fonts.choose_fonts(["狗"])
    assert caplog.text == ""  # told once


def test_own_font_has_latin_letters_and_no_chinese():
    assert "é" in fonts._characters(fonts.OWN) and "猫" not in fonts._characters(fonts.OWN)


def test_names_are_cut_to_a_width():
    assert short("a" * 20) == "a" * 20 and short("a" * 21) == "a" * 19 + "…"
    assert short("猫" * 10) == "猫" * 10 and short("猫" * 11) == "猫" * 9 + "…"
