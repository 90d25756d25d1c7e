"""Export: what is written, that it computes what the model computes, and when it is refused."""

import copy
import importlib.util
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from exported_graphs import run_paddle
from paddle import nn

from ppcls_ext.config import ConfigError, load_config
from ppcls_ext.data.preprocess import build_transforms
from ppcls_ext.engine.deploy import exporter, paddle_writing
from ppcls_ext.engine.deploy.exporter import ExportError, export, uses_pir
from ppcls_ext.engine.deploy.inference_yml import portable_transforms
from ppcls_ext.engine.deploy.predictor import Predictor
from ppcls_ext.weights.errors import MissingWeightsError, NonFiniteWeightsError, WeightMismatchError

GRAPH = "inference.json" if uses_pir() else "inference.pdmodel"
NATIVE = (3, 16, 16)


class Exports:
    """Writes variations of one config and exports them."""

    def __init__(self, runs, folder: Path):
        self.config = copy.deepcopy(runs.config)
        self.folder = folder
        self.target = folder / "inference"
        self.config["Global"]["save_inference_dir"] = str(self.target)
        self.config["Global"]["output_dir"] = str(folder / "output")

    def cfg(self):
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(self.config, sort_keys=False))
        return load_config(path, mode="export")

    def export(self, format="default", **options) -> Path:
        return export(self.cfg(), format, **{"onednn": False, **options})

    def log(self) -> str:
        return (self.folder / "output" / "export.log").read_text()

    def files(self) -> dict:
        return {path.name: path.read_bytes() for path in self.target.iterdir()}


@pytest.fixture
def exports(trained, tmp_path) -> Exports:
    return Exports(trained, tmp_path)


@pytest.fixture
def backbone(monkeypatch):
    """Let the exporter build the given layer in place of the config's backbone, with the weights that it has."""

    def put(layer: nn.Layer) -> nn.Layer:
        monkeypatch.setattr(exporter, "load_trained", lambda cfg, purpose, random_weights: layer)
        return layer

    paddle.seed(3)
    return put


