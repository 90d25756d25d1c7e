"""A newcomer's run: from sixty pictures with Chinese and spaced names to a served model, as docs/*/own_data.md says."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from own_images import CLASSES, write_images

import ppcls_ext
from ppcls_ext import cli
from ppcls_ext.config import load_config
from ppcls_ext.data.preparation.writing import open_dataset
from ppcls_ext.engine.predictions import read_predictions
from ppcls_ext.engine.train.metrics_log import read_metrics
from ppcls_ext.workflow import finetuning
from ppcls_ext.workflow.errors import LateStepError
from ppcls_ext.workflow.finetuning import FinetuneOptions, FinetuneResult

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two commands; small images and few epochs, so that it takes seconds."""
    folder = tmp_path_factory.mktemp("newcomer")
    before = Path.cwd()
    os.chdir(folder)
    try:
        write_images(Path("我的 图片"))
        assert cli.main(["prepare", "我的 图片", "--output", "data set", "--quiet"]) == 0
        finetune = ["finetune", "--data", "data set", "--arch", "ViT_S_32_224", "--from_scratch", "--no_flip"]
        assert (
            cli.main([*finetune, "--epochs", "4", "--output", "训练 一", "--device", "cpu", "-o", "Arch.depths=[2]"])
            == 0
        )
        write_images(Path("new"), count=2, first=20)  # photographs and digits that training has not seen
        yield SimpleNamespace(folder=folder, output=folder / "训练 一")
    finally:
        os.chdir(before)


def new_images() -> list:
    return sorted(str(path) for path in Path("new").glob("*/*"))


@pytest.mark.compat
def test_new_images_get_the_names_of_their_classes(run, capsys):
    command = ["predict", "--model_dir", "训练 一/inference", "--infer_imgs", "new", "--format", "json"]
    assert cli.main(command) == 0
    results = json.loads(capsys.readouterr().out)
    assert [result["file_name"] for result in results] == new_images()
    for result in results:
        assert set(result["label_names"]) == set(CLASSES)
    right = [result["label_names"][0] == Path(result["file_name"]).parent.name for result in results]
    assert all(right), results


def test_python_gives_what_the_command_gives(run):
    assert ppcls_ext.finetune is finetuning.finetune
    output = Path("训练 一")
    dataset = open_dataset(Path("data set"))
    result = FinetuneResult(output / "finetune.yaml", output, dataset, exported=output / "inference")
    (prediction,) = result.predict(new_images()[-1])
    assert prediction["label_names"][0] == CLASSES[2]


@pytest.mark.compat
def test_the_accuracy_is_that_of_the_saved_predictions(run):
    predictions = read_predictions(run.output / "predictions.npz")
    assert predictions.header.class_names == sorted(CLASSES) and len(predictions.files) == 12
    if (run.output / "report").is_dir():  # matplotlib is there
        summary = json.loads((run.output / "report" / "report.json").read_text(encoding="utf-8"))
        assert summary["samples"] == 12 and CLASSES[1] in [row["name"] for row in summary["per_class"]]
        assert (run.output / "report" / "index.html").is_file()


def test_the_file_trains_the_same_by_itself(run):
    assert cli.main(["train", "-c", "训练 一/finetune.yaml", "-o", "Global.output_dir=again"]) == 0
    first, second = (read_metrics(folder) for folder in ("训练 一", "again"))
    assert len(first) == len(second) > 4
    for one, other in zip(first, second):
        # Within one process MKL's sums depend on where tensors lie; other images or an other order would change more.
        assert (one["kind"], one["step"], one["lr"]) == (other["kind"], other["step"], other["lr"])
        assert one["train"]["loss"] == pytest.approx(other["train"]["loss"], rel=1e-4)
        assert ("eval" in one) == ("eval" in other)
        if "eval" in one:
            assert one["eval"]["loss"] == pytest.approx(other["eval"]["loss"], rel=1e-4)


def test_an_earlier_run_is_not_replaced(run, capsys):
    command = ["finetune", "--data", "data set", "--arch", "ResNet18", "--output", "训练 一", "--from_scratch"]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert "--resume" in error and "--overwrite" in error and "another --output" in error


def test_a_failure_after_training_leaves_the_weights_and_says_how_to_go_on(run, monkeypatch):
    """The steps after the one that fails are done."""
    said, exported = [], []
    monkeypatch.setattr(finetuning, "evaluate", lambda cfg, options: {"top1": 0.5})
    monkeypatch.setattr(finetuning, "require_matplotlib", lambda: None)
    monkeypatch.setattr(finetuning, "report", lambda *_: 1 / 0)
    monkeypatch.setattr(finetuning, "export", lambda cfg, formats: exported.append(formats) or run.output / "inference")
    output = Path("训练 一")
    result = FinetuneResult(output / "finetune.yaml", output, open_dataset(Path("data set")), output / "best_model")
    with pytest.raises(LateStepError) as caught:
        finetuning._finish(result, FinetuneOptions(say=said.append))
    message = str(caught.value)
    assert "the trained weights are 训练 一/best_model" in message and "ZeroDivisionError" in message
    assert "to go on: ppcls_ext report '训练 一/predictions.npz' --output '训练 一/report'" in message
    assert exported and result.exported == run.output / "inference" and result.top1 == 0.5
    assert "to go on" not in message.replace("to go on: ppcls_ext report", "")


def test_the_model_is_served(run):
    for package in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
        pytest.importorskip(package, reason="the extra serve is not installed")
    httpx = pytest.importorskip("httpx", reason="the client of the tests is not installed")
    command = [sys.executable, "-m", "ppcls_ext", "serve", "--model_dir", "训练 一/inference", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        url = re.match(r"http://[\d.]+:\d+", server.stdout.readline())[0]
        path = next(path for path in new_images() if CLASSES[1] in path)
        for _ in range(600):
            try:
                assert httpx.get(f"{url}/health", trust_env=False).status_code == 200
                break
            except (httpx.TransportError, AssertionError):  # not yet
                assert server.poll() is None, server.stdout.read()
                time.sleep(0.1)
        with open(path, "rb") as stream:
            answer = httpx.post(f"{url}/predict", files={"images": ("图 片.png", stream)}, timeout=60, trust_env=False)
        assert answer.status_code == 200, answer.text
        (result,) = answer.json()["results"]
        assert set(result["label_names"]) == set(CLASSES) and result["label_names"][0] == CLASSES[1]
    finally:
        server.terminate()
        server.wait(timeout=60)
        server.stdout.close()


def test_the_configuration_is_complete(run):
    cfg = load_config("训练 一/finetune.yaml", mode="train")
    assert cfg.Arch.name == "ppcls_ext.ViT_S_32_224" and cfg.Arch.class_num == 3 and cfg.warnings == []
    text = (run.output / "finetune.yaml").read_text(encoding="utf-8")
    assert "random weights, as asked for with --from_scratch" in text and "RandFlipImage" not in text
