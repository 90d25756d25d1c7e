"""A run from weights of another form than the name's: every step builds the model that the weights are of.

The forms of a Res2Net have the same tensors and compute different things; those of a ResNet of basic blocks differ by
one shortcut.
"""

import json
import shutil

import numpy as np
import paddle
import pytest
from exported_graphs import run_paddle
from toy_family import register_toy

from ppcls_ext import registry
from ppcls_ext.arch.backbone.res2net import Res2Net
from ppcls_ext.arch.backbone.resnet import ResNet
from ppcls_ext.arch.backbone.swin_transformer import SwinTransformer
from ppcls_ext.config import ConfigError, load_config
from ppcls_ext.engine.deploy.exporter import export
from ppcls_ext.engine.evaluator import evaluate
from ppcls_ext.engine.model import load_trained
from ppcls_ext.engine.train.checkpoint import CheckpointError, CheckpointStore
from ppcls_ext.factory import create_backbone
from ppcls_ext.utils.state_dict import state_arrays
from ppcls_ext.weights.conversion import convert_file
from ppcls_ext.weights.errors import ConversionError, MissingWeightsError
from ppcls_ext.weights.files.reader import find_weights, read_weights
from ppcls_ext.weights.loading import WeightMismatchError, load_pretrained, load_state

TINY = {"depths": [2, 1], "planes": [8, 8], "form": "paddleclas"}
TOYS = {  # name: (class, arguments, source of the published weights, which are of the official form)
    "Toy_Res2Net": (Res2Net, {**TINY, "base_width": 32, "scale": 2}, "res2net"),
    "Toy_ResNet": (ResNet, {**TINY, "block": "basic"}, "torchvision"),
}
IMAGES = np.random.default_rng(0).standard_normal((3, 3, 16, 16)).astype(np.float32)


@pytest.fixture
def published(tmp_path, monkeypatch, restored_registry):
    """Backbones whose names mean PaddleClas's form, with published weights of the official one in the cache."""
    monkeypatch.setenv("PPCLS_EXT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PPCLS_EXT_OFFLINE", "1")
    for name, (cls, variant, source) in TOYS.items():
        weights = (registry.Weights(f"https://host.example/{name}.safetensors", source, "Toy Licence 1.0"),)
        register_toy(name, cls, variant, weights)
        folder = tmp_path / "home" / "weights" / name
        folder.mkdir(parents=True)
        official = {**variant, "form": "official"}
        paddle.seed(0)
        paddle.save(cls(**official).state_dict(), str(tmp_path / "official.pdparams"))
        file = folder / f"{name}.safetensors"
        convert_file(name, tmp_path / "official.pdparams", file, to="torch", source=source, arguments=official)
    return tmp_path / "home"


def config_of(runs, name):
    runs.config["Arch"] = {"name": name, "class_num": 10, "pretrained": True, "pretrained_source": TOYS[name][2]}
    runs.config["Global"].update(epochs=1, iter_per_epoch=1)
    return runs.config["Arch"]


def logits(model):
    model.eval()
    with paddle.no_grad():
        return model(paddle.to_tensor(IMAGES)).numpy()


def expected_logits(name, path, form):
    """What a model of ``form`` gives, its tensors copied from the file without any help of the loader."""
    cls, variant, _ = TOYS[name]
    model = cls(**{**variant, "form": form, "class_num": 10})
    assert not load_state(model, read_weights(find_weights(path)).tensors).problems()
    return logits(model)


@pytest.mark.compat
@pytest.mark.parametrize("name", TOYS)
def test_the_form_stays_from_training_to_export(runs, published, name):
    """The config names no form: the published weights choose it, then the checkpoints.

    A file that was parted from its manifest is still that of a run which began from the published weights.
    """
    arch = config_of(runs, name)
    del arch["pretrained_source"]  # it is the only one
    trainer, _ = runs.train()
    assert trainer.model.config()["form"] == "official"
    best = runs.output_dir / "best_model"
    expected = expected_logits(name, best, "official")
    if name == "Toy_Res2Net":
        assert np.abs(expected - expected_logits(name, best, "paddleclas")).max() > 1e-3

    shutil.rmtree(published)  # nothing that was published is needed any more
    given = [f"Global.pretrained_model={best}", f"Global.save_inference_dir={runs.folder / 'inference'}"]
    np.testing.assert_array_equal(logits(load_trained(load_config(runs.write(), given, mode="eval"), "used")), expected)
    assert evaluate(load_config(runs.write(), given, mode="eval"))["top1"] == trainer.state.best.metric
    folder = export(load_config(runs.write(), [*given, "Arch.infer_add_softmax=False"], mode="export"), onednn=False)
    np.testing.assert_allclose(run_paddle(folder, IMAGES), expected, rtol=0, atol=1e-5)

    shutil.copy(best.with_suffix(".pdparams"), runs.folder / "parted.pdparams")
    parted = load_config(runs.write(), [f"Global.pretrained_model={runs.folder / 'parted'}"], mode="eval")
    np.testing.assert_array_equal(logits(load_trained(parted, "used")), expected)

    latest = f"Global.checkpoints={runs.output_dir / 'latest'}"
    resumed = runs.trainer(latest, "Global.epochs=2")
    assert resumed.model.config()["form"] == "official"
    assert all(np.array_equal(a, state_arrays(resumed.model)[key]) for key, a in state_arrays(trainer.model).items())


