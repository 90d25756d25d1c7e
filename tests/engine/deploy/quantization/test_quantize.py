"""From a float export to an int8 one by the command: what is written, what is refused, and what stays untouched."""

import copy
import json
import types

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper
from PIL import Image

from ppcls_ext.cli import main
from ppcls_ext.engine.deploy.engines import choice
from ppcls_ext.engine.deploy.engines.base import EngineError
from ppcls_ext.engine.deploy.inference_yml import InferenceConfig
from ppcls_ext.engine.deploy.predictor import Predictor
from ppcls_ext.engine.deploy.quantization import quantizer

pytestmark = pytest.mark.compat


def quantize(exported, output, *arguments) -> int:
    """Run the command on 32 images of the digits; a small network is not faster in int8."""
    given = ["quantize", "--model_dir", exported.folder, "--output", output, "--cpu_threads", 1]
    if "--calibrate" not in arguments:
        given += ["--calibrate", exported.digits / "train_list.txt", "--images", 32]
    return main([str(word) for word in (*given, *arguments)])


@pytest.fixture(scope="module")
def quantized(exported_onnx, tmp_path_factory):
    """An int8 export of the trained network, and its report."""
    output = tmp_path_factory.mktemp("quantized") / "int8"
    evaluate = ("--evaluate", exported_onnx.digits / "val_list.txt", "--tolerance", 2)
    assert quantize(exported_onnx, output, *evaluate, "--accept_slower") == 0
    report = json.loads((output / "quantization.json").read_text())
    return types.SimpleNamespace(folder=output, digits=exported_onnx.digits, report=report, float=exported_onnx.folder)


def test_the_folder_predicts_with_the_accuracy_of_the_report(quantized):
    lines = [line.split() for line in (quantized.digits / "val_list.txt").read_text().splitlines()]
    images, labels = [quantized.digits / name for name, _ in lines], np.array([int(label) for _, label in lines])
    classes = []
    for folder in (quantized.float, quantized.folder):
        # As it was measured: DynamicQuantizeLSTM quantises what each thread takes by itself.
        predictor = Predictor(folder, batch_size=8, threads=1, engine="onnxruntime")
        classes.append(np.array([result["class_ids"][0] for result in predictor.predict(images)]))
    found = quantized.report["comparison"]
    assert found["accuracy"] == [pytest.approx((ids == labels).mean()) for ids in classes]
    assert found["agreement"] == pytest.approx((classes[0] == classes[1]).mean())
    assert found["mcnemar"]["only_first"] == ((classes[0] == labels) & (classes[1] != labels)).sum()
    assert found["accuracy"][0] - found["accuracy"][1] <= 0.02


def test_lstms_and_linear_layers_are_in_int8_and_weights_are_near(quantized):
    model, before = (onnx.load(str(folder / "inference.onnx")) for folder in (quantized.folder, quantized.float))
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in before.graph.initializer}
    lstms = [node for node in model.graph.node if node.op_type == "DynamicQuantizeLSTM"]
    of_float = {node.output[0]: node for node in before.graph.node if node.op_type == "LSTM"}
    assert len(lstms) == len(of_float) == quantized.report["operators"]["int8"]["LSTM"] > 0
    assert quantized.report["operators"]["float"] == {}
    for node in lstms:
        for place, scale in ((1, 8), (2, 10)):
            steps = arrays[node.input[scale]][:, None, :]
            stored = arrays[node.input[place]]
            assert stored.dtype == np.int8
            expected = weights[of_float[node.output[0]].input[place]].transpose(0, 2, 1)
            assert (np.abs(stored * steps - expected) <= steps * 0.5001).all()


def test_inference_yml_says_what_was_done_and_auto_takes_the_engine_that_was_measured(quantized, monkeypatch):
    config = InferenceConfig.load_from(quantized.folder)
    config.verify(quantized.folder, [quantized.folder / "inference.onnx"])
    before = InferenceConfig.load_from(quantized.float)
    assert (config.transform_ops, config.label_list) == (before.transform_ops, before.label_list)
    assert config.facts["int8"]["engine"] == "onnxruntime"
    assert config.facts["int8"]["operators"] == quantized.report["operators"]
    assert choice.choose_engine(quantized.folder, config).engine == "onnxruntime"
    config.facts["int8"]["engine"] = "openvino"  # the rule is about what is written there, not about the recurrent
    monkeypatch.setattr(choice.EngineKind, "installed", lambda kind: True)
    assert choice.choose_engine(quantized.folder, config).engine == "openvino"
    monkeypatch.setattr(choice.EngineKind, "installed", lambda kind: kind.package != "openvino")
    with pytest.raises(EngineError, match="openvino is not installed"):
        choice.choose_engine(quantized.folder, config)


