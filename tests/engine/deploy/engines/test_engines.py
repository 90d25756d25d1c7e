"""Engines: equal results, which one is taken, and what is said where one cannot be."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml

from ppcls_ext.config import load_config
from ppcls_ext.data.image_files import list_images
from ppcls_ext.engine.deploy.engines import choice
from ppcls_ext.engine.deploy.engines.base import EngineError
from ppcls_ext.engine.deploy.engines.choice import ENGINES, choose_engine, open_engine
from ppcls_ext.engine.deploy.exporter import OnnxOptions, export
from ppcls_ext.engine.deploy.inference_yml import DamagedExportError, InferenceConfig, InferenceConfigError
from ppcls_ext.engine.deploy.predictor import Predictor

ROOT = Path(__file__).parents[4]
pytestmark = pytest.mark.compat
INSTALLED = [name for name, kind in ENGINES.items() if importlib.util.find_spec(kind.package)]


def test_every_engine_is_tried_here():
    assert INSTALLED == ["paddle", "onnxruntime", "openvino"]


@pytest.fixture(scope="module")
def images(exported_onnx):
    return list_images(exported_onnx.digits / "val_list.txt")[:60]


@pytest.fixture(scope="module")
def of_paddle(exported_onnx, images):
    return Predictor(exported_onnx.folder, batch_size=16, topk=10, engine="paddle").predict(images)


@pytest.fixture
def copied(exported_onnx, tmp_path):
    """A copy of the export, to damage."""
    return Path(shutil.copytree(exported_onnx.folder, tmp_path / "inference"))


def assert_equal_results(results, expected):
    """The same classes, and scores as equal as rounding to five decimals lets them be."""
    assert [result["file_name"] for result in results] == [result["file_name"] for result in expected]
    assert [result["class_ids"][0] for result in results] == [result["class_ids"][0] for result in expected]
    scores = [
        np.array([[dict(zip(r["class_ids"], r["scores"]))[c] for c in range(10)] for r in rs])
        for rs in (results, expected)
    ]
    np.testing.assert_allclose(*scores, rtol=0, atol=1.1e-5)
    assert np.ptp(scores[0], axis=0).max() > 0.05  # the model tells images apart


# ---- equal results ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_gives_the_results_of_paddle(exported_onnx, images, of_paddle, engine):
    predictor = Predictor(exported_onnx.folder, batch_size=16, topk=10, engine=engine)
    assert predictor.engine.name == engine and predictor.engine.outputs == ("probabilities",)
    assert_equal_results(predictor.predict(images), of_paddle)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_graph_of_uint8_with_logits_and_features(exported, images, of_paddle, tmp_path, engine):
    """Normalised inside; the scores come from logits; the features are there by name."""
    overrides = [f"Global.save_inference_dir={tmp_path}"]
    options = OnnxOptions(outputs=["logits", "features"], uint8_input=True)
    folder = export(load_config(exported.config, overrides, mode="export"), "onnx", options)
    predictor = Predictor(folder, batch_size=16, topk=10, engine=engine)
    assert_equal_results(predictor.predict(images), of_paddle)
    results = predictor.engine(np.zeros((2, 16, 16, 3), np.uint8))
    assert list(results) == ["logits", "features"] and results["features"].shape == (2, 16)


@pytest.mark.parametrize("engine", ["paddle", "onnxruntime", "openvino"])
def test_threads_share_an_engine(exported_onnx, engine):
    """Each gets what its own images give, at sizes that change from call to call."""
    config = InferenceConfig.load_from(exported_onnx.folder)
    shared = open_engine(exported_onnx.folder, config, engine, threads=1)
    rng = np.random.default_rng(0)
    batches = [rng.standard_normal((n, 3, side, 16), dtype=np.float32) for n in (1, 2, 3) for side in (16, 24)]
    expected = [shared(batch)["probabilities"] for batch in batches]
    wrong = []

    def work(start: int) -> None:
        for step in range(12):
            index = (start + step) % len(batches)
            found = shared(batches[index])["probabilities"]
            if found.shape != expected[index].shape or np.abs(found - expected[index]).max() > 1e-6:
                wrong.append((start, step))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_openvino_compiles_a_few_shapes_that_recur(exported_onnx):
    engine = open_engine(exported_onnx.folder, InferenceConfig.load_from(exported_onnx.folder), "openvino")
    plain = open_engine(exported_onnx.folder, InferenceConfig.load_from(exported_onnx.folder), "onnxruntime")
    for height in (16, 20, 24, 28, 32, 36):
        images = np.random.default_rng(height).standard_normal((2, 3, height, 16), dtype=np.float32)
        expected = plain(images)["probabilities"]
        for _ in range(3):
            np.testing.assert_allclose(engine(images)["probabilities"], expected, rtol=0, atol=1e-6)
    assert sorted(shape[2] for shape in engine._of_shape) == [16, 20, 24, 28]


# ---- without Paddle --------------------------------------------------------------------------------------------------


def test_predicting_without_paddle(exported_onnx, images, of_paddle):
    """As after `pip install ppcls_ext[onnxruntime]`: neither the package nor the command imports Paddle."""
    code = f"""
import sys
sys.modules.update(dict.fromkeys(["paddle", "paddleclas"]))
from ppcls_ext import cli
sys.exit(cli.main(["predict", "--model_dir", {str(exported_onnx.folder)!r}, "--infer_imgs",
    {str(exported_onnx.digits / "val_small.txt")!r}, "--batch_size", "16", "--topk", "10", "--engine", "onnxruntime",
    "--metrics", "--format", "json"]))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) == 43
    assert_equal_results(results, of_paddle[:43])
    labels = [int(line.split()[1]) for line in (exported_onnx.digits / "val_small.txt").read_text().splitlines()]
    right = np.mean([result["class_ids"][0] == label for result, label in zip(results, labels)])
    assert f"top1 {right:.5f}" in done.stderr and "(43 images)" in done.stderr