class Classifier(nn.Layer):
    """Any size, ten classes."""

    def __init__(self, wrap=lambda logits: logits):
        super().__init__()
        self.conv = nn.Conv2D(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2D(8)
        self.head = nn.Linear(8, 10)
        self.wrap = wrap

    def classify(self, x):  # Paddle 2.6 cannot trace super().forward
        return self.wrap(self.head(nn.functional.gelu(self.norm(self.conv(x))).mean([2, 3])))

    def forward(self, x):
        return self.classify(x)


# ---- what is written -------------------------------------------------------------------------------------------


@pytest.mark.compat
def test_the_files_their_content_and_the_log_line(exports):
    """Defect 38: neither Metric nor a training section is needed."""
    for section in ("Metric", "Loss", "Optimizer"):
        del exports.config[section]
    del exports.config["DataLoader"]["Train"], exports.config["Global"]["epochs"]
    folder = exports.export()
    expected = {GRAPH, "inference.pdiparams", "inference.yml"} | (set() if uses_pir() else {"inference.pdiparams.info"})
    assert {path.name for path in folder.iterdir()} == expected
    line = f'Export succeeded! The inference model exported has been saved in "{exports.target}/inference".'
    assert exports.log().rstrip().endswith(line)
    content = yaml.safe_load((folder / "inference.yml").read_text())
    assert content["Global"] == {"model_name": "Sequencer2D_S"}
    # No DecodeImage, and only what the readers of PaddleX and FastDeploy take.
    assert content["PreProcess"]["transform_ops"] == [
        {"ResizeImage": {"resize_short": 16}},
        {"CropImage": {"size": 16}},
        {
            "NormalizeImage": {
                "scale": 1.0 / 255.0,
                "mean": [0.5, 0.5, 0.5],
                "std": [0.5, 0.5, 0.5],
                "order": "",
                "channel_num": 3,
            }
        },
        {"ToCHWImage": None},
    ]
    names = "zero one two three four five six seven eight nine".split()
    assert content["PostProcess"] == {"Topk": {"topk": 3, "label_list": names}}
    facts = content["Export"]
    assert facts["image_shape"] == [3, 16, 16] and facts["class_num"] == 10 and facts["graph"] == GRAPH
    assert facts["dynamic"] == ["batch", "height", "width"] and facts["paddle"] == paddle.__version__


@pytest.mark.sampled
@pytest.mark.compat
@pytest.mark.parametrize("format", ["default", "legacy"])
def test_the_graph_equals_dygraph_at_shapes_that_the_export_did_not_check(exports, format):
    folder = exports.export(format)
    if format == "legacy":
        assert (folder / "inference.pdmodel").is_file()
    model = exporter._load(exports.cfg())
    for shape in ((2, 3, 16, 16), (5, 3, 24, 40), (1, 3, 64, 12)):
        images = np.random.default_rng(shape[0]).standard_normal(shape, dtype=np.float32)
        with paddle.no_grad():
            expected = model(paddle.to_tensor(images)).numpy()
        assert np.ptp(expected, axis=0).max() > 1e-3 or shape[0] == 1  # the model tells images apart
        np.testing.assert_allclose(run_paddle(folder, images), expected, rtol=0, atol=2e-6)


def test_an_export_replaces_one_of_the_other_format(exports):
    """Both formats call their weights inference.pdiparams, so an old graph would run with the wrong ones."""
    exports.export()
    (exports.target / "inference.pdmodel").write_bytes(b"old")
    (exports.target / "notes.txt").write_text("the user's own")
    exports.export()
    names = {path.name for path in exports.target.iterdir()}
    assert names == {GRAPH, "inference.pdiparams", "inference.yml", "notes.txt"} or not uses_pir()


def test_the_transforms_come_from_infer_without_a_data_loader(exports):
    """Defect 38: PaddleClas needs DataLoader and Metric.Eval to export."""
    del exports.config["DataLoader"], exports.config["Metric"]
    exports.config["Infer"]["transforms"][1] = {"ResizeImage": {"size": 16, "interpolation": "bicubic"}}
    content = yaml.safe_load((exports.export() / "inference.yml").read_text())
    assert content["Export"]["transforms_from"] == "Infer"
    assert content["PreProcess"]["transform_ops"][0] == {"ResizeImage": {"size": 16, "interpolation": "bicubic"}}


def test_no_preprocessing_at_all_is_refused(exports):
    del exports.config["DataLoader"], exports.config["Infer"]
    with pytest.raises(ConfigError, match="DataLoader.Eval: neither it nor Infer.transforms is there"):
        exports.export()


@pytest.mark.parametrize(
    "scale, expected", [("1.0/255.0", 1 / 255), ("1/255", 1 / 255), (0.5, 0.5), ("0.5", 0.5), (None, 1 / 255)]
)
def test_the_scale_becomes_a_number_without_being_evaluated(scale, expected):
    ops, _ = portable_transforms([{"NormalizeImage": {"scale": scale, "order": "hwc"}}])
    assert ops[0]["NormalizeImage"]["scale"] == expected and ops[0]["NormalizeImage"]["order"] == ""


@pytest.mark.parametrize("scale", ["__import__('os')", "1/0", "a/b"])
def test_a_scale_that_is_no_number_is_refused(scale):
    with pytest.raises(ValueError, match="NormalizeImage.scale is .*expected a number or a fraction"):
        portable_transforms([{"NormalizeImage": {"scale": scale}}])


def test_what_the_decoding_was_is_kept_for_our_predictor():
    ops, decode = portable_transforms([{"DecodeImage": {"backend": "pil", "to_rgb": True}}, {"CropImage": {"size": 4}}])
    assert ops == [{"CropImage": {"size": 4}}, {"ToCHWImage": None}]
    assert decode == {"backend": "pil", "to_rgb": True, "channel_first": False}


@pytest.mark.parametrize(
    "arguments, written",
    [
        ({"size": 4, "interpolation": "bilinear", "return_numpy": False}, {"size": 4}),
        ({"size": 4, "interpolation": None, "backend": "cv2"}, {"size": 4, "backend": "cv2"}),
        ({"size": 4, "interpolation": "bicubic"}, {"size": 4, "interpolation": "bicubic"}),
        (
            {"size": 4, "interpolation": "bilinear", "backend": "pil"},
            {"size": 4, "interpolation": "bilinear", "backend": "pil"},
        ),
    ],
)
def test_resizing_is_written_in_words_that_paddlex_has_too(arguments, written):
    """It knows OpenCV's bilinear filter as LINEAR, its default; the pixels must stay the same."""
    ops, _ = portable_transforms([{"ResizeImage": arguments}])
    assert ops == [{"ResizeImage": written}, {"ToCHWImage": None}]
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    before, after = (build_transforms([{"ResizeImage": one}])(image) for one in (arguments, written))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    "change, name",
    [
        ({}, "Sequencer2D_S"),
        ({"Arch": {"name": "ppcls_ext.Sequencer2D_S"}}, "Sequencer2D_S"),
        ({"Global": {"pdx_model_name": "ResNet50"}}, "ResNet50"),
    ],
)
def test_the_name_that_is_written(exports, change, name):
    for section, values in change.items():
        exports.config[section].update(values)
    assert exporter._describe(exports.cfg(), ["zero", "one"]).model_name == name