def test_without_labels_the_agreement_alone_is_told(exported_onnx, tmp_path, capsys):
    output = tmp_path / "int8"
    assert quantize(exported_onnx, output, "--accept_slower", "--agreement", 80, "--format", "json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["labelled"] is False
    assert "accuracy" not in report["comparison"]
    assert report["comparison"]["samples"] == report["settings"]["images"] == 32
    assert report == json.loads((output / "quantization.json").read_text())


def test_layers_that_hurt_return_to_float_or_nothing_is_written(quantized, exported_onnx, tmp_path, capsys):
    """Ranges of one grey image are too narrow for digits, which the gate must see."""
    grey = tmp_path / "grey"
    grey.mkdir()
    Image.new("RGB", (16, 16), (127, 127, 127)).save(grey / "1.png")
    evaluate = ("--evaluate", exported_onnx.digits / "val_list.txt", "--calibrate", grey, "--accept_slower")
    output = tmp_path / "int8"
    assert quantize(exported_onnx, output, *evaluate, "--tolerance", 1, "--format", "json") == 0
    report = json.loads(capsys.readouterr().out)
    accuracy = report["comparison"]["accuracy"]
    assert len(report["in_float"]) == len(report["tried"]) > 0
    assert set(report["in_float"]) < set(report["damages"])
    assert sum(report["operators"]["float"].values()) > 0
    assert accuracy[0] - accuracy[1] <= 0.01
    assert InferenceConfig.load_from(output).facts["int8"]["in_float"] == report["in_float"]


def test_a_model_below_the_gate_takes_nothing_s_place(quantized, exported_onnx, tmp_path, monkeypatch, capsys):
    before = {path.name: path.read_bytes() for path in quantized.folder.iterdir()}
    monkeypatch.setattr(quantizer.Gate, "problem", lambda gate, found: "is not good")
    assert quantize(exported_onnx, quantized.folder, "--accept_slower") == 1
    assert "nothing is written" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in quantized.folder.iterdir()} == before
    assert not [path for path in quantized.folder.parent.iterdir() if path.name.startswith(".")]


def test_a_model_that_is_not_faster_is_written_only_if_asked_for(exported_onnx, tmp_path, monkeypatch, capsys):
    slower = {"float/onnxruntime": 2.0, "float/openvino": 1.0, "int8/onnxruntime": 1.5, "int8/openvino": 0.5}
    monkeypatch.setattr(quantizer, "milliseconds_an_image", lambda *_: slower)
    output = tmp_path / "int8"
    assert quantize(exported_onnx, output, "--agreement", 80) == 1
    assert "int8 in onnxruntime takes 1.50 times as long as float in openvino" in capsys.readouterr().err
    assert not output.exists()
    assert quantize(exported_onnx, output, "--agreement", 80, "--accept_slower") == 0
    ratio = json.loads((output / "quantization.json").read_text())["ratio"]
    assert ratio == {"same_engine": 0.75, "best_float": 1.5, "best_float_engine": "openvino"}


def test_bad_arguments_are_named_before_any_work(quantized, exported_onnx, tmp_path, capsys):
    unlabelled = tmp_path / "list.txt"
    unlabelled.write_text("1.png\n")
    paddle_only = tmp_path / "paddle"
    paddle_only.mkdir()
    content = yaml.safe_load((exported_onnx.folder / "inference.yml").read_text())
    (paddle_only / "inference.yml").write_text(yaml.safe_dump(copy.deepcopy(content)))
    here = types.SimpleNamespace
    cases = [
        (exported_onnx, exported_onnx.folder, (), "float export itself"),
        (here(folder=quantized.folder, digits=quantized.digits), tmp_path / "out", (), "int8 already"),
        (here(folder=paddle_only, digits=quantized.digits), tmp_path / "out", (), "holds no inference.onnx"),
        (exported_onnx, tmp_path / "out", ("--evaluate", unlabelled), "1.png"),
        (exported_onnx, tmp_path / "out", ("--calibrate", tmp_path / "nowhere"), "nowhere"),
    ]
    for exported, output, arguments, message in cases:
        assert quantize(exported, output, *arguments) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