@pytest.mark.compat
def test_weights_refuse_a_model_that_was_asked_for_in_another_form(runs, published):
    arch = config_of(runs, "Toy_Res2Net")
    arch["form"] = "paddleclas"
    for mode in ("train", "eval", "export"):
        with pytest.raises(ConfigError, match=r"Arch.form: the res2net weights of .* form='official', not form='paddl"):
            load_config(runs.write(), mode=mode)
    del arch["form"]
    runs.train()
    best, latest = runs.output_dir / "best_model", runs.output_dir / "latest"
    assert json.loads(best.with_name("best_model.manifest.json").read_text())["arguments"]["form"] == "official"
    runs.config["Arch"] = {"name": "Toy_Res2Net", "class_num": 10, "form": "paddleclas"}
    message = (
        r"best_model.pdparams holds weights for a model with form='official'; this Toy_Res2NetNetwork has form='paddl"
    )
    with pytest.raises(WeightMismatchError, match=message):
        load_trained(load_config(runs.write(), [f"Global.pretrained_model={best}"], mode="eval"), "used")
    with pytest.raises(CheckpointError, match="Global.checkpoints: .*latest.pdparams holds weights .*form='official'"):
        runs.trainer(f"Global.checkpoints={latest}")
    with pytest.raises(WeightMismatchError, match=message):
        create_backbone("Toy_Res2Net", class_num=10, form="paddleclas", pretrained=best)
    with pytest.raises(ConversionError, match="a model with form='official', this one has .* -o form=official"):
        convert_file("Toy_Res2Net", best.with_suffix(".pdparams"), runs.folder / "own.pdparams")
    record = convert_file(
        "Toy_Res2Net", best.with_suffix(".pdparams"), runs.folder / "own.pdparams", arguments={"form": "official"}
    )
    assert record.needs["form"] == "official"


@pytest.mark.compat
def test_a_run_whose_config_names_no_weights_follows_the_checkpoint(runs, published):
    """As where the YAML of evaluation is another than that of training; and where the manifest was left behind."""
    arch = config_of(runs, "Toy_Res2Net")
    runs.train()
    best = runs.output_dir / "best_model"
    expected = expected_logits("Toy_Res2Net", best, "official")

    def used(path, **arch):
        runs.config["Arch"] = {"name": "Toy_Res2Net", "class_num": 10, **arch}
        return logits(load_trained(load_config(runs.write(), [f"Global.pretrained_model={path}"], mode="eval"), "used"))

    np.testing.assert_array_equal(used(best), expected)
    alone = runs.folder / "alone.pdparams"
    alone.write_bytes(best.with_suffix(".pdparams").read_bytes())
    np.testing.assert_array_equal(used(alone, pretrained_source=arch["pretrained_source"]), expected)
    np.testing.assert_array_equal(used(alone, form="official"), expected)


@pytest.mark.compat
def test_in_code_the_form_follows_the_weights(published):
    folder = published / "weights" / "Toy_Res2Net"
    with pytest.raises(ValueError, match="res2net weights of Toy_Res2Net are of a model with form='official', not"):
        create_backbone("Toy_Res2Net", pretrained=True, form="paddleclas")
    assert not list(folder.glob("*.pdparams"))  # before anything is fetched
    assert create_backbone("Toy_Res2Net", pretrained=True, class_num=4).config()["form"] == "official"
    converted = next(folder.glob("*.pdparams"))
    assert create_backbone("Toy_Res2Net", pretrained=converted).config()["form"] == "official"
    with pytest.raises(WeightMismatchError, match="build it with form='official'"):
        create_backbone("Toy_Res2Net", pretrained=converted, form="paddleclas")
    assert create_backbone("Toy_Res2Net").config()["form"] == "paddleclas"


def test_names_of_one_form_are_not_written_for_another(published, tmp_path):
    paddle.save(registry.get_spec("Toy_Res2Net").factory().state_dict(), str(tmp_path / "in.pdparams"))
    with pytest.raises(ConversionError, match="the res2net source is of models with form='official', this one has"):
        convert_file("Toy_Res2Net", tmp_path / "in.pdparams", tmp_path / "out.safetensors", to="torch")


def test_what_a_checkpoint_is_bound_to(tmp_path):
    """Shifts, heads and activations change no tensor; windows and images may be of another size."""
    small = {"img_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [2], "num_heads": [2], "class_num": 3}
    model = SwinTransformer(**small, window_size=4, always_shift=True)
    arguments = model.bound_arguments()
    CheckpointStore(tmp_path).save("best_model", {"pdparams": state_arrays(model)}, 1, arguments)
    for other in ({"always_shift": False}, {"num_heads": [4]}, {"activation": "relu"}):
        # Four heads have other tables; the manifest is read first.
        changed = SwinTransformer(**{**small, "window_size": 4, "always_shift": True, **other})
        with pytest.raises(WeightMismatchError, match=f"holds weights for a model with {next(iter(other))}="):
            load_pretrained(changed, tmp_path / "best_model")
    load_pretrained(
        SwinTransformer(**{**small, "img_size": 32}, window_size=8, always_shift=True, drop_path_rate=0.5),
        tmp_path / "best_model",
    )


@pytest.mark.compat
def test_evaluation_asks_for_weights(runs):
    """Also where the config names a checkpoint, which training alone resumes from."""
    with pytest.raises(MissingWeightsError, match="random ones would be evaluated: set Global.pretrained_model"):
        evaluate(load_config(runs.write(), mode="eval"))
    with pytest.raises(MissingWeightsError, match="Global.checkpoints .* give Global.pretrained_model=output/latest"):
        evaluate(load_config(runs.write(), ["Global.checkpoints=output/latest"], mode="eval"))
    assert 0 <= evaluate(load_config(runs.write(), mode="eval"), random_weights=True)["top1"] <= 1
