"""`export --format onnx`: the files, that they compute what the model computes, and when they are refused."""

import copy
import importlib.util
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import paddle
import pytest
import yaml
from paddle import nn

from ppcls_ext.cli import main
from ppcls_ext.config import load_config
from ppcls_ext.data.preprocess import build_transforms
from ppcls_ext.engine.deploy import exporter
from ppcls_ext.engine.deploy.exporter import ExportError, OnnxOptions, export, uses_pir
from ppcls_ext.engine.deploy.inference_yml import DamagedExportError
from ppcls_ext.engine.deploy.onnx import serialization
from ppcls_ext.engine.deploy.onnx.errors import OnnxExportError
from ppcls_ext.engine.deploy.onnx.normalization import Normalization
from ppcls_ext.engine.deploy.predictor import Predictor

GRAPH = "inference.json" if uses_pir() else "inference.pdmodel"


class Exports:
    """Writes variations of one config and exports them."""

    def __init__(self, runs, folder: Path):
        self.config = copy.deepcopy(runs.config)
        self.folder = folder
        self.target = folder / "inference"
        self.config["Global"].update(save_inference_dir=str(self.target), output_dir=str(folder / "output"))

    def path(self) -> Path:
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(self.config, sort_keys=False))
        return path

    def cfg(self):
        return load_config(self.path(), mode="export")

    def export(self, *formats, **options) -> Path:
        return export(self.cfg(), formats or ("onnx",), OnnxOptions(**options) if options else None, onednn=False)

    def model(self) -> nn.Layer:
        return exporter._load(self.cfg())

    def facts(self) -> dict:
        return yaml.safe_load((self.target / "inference.yml").read_text())["Export"]

    def files(self) -> set:
        return {path.name for path in self.target.iterdir()}


@pytest.fixture
def exports(trained, tmp_path) -> Exports:
    return Exports(trained, tmp_path)


@pytest.fixture
def backbone(monkeypatch):
    """Let the exporter build the given layer in place of the config's backbone."""

    def put(layer: nn.Layer) -> nn.Layer:
        monkeypatch.setattr(exporter, "load_trained", lambda *_: layer)
        return layer

    paddle.seed(3)
    return put


def session(folder: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(folder / "inference.onnx"), providers=["CPUExecutionProvider"])


def noise(*shape) -> np.ndarray:
    return np.random.default_rng(shape[0]).standard_normal(shape, dtype=np.float32)


def dygraph(model: nn.Layer, images: np.ndarray) -> np.ndarray:
    with paddle.no_grad():
        return model(paddle.to_tensor(images)).numpy()


class Classifier(nn.Layer):
    """Any size, ten classes; ``padding`` decides whether a normalisation's mean can be folded."""

    def __init__(self, padding=1, wrap=lambda logits: logits):
        super().__init__()
        self.conv = nn.Conv2D(3, 8, 3, padding=padding)
        self.norm = nn.BatchNorm2D(8)
        self.head = nn.Linear(8, 10)
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(self.head(nn.functional.gelu(self.norm(self.conv(x))).mean([2, 3])))


# ---- what is written -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.compat
def test_onnx_beside_the_graph_of_paddle(exports):
    """At shapes that the export did not check; the notes name what is in the folder."""
    folder = exports.export("default", "onnx")
    assert {GRAPH, "inference.pdiparams", "inference.yml", "inference.onnx"} <= exports.files()
    facts = exports.facts()
    assert facts["graph"] == GRAPH
    assert facts["onnx"].pop("difference") < 1e-5
    assert facts["onnx"] == {
        "graph": "inference.onnx",
        "opset": 20,
        "input": {"dtype": "float32", "layout": "NCHW"},
        "inside": [],
        "outputs": ["probabilities"],
        "dynamic": ["batch", "height", "width"],
    }
    model, graph = exports.model(), session(folder)
    assert graph.get_outputs()[0].name == "probabilities"
    for shape in ((2, 3, 16, 16), (5, 3, 24, 40), (1, 3, 64, 12)):
        images = noise(*shape)
        np.testing.assert_allclose(graph.run(None, {"x": images})[0], dygraph(model, images), rtol=0, atol=2e-6)


@pytest.mark.slow
def test_onnx_beside_the_legacy_format(exports):
    """Which Paddle 3 leaves to a process of its own."""
    exports.export("legacy", "onnx")
    assert exports.files() >= {"inference.pdmodel", "inference.pdiparams", "inference.onnx", "inference.yml"}
    facts = exports.facts()
    assert facts["graph"] == "inference.pdmodel" and facts["onnx"]["graph"] == "inference.onnx"
    assert facts["dynamic"] == ["batch", "height", "width"]