# ---- which one is taken ----------------------------------------------------------------------------------------------

ALL = ["paddle", "onnxruntime", "openvino"]


@pytest.mark.parametrize(
    ("installed", "without", "device", "expected"),
    [
        (ALL, "", "cpu", "openvino"),
        (["paddle", "onnxruntime"], "", "cpu", "onnxruntime"),
        (["paddle"], "", "cpu", "paddle"),
        (ALL, "inference.onnx", "cpu", "paddle"),
        (ALL, "", "gpu", "paddle"),
        (["onnxruntime", "openvino"], "", "gpu:1", "onnxruntime"),
    ],
)
def test_auto_takes_the_fastest_that_is_installed_and_fits(copied, monkeypatch, installed, without, device, expected):
    monkeypatch.setattr(choice.EngineKind, "installed", lambda kind: kind.package in installed)
    if without:
        (copied / without).unlink()
    assert choose_engine(copied, InferenceConfig.load_from(copied), device=device).engine == expected


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"engine": "onnxrutime"}, ValueError, r"engine is 'onnxrutime'; expected .* \(nearest: onnxruntime\)"),
        ({"device": "cuda"}, ValueError, "device is 'cuda'; expected cpu, gpu or gpu:<number>"),
        ({"engine": "openvino", "device": "gpu"}, ValueError, "device is 'gpu'; this package runs OpenVINO on the cpu"),
        ({"engine": "onnxruntime", "device": "gpu"}, ValueError, "this build of ONNX Runtime has no CUDA"),
    ],
)
def test_what_cannot_be_is_said(exported_onnx, arguments, error, message):
    with pytest.raises(error, match=message):
        Predictor(exported_onnx.folder, **arguments)


def test_an_engine_that_is_not_installed_is_named_with_the_command(exported_onnx, monkeypatch):
    monkeypatch.setattr(choice.EngineKind, "installed", lambda kind: False)
    with pytest.raises(EngineError, match=r'openvino is not installed; .*"ppcls_ext\[openvino\]"'):
        Predictor(exported_onnx.folder, engine="openvino")
    with pytest.raises(EngineError, match=r"neither openvino nor onnxruntime nor paddle is inst.*\[onnxruntime\]"):
        Predictor(exported_onnx.folder)


def test_an_engine_whose_graph_is_not_there_says_how_to_write_it(copied):
    (copied / "inference.onnx").unlink()
    with pytest.raises(FileNotFoundError, match="no inference.onnx, .*`ppcls_ext export --format onnx`"):
        Predictor(copied, engine="onnxruntime")
    for path in copied.glob("inference.[jp]*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="holds no exported model: neither inference.json nor"):
        Predictor(copied)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        Predictor(copied / "gone")


@pytest.mark.parametrize("value", [True, "yes", 1])
def test_only_a_trial_turns_onednn_on(copied, value):
    content = yaml.safe_load((copied / "inference.yml").read_text())
    content["Export"]["onednn"] = value
    (copied / "inference.yml").write_text(yaml.safe_dump(content))
    assert Predictor(copied, engine="paddle").engine.onednn is False


# ---- what was exported is what runs ----------------------------------------------------------------------------------


def test_the_files_of_the_engine_are_compared_and_no_others(copied, images):
    """A copy with the ONNX graph alone is whole for the engines that run it; a damaged one is for none."""
    for path in copied.glob("inference.[jp]*"):
        path.unlink()
    assert Predictor(copied).predict(images[0])[0]["class_ids"]
    graph = copied / "inference.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    for engine in ("onnxruntime", "openvino"):
        with pytest.raises(DamagedExportError, match="inference.onnx is not the file that was exported"):
            Predictor(copied, engine=engine)


def test_a_graph_that_the_export_did_not_write_is_refused(copied, images, of_paddle):
    """Unless one asks for it: another converter's graph of the same model."""
    content = yaml.safe_load((copied / "inference.yml").read_text())
    del content["Export"]["onnx"], content["Export"]["files"]["inference.onnx"]
    (copied / "inference.yml").write_text(yaml.safe_dump(content))
    with pytest.raises(DamagedExportError, match="inference.onnx is not part of the export"):
        Predictor(copied, engine="onnxruntime")
    predictor = Predictor(copied, engine="onnxruntime", verify=False, batch_size=16, topk=10)
    assert_equal_results(predictor.predict(images), of_paddle)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_file_that_is_no_graph(copied, engine):
    (copied / "inference.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineError, match="inference.onnx: .* cannot read it"):
        Predictor(copied, engine=engine, verify=False)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("outputs", ["features"], "outputs is .*; expected names of which the first is logits or probabilities"),
        ("outputs", "logits", "outputs is 'logits'"),
        ("input", {"dtype": "float16", "layout": "NCHW"}, "input is .*float16.*; expected .*float32.* or .*uint8"),
        ("inside", 3, "inside is a int; expected a list of operators"),
        ("inside", ["ToCHWImage", "NormalizeImage"], "inside is .*, but PreProcess.transform_ops ends with"),
    ],
)
def test_a_description_that_is_none_is_named(copied, key, value, message):
    content = yaml.safe_load((copied / "inference.yml").read_text())
    content["Export"]["onnx"][key] = value
    (copied / "inference.yml").write_text(yaml.safe_dump(content))
    with pytest.raises(InferenceConfigError, match=f"Export.onnx.{message}"):
        Predictor(copied, engine="onnxruntime")