def test_random_weights_are_the_same_in_every_process_of_an_export(exports):
    """The legacy format is written by a process of its own; both formats of one export must be one model."""
    exports.config["Global"]["pretrained_model"] = None
    images = paddle.ones([1, *NATIVE])
    first, second = (exporter._load(exports.cfg(), random_weights=True)(images).numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)


# ---- the models -------------------------------------------------------------------------------------------------


@pytest.mark.compat
@pytest.mark.parametrize(
    "wrap",
    [lambda t: t, lambda t: [t, t * 2], lambda t: {"logits": t, "features": t * 2}],
    ids=["tensor", "list", "dict"],
)
def test_what_a_model_may_return(exports, backbone, wrap):
    model = backbone(Classifier(wrap))
    model.eval()
    images = np.random.default_rng(0).standard_normal((2, *NATIVE), dtype=np.float32)
    with paddle.no_grad():
        model.wrap = lambda t: t
        expected = nn.functional.softmax(model(paddle.to_tensor(images)), axis=-1).numpy()
        model.wrap = wrap
    np.testing.assert_allclose(run_paddle(exports.export(), images), expected, rtol=0, atol=1e-6)


def test_infer_output_key_chooses_an_output(exports, backbone):
    backbone(Classifier(lambda t: {"logits": t, "features": t * 2}))
    exports.config["Arch"]["infer_output_key"] = "nothing"
    with pytest.raises(TypeError, match="no 'nothing'; it has logits, features"):
        exports.export()


def test_logits_without_softmax_are_still_predicted_as_probabilities(exports):
    """The softmax is taken once: in the graph, or else by the predictor."""
    image = np.full((16, 16, 3), 200, dtype=np.uint8)
    inside = Predictor(exports.export(), topk=10).predict(image)[0]
    exports.config["Arch"]["infer_add_softmax"] = False
    outside = Predictor(exports.export(), topk=10).predict(image)[0]
    assert outside["class_ids"] == inside["class_ids"]
    np.testing.assert_allclose(outside["scores"], inside["scores"], atol=1.1e-5)
    assert sum(outside["scores"]) == pytest.approx(1.0, abs=1e-4)