@pytest.mark.slow
def test_an_export_replaces_every_earlier_graph(exports):
    """A graph left behind would be run with another one's labels."""
    exports.export("default", "onnx")
    exports.export("onnx")
    assert exports.files() == {"inference.onnx", "inference.yml"}
    assert exports.facts()["graph"] == "inference.onnx"
    exports.export("default")
    assert "inference.onnx" not in exports.files() and "onnx" not in exports.facts()


@pytest.mark.parametrize("opset", [17, 21])
def test_the_opset_can_be_chosen(exports, opset):
    folder = exports.export(opset=opset)
    model = onnx.load(str(folder / "inference.onnx"))
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": opset}
    assert exports.facts()["onnx"]["opset"] == opset


@pytest.mark.compat
def test_features_and_maps_are_results_by_name(exports):
    folder = exports.export(outputs=["features", "stages[1]", "logits"])
    assert exports.facts()["onnx"]["outputs"] == ["logits", "features", "stages[1]"]
    assert exports.facts()["softmax"] is False  # what the one graph gives
    images = noise(2, 3, 24, 16)
    backbone = exports.model().backbone
    with paddle.no_grad():
        x = paddle.to_tensor(images)
        features = backbone.forward_head(backbone.forward_features(x), pre_logits=True)
        expected = {"logits": backbone(x), "features": features, "stages[1]": backbone.extract_features(x, [1])[0]}
    for name, tensor in expected.items():
        found = session(folder).run([name], {"x": images})[0]
        # Of the greatest element: the maps reach 10, and float32 keeps seven digits of that.
        np.testing.assert_allclose(found, tensor.numpy(), rtol=0, atol=2e-6 * max(1, np.abs(tensor.numpy()).max()))


# ---- images of uint8 -------------------------------------------------------------------------------------------


def decoded(batch: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(batch).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)


@pytest.mark.compat
def test_images_of_uint8_are_normalised_inside(exports):
    """As the operators of the preprocessing do it, which the graph leaves to nobody else."""
    exports.config["DataLoader"]["Eval"]["dataset"]["transform_ops"][-1]["NormalizeImage"].update(
        mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3]
    )
    folder = exports.export(uint8_input=True)
    facts = exports.facts()["onnx"]
    assert facts["input"] == {"dtype": "uint8", "layout": "NHWC"}
    operators = yaml.safe_load((folder / "inference.yml").read_text())["PreProcess"]["transform_ops"]
    inside = [op for op in operators if next(iter(op)) in facts["inside"]]
    assert [next(iter(op)) for op in inside] == ["NormalizeImage", "ToCHWImage"]
    prepare = build_transforms(inside)
    images = decoded(3, 24, 16)
    normalised = np.stack([prepare(image) for image in images])
    graph = session(folder)
    assert graph.get_inputs()[0].type == "tensor(uint8)"
    expected = dygraph(exports.model(), normalised)
    np.testing.assert_allclose(graph.run(None, {"x": images})[0], expected, rtol=0, atol=5e-6)
    # Four by four patches without padding: all of it is in the convolution's weights.
    kinds = [node.op_type for node in onnx.load(str(folder / "inference.onnx")).graph.node]
    assert kinds[: kinds.index("Conv")] == ["Cast", "Transpose"]


@pytest.mark.parametrize("mean, between", [([0.4, 0.5, 0.6], ["Sub"]), ([0.0, 0.0, 0.0], [])])
def test_a_padded_convolution_keeps_the_mean_outside(exports, backbone, mean, between):
    """Its zeros stand for the mean of the images: a border of black pixels is something else."""
    exports.config["DataLoader"]["Eval"]["dataset"]["transform_ops"][-1]["NormalizeImage"]["mean"] = mean
    model = backbone(Classifier(padding=1))
    folder = exports.export(uint8_input=True)
    kinds = [node.op_type for node in onnx.load(str(folder / "inference.onnx")).graph.node]
    assert kinds[: kinds.index("Conv")] == ["Cast", "Transpose", *between]
    images = decoded(2, 16, 16)
    scaled = (images / 255.0 - mean) / [0.5, 0.5, 0.5]
    expected = nn.functional.softmax(paddle.to_tensor(dygraph(model, scaled.transpose(0, 3, 1, 2).astype("float32"))))
    np.testing.assert_allclose(session(folder).run(None, {"x": images})[0], expected.numpy(), rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    "operators, message",
    [
        (
            [{"NormalizeImage": {}}, {"ToCHWImage": None}, {"CropImage": {"size": 8}}],
            "ends with ToCHWImage and CropImage",
        ),
        ([{"ToCHWImage": None}], "ends with ToCHWImage"),
        ([{"NormalizeImage": {"channel_num": 4, "order": ""}}, {"ToCHWImage": None}], "channel_num appends a fourth"),
    ],
)
def test_uint8_needs_a_normalisation_at_the_end(operators, message):
    with pytest.raises(OnnxExportError, match=message):
        Normalization.of(operators)


