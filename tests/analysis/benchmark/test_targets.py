"""What names mean."""

import pytest

from ppcls_ext import registry
from ppcls_ext.analysis.benchmark.targets import find_targets
from ppcls_ext.data.preprocess import build_transforms, shapes_after
from ppcls_ext.engine.deploy.inference_yml import InferenceConfig, InferenceConfigError


def export(folder, **facts):
    folder.mkdir()
    config = InferenceConfig("ResNet50", [{"ToCHWImage": None}], 1, ["a"], facts=facts)
    config.save(folder / "inference.yml")
    return folder


def test_backbones_of_ours():
    """A bare name is ours, though PaddleClas has it too; sizes and accuracies are the registry's."""
    first, second, *rest = find_targets(["ResNet50", "ppcls_ext.Sequencer2D_L_392", "vit_l*", "ResNet50"])
    assert (first.name, first.full_name, first.arch) == ("ResNet50", "ppcls_ext.ResNet50", "ppcls_ext.ResNet50")
    assert first.top1 == registry.get_spec("ResNet50").accuracy.top1
    assert (second.full_name, second.size) == ("ppcls_ext.Sequencer2D_L_392", (392, 392))
    assert [target.name for target in rest] == registry.list_backbones("vit_l*") != []


def test_backbones_of_paddleclas():
    pytest.importorskip("paddleclas")
    same, other, large = find_targets(
        ["paddleclas.ResNet50", "PPLCNet_x1_0", "paddleclas.SwinTransformer_base_patch4_window12_384"]
    )
    assert (same.full_name, same.arch, same.size) == ("paddleclas.ResNet50", "ResNet50", (224, 224))
    assert (other.name, other.arch) == ("paddleclas.PPLCNet_x1_0", "PPLCNet_x1_0")
    assert large.size == (384, 384)


def test_an_exported_folder(tmp_path):
    folder = export(tmp_path / "inference", image_shape=[3, 32, 48])
    (folder / "inference.onnx").touch()
    (found,) = find_targets([f"{folder}/"])
    assert (found.name, found.source, found.size, found.precision) == (str(folder), "folder", (32, 48), "fp32")


def test_a_folder_that_is_no_export_does_not_hide_a_backbone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ResNet50").mkdir()
    assert find_targets(["ResNet50"])[0].source == "ppcls_ext"
    export(tmp_path / "ResNet18")
    (tmp_path / "ResNet18" / "inference.json").touch()
    assert find_targets(["ResNet18"])[0].source == "folder"


@pytest.mark.parametrize(
    "operator, precision", [("QuantizeLinear", "int8"), ("DynamicQuantizeLSTM", "int8"), ("LSTM", "fp32")]
)
def test_the_precision_of_an_export_is_that_of_its_operators(tmp_path, operator, precision):
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node(operator, ["x", "scale"], ["y"])
    folder = export(tmp_path / "inference")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [])), str(folder / "inference.onnx"))
    assert find_targets([str(folder)])[0].precision == precision


@pytest.mark.parametrize(
    "word, message",
    [
        ("ResNet5O", "no such backbone or exported folder: ResNet5O; did you mean .*ResNet50"),
        ("ppcls_ext.ResNet5O", "did you mean .*ResNet50"),
        ("some/folder", "no such folder: some/folder"),
        ("resnot*", "no backbone matches 'resnot\\*'"),
    ],
)
def test_unknown_names(word, message):
    with pytest.raises(KeyError) as caught:
        find_targets([word])
    with pytest.raises(ValueError, match=message):
        raise ValueError(caught.value.args[0])


def test_folders_that_are_no_exports(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds the preprocessing"):
        find_targets([str(tmp_path)])
    folder = export(tmp_path / "inference")
    with pytest.raises(FileNotFoundError, match="inference.yml but no graph"):
        find_targets([str(folder)])
    (folder / "inference.yml").write_text("Global: {}", encoding="utf-8")
    with pytest.raises(InferenceConfigError):
        find_targets([str(folder)])


@pytest.mark.parametrize("size", [(224, 224), (320, 320), (160, 224)])
def test_preprocessing_gives_images_of_the_size_that_is_asked_for(size):
    (target,) = find_targets(["Sequencer2D_S"])
    ops = target.transform_ops(*size)
    last = shapes_after(ops)[-1]
    assert (last.height, last.width) == size
    if size == (224, 224):
        assert build_transforms(ops).operators[1].resize_short == target.preprocessing.resize_short