class Folded(nn.Layer):
    """Two branches that fold into one; ``is_repped`` is optional in PaddleClas's layers."""

    def __init__(self, has_flag: bool):
        super().__init__()
        self.a, self.b = nn.Conv2D(3, 4, 1, bias_attr=False), nn.Conv2D(3, 4, 1, bias_attr=False)
        self.folds = 0
        if has_flag:
            self.is_repped = False

    def re_parameterize(self):
        self.a.weight.set_value(self.a.weight + self.b.weight)
        self.folds += 1
        if hasattr(self, "is_repped"):
            self.is_repped = True

    def forward(self, x):
        return self.a(x) if self.folds else self.a(x) + self.b(x)


@pytest.mark.parametrize("has_flag", [True, False], ids=["with is_repped", "without"])
def test_branches_are_folded(exports, backbone, has_flag):
    """Defect 39: PaddleClas takes ``is_repped`` for granted. Outputs are compared with the unfolded model."""

    class Net(nn.Layer):
        def __init__(self):
            super().__init__()
            self.folded, self.head = Folded(has_flag), nn.Linear(4, 10)

        def forward(self, x):
            return self.head(nn.functional.relu(self.folded(x)).mean([2, 3]))

    net = backbone(Net())
    folder = exports.export()
    assert net.folded.folds == 1
    # The second branch is not in the file: 12 + 40 + 10 numbers, not 24 + 50.
    assert (folder / "inference.pdiparams").stat().st_size < (12 + 40 + 10 + 12) * 4 + 200


class OneSize(Classifier):
    """A model that says that it takes 16×16 only."""

    def forward(self, x):
        if paddle.in_dynamic_mode() and list(x.shape[2:]) != [16, 16]:
            raise ValueError("I take 16x16 only")
        return self.classify(x)


