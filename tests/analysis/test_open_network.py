"""Words that name a model to look into."""

import paddle
import pytest

from ppcls_ext.analysis.subjects import SubjectError, is_export, open_network, split_label
from ppcls_ext.data.preprocess import build_transforms
from ppcls_ext.weights.errors import MissingWeightsError


@pytest.mark.compat
def test_a_run_its_checkpoint_and_its_yaml_are_one_network(trained):
    words = [str(trained.output_dir), str(trained.output_dir / "best_model"), f"digits={trained.write()}"]
    run, checkpoint, written = map(open_network, words)
    assert [network.label for network in (run, checkpoint, written)] == ["output", "output/best_model", "digits"]
    image = (trained.digits / "images").glob("*.png")
    pixels = build_transforms(run.transforms)(next(image).read_bytes())
    assert pixels.shape == (3, 16, 16) and run.size == (16, 16)
    expected = trained_output(trained, pixels)
    for network in (run, checkpoint, written):
        assert network.model(paddle.to_tensor(pixels[None])).numpy().tolist() == expected
        assert network.class_names[:3] == ["zero", "one", "two"] and not network.model.training


def trained_output(trained, pixels) -> list:
    """The same network without this package's loading: parameters by name."""
    from ppcls_ext import create_backbone

    arguments = {key: value for key, value in trained.config["Arch"].items() if key != "name"}
    model = create_backbone(trained.config["Arch"]["name"], **arguments)
    model.set_state_dict(paddle.load(str(trained.output_dir / "best_model.pdparams")))
    model.eval()
    return model(paddle.to_tensor(pixels[None])).numpy().tolist()


def test_a_backbone_by_name():
    network = open_network("small=ViT_S_32_224", random_weights=True)
    assert (network.label, network.arch, network.size) == ("small", "ppcls_ext.ViT_S_32_224", (224, 224))
    assert len(network.class_names) == 1000


@pytest.mark.parametrize(
    "word, label, rest",
    [
        ("ViT_S_16_224", "ViT_S_16_224", "ViT_S_16_224"),
        ("a=b=c", "a", "b=c"),
        ("runs/lr=1/x", "x", "runs/lr=1/x"),
        ("runs/x/", "x", "runs/x/"),
    ],
)
def test_labels(word, label, rest):
    assert split_label(word) == (label, rest)


def test_what_is_no_network(tmp_path, trained):
    with pytest.raises(SubjectError, match="did you mean .*ResNet50.*nor is it a run"):
        open_network("RsNet50")
    with pytest.raises(SubjectError, match="has no config.yaml"):
        open_network(str(tmp_path))
    with pytest.raises(SubjectError, match="several backbones"):
        open_network("ViT_S_*")
    (tmp_path / "inference.yml").write_text("")
    assert is_export(f"x={tmp_path}")
    with pytest.raises(SubjectError, match="exported model"):
        open_network(str(tmp_path))
    with pytest.raises(MissingWeightsError):
        open_network("quick_start/ViT_digits", overrides=["Infer=null"])


def test_a_run_that_has_saved_nothing(tmp_path):
    (tmp_path / "config.yaml").write_text("Arch: {name: ResNet18}")
    with pytest.raises(SubjectError, match="neither best_model nor latest"):
        open_network(str(tmp_path))