# ---- when it is refused ----------------------------------------------------------------------------------------


def test_a_model_without_a_translation_names_operator_and_layer(exports, backbone):
    exports.export("onnx")
    before = {path.name: path.read_bytes() for path in exports.target.iterdir()}
    backbone(Classifier(wrap=lambda logits: logits * paddle.lgamma(logits + 30)))
    with pytest.raises(OnnxExportError, match=r"operator 'lgamma' \(in or after the layer 'backbone\.head'"):
        exports.export("onnx")
    assert {path.name: path.read_bytes() for path in exports.target.iterdir()} == before


def test_a_graph_that_computes_something_else_is_not_left(exports, monkeypatch):
    from ppcls_ext.engine.deploy.onnx.operators import TABLE

    silu = TABLE["silu"]
    monkeypatch.setitem(TABLE, "gelu", silu)
    with pytest.raises(OnnxExportError, match=r"the ONNX graph's probabilities and dygraph differ by .* is allowed"):
        exports.export("onnx")
    assert not exports.target.exists() or exports.files() == set()


def test_a_frozen_size_falls_back_to_the_native_one(exports, backbone):
    class Pooled(Classifier):
        def forward(self, x):
            x = nn.functional.adaptive_avg_pool2d(self.conv(x), 3)
            return self.head(x.mean([2, 3]))

    backbone(Pooled())
    exports.export("onnx")
    assert exports.facts()["onnx"]["dynamic"] == ["batch"]
    log = (exports.folder / "output" / "export.log").read_text()
    assert "the ONNX graph is for 16×16 only: Paddle's operator 'pool2d'" in log


def test_missing_packages_are_named_before_any_work(exports, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    monkeypatch.setattr(exporter, "_export", lambda *_: pytest.fail("it began"))
    with pytest.raises(OnnxExportError, match=r'needs onnxruntime; install with: pip install "ppcls_ext\[deploy\]"'):
        exports.export("onnx")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"opset": 16}, r"opset is 16; expected 17 to 21 \(nearest: 17\)"),
        ({"outputs": ["logits", "feature"]}, "outputs: there is no 'feature'; did you mean features"),
        ({"outputs": ["features"]}, "one of logits and probabilities has to be among them"),
        ({"outputs": ["logits", "logits"]}, "logits is given twice"),
    ],
)
def test_bad_options(exports, options, message):
    with pytest.raises(ValueError, match=message):
        exports.export(**options)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--format", "onx"], "did you mean onnx"),
        (["--format", "default", "legacy"], "cannot share a folder"),
        (["--format", "default", "--opset", "17"], "options of the format onnx, which is not given"),
        (["--format", "onnx", "--opset", "30"], "opset is 30"),
    ],
)
def test_bad_arguments_of_the_command(exports, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        raise SystemExit(main(["export", "-c", str(exports.path()), *arguments]))
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_command(exports):
    arguments = ["--format", "onnx", "--opset", "18", "--outputs", "logits", "features", "--uint8-input"]
    assert main(["export", "-c", str(exports.path()), *arguments]) == 0
    facts = exports.facts()["onnx"]
    assert (facts["opset"], facts["outputs"], facts["input"]["dtype"]) == (18, ["logits", "features"], "uint8")


def test_the_backbones_of_paddleclas_give_scores_alone(exports, backbone):
    backbone(Classifier())
    with pytest.raises(ValueError, match="there is no 'features'.*this model gives logits, probabilities"):
        exports.export(outputs=["logits", "features"])


def test_the_error_is_one_of_an_export():
    assert issubclass(OnnxExportError, ExportError)


@pytest.mark.compat
def test_weights_that_are_too_large_for_a_message_stand_beside_the_graph(exports, monkeypatch):
    """They belong to the export: recorded, compared, and read by each engine."""
    monkeypatch.setattr(serialization, "LIMIT", 10_000)
    folder = exports.export()
    assert {"inference.onnx", "inference.onnx.data"} <= exports.files()
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    results = [Predictor(folder, engine=engine, batch_size=2).predict(images) for engine in ("onnxruntime", "openvino")]
    assert [result["class_ids"] for result in results[0]] == [result["class_ids"] for result in results[1]]
    data = folder / "inference.onnx.data"
    data.write_bytes(bytes([data.read_bytes()[0] ^ 1]) + data.read_bytes()[1:])
    with pytest.raises(DamagedExportError, match="inference.onnx.data is not the file that was exported"):
        Predictor(folder, engine="onnxruntime")
    monkeypatch.setattr(serialization, "LIMIT", 10**9)
    exports.export()
    assert not data.exists()