class Frozen(Classifier):
    """A model whose Python code keeps the size of the trace: right in dygraph, wrong in a dynamic graph."""

    def forward(self, x):
        rows = x.shape[2] if paddle.in_dynamic_mode() else 16
        return self.classify(x[:, :, : max(1, rows // 2)])


@pytest.mark.compat
@pytest.mark.parametrize(
    "kind, reason", [(OneSize, "takes no other size"), (Frozen, "graph and dygraph differ by")], ids=["says", "frozen"]
)
def test_a_model_with_one_size_is_exported_for_that_size(exports, backbone, kind, reason):
    backbone(kind())
    folder = exports.export()
    warnings = [line for line in exports.log().splitlines() if "is exported for 16×16 only" in line]
    assert len(warnings) == 1 and reason in warnings[0]
    assert yaml.safe_load((folder / "inference.yml").read_text())["Export"]["dynamic"] == ["batch"]
    assert run_paddle(folder, np.zeros((4, *NATIVE), dtype=np.float32)).shape == (4, 10)


# ---- when it is refused ------------------------------------------------------------------------------------------


@pytest.mark.compat
def test_a_graph_that_computes_something_else_is_refused_and_the_old_export_stays(exports, backbone, monkeypatch):
    model = backbone(Classifier())
    exports.export()
    before = exports.files()
    write = paddle_writing._write

    def write_another(wrapped, folder, shape):
        saved = model.head.bias.numpy()
        model.head.bias.set_value(saved + np.linspace(0, 0.5, 10, dtype=np.float32))
        write(wrapped, folder, shape)
        model.head.bias.set_value(saved)

    monkeypatch.setattr(paddle_writing, "_write", write_another)
    with pytest.raises(ExportError, match=r"for an input 1×3×16×16 .* differ by 0\.\d+ of .*; 0\.0001 is allowed"):
        exports.export()
    assert exports.files() == before
    assert exports.log().count("Export succeeded!") == 1


def test_a_model_that_cannot_be_traced_is_refused(exports, backbone):
    class Untraceable(Classifier):
        def forward(self, x):
            if not paddle.in_dynamic_mode():
                raise NotImplementedError("I am no graph")
            return self.classify(x)

    backbone(Untraceable())
    with pytest.raises(ExportError, match="Sequencer2D_S was not exported: tracing failed with .*I am no graph"):
        exports.export()
    assert not list(exports.target.iterdir())


@pytest.mark.parametrize("extra, count", [("10 ten\n", 11), (None, 9)], ids=["one too many", "one too few"])
def test_another_number_of_labels_is_refused(exports, trained, tmp_path, extra, count):
    """Three-class models with ImageNet's names: the most common export mistake."""
    text = (trained.digits / "label_list.txt").read_text()
    text = text + extra if extra else text.replace("9 nine\n", "")
    (tmp_path / "labels.txt").write_text(text)
    exports.config["Infer"]["PostProcess"]["class_id_map_file"] = str(tmp_path / "labels.txt")
    with pytest.raises((ExportError, ValueError), match=rf"labels\.txt[^\n]*{count}|{count}[^\n]*labels\.txt"):
        exports.export()
    assert not exports.target.exists()


def test_weights_of_another_class_count_are_refused(exports):
    """Training would start such a classifier afresh; exporting it would deploy random numbers."""
    exports.config["Arch"]["class_num"] = 7
    del exports.config["Infer"]["PostProcess"], exports.config["DataLoader"]
    with pytest.raises(
        WeightMismatchError, match=r"different number of classes than Arch.class_num, 7(.|\n)*\[16, 10\]"
    ):
        exports.export()


def test_a_model_of_another_width_is_refused(exports, backbone):
    backbone(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)))
    with pytest.raises(ExportError, match="the model has 4 outputs, but Arch.class_num is 10"):
        exports.export()


def test_random_weights_are_exported_on_demand_alone(exports):
    exports.config["Global"]["pretrained_model"] = None
    with pytest.raises(MissingWeightsError, match=r"random ones would be exported: set Global.pretrained_model"):
        exports.export()
    assert not exports.target.exists()
    exports.export(random_weights=True)
    assert "WARNING: no weights are given: random weights are exported" in exports.log()


def test_weights_that_are_not_finite_are_not_exported(exports):
    path = Path(exports.config["Global"]["pretrained_model"]).with_suffix(".pdparams")
    state = paddle.load(str(path))
    state["head.bias"][3] = float("nan")
    paddle.save(state, str(exports.folder / "diverged.pdparams"))
    exports.config["Global"]["pretrained_model"] = str(exports.folder / "diverged")
    with pytest.raises(NonFiniteWeightsError, match=r"diverged.pdparams: 1 of its \d+ tensors (.|\n)*head.bias"):
        exports.export()


def test_the_format_is_checked(exports):
    with pytest.raises(ValueError, match="format is 'tensorrt'; expected default, legacy, onnx or triton"):
        exports.export("tensorrt")


def test_only_the_main_process_writes(exports, monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINER_ID", "1")
    exports.export()
    assert not exports.target.exists()


@pytest.mark.slow
def test_a_failing_child_is_an_error(exports, monkeypatch):
    if not uses_pir():  # Paddle 2 needs no child
        exports.export("legacy")
        assert (exports.target / "inference.pdmodel").is_file()
        return
    cfg = exports.cfg()
    object.__setattr__(cfg.Global, "pretrained_model", str(exports.folder / "gone"))
    with pytest.raises(ExportError, match="writes the legacy format ended with exit code 2"):
        export(cfg, "legacy", onednn=False)


@pytest.mark.skipif(importlib.util.find_spec("paddleclas") is None, reason="PaddleClas is not installed")
def test_a_backbone_of_paddleclas_is_exported(exports):
    exports.config["Arch"] = {"name": "PPLCNet_x0_25", "class_num": 10}
    exports.config["Global"].update(pretrained_model=None, image_shape=[3, 32, 32])
    folder = exports.export(random_weights=True)
    assert yaml.safe_load((folder / "inference.yml").read_text())["Export"]["dynamic"] == ["batch", "height", "width"]
