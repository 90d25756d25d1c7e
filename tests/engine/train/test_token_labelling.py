"""Token labelling from the configuration to the exported model, and what is refused before it starts."""

from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from test_distributed import launch

import ppcls_ext
from ppcls_ext.config import ConfigError, load_config
from ppcls_ext.data.image_files import list_images
from ppcls_ext.data.label_list import read_label_list
from ppcls_ext.data.token_label import write_label_map
from ppcls_ext.engine.deploy.exporter import export
from ppcls_ext.engine.deploy.predictor import Predictor
from ppcls_ext.engine.evaluator import evaluate
from ppcls_ext.engine.train.checkpoint import load_checkpoint

ARCHS = {
    "DilateFormer": {
        "img_size": 16,
        "depths": [1, 1],
        "embed_dim": 12,
        "num_heads": [3, 3],
        "dilate_attention": [True, False],
    },
    "VisionPermutator": {
        "img_size": 16,
        "depths": [1, 1],
        "patch_size": 4,
        "embed_dims": [12, 24],
        "segments": [4, 2],
        "transitions": [True],
        "mlp_ratios": [3.0, 3.0],
    },
}


@pytest.fixture
def labelled(runs, tmp_path):
    """The small digits with a map for each: the digit's class where there is ink, and all classes alike elsewhere."""
    images, labels = read_label_list(runs.digits / "train_small.txt")
    for name, label in zip(images, labels):
        scores = np.zeros((2, 6, 6), np.float32)
        scores[0, 1:5, 1:5] = 9.0
        classes = np.stack([np.full((6, 6), label), np.full((6, 6), (label + 1) % 10)])
        write_label_map(tmp_path / "maps" / Path(name).with_suffix(".npz"), scores, classes)
    runs.config["Arch"] = {"name": "DilateFormer", "class_num": 10, "token_label": True, **ARCHS["DilateFormer"]}
    runs.config["Loss"]["Train"] = [{"TokenLabelLoss": {"dense_weight": 0.5, "epsilon": 0.1}}]
    runs.config["DataLoader"]["Train"]["dataset"].update(
        token_label={"root": str(tmp_path / "maps"), "size": 2}, batch_transform_ops=[{"MixToken": {"grid": 2}}]
    )
    return runs


@pytest.mark.sampled
@pytest.mark.compat
@pytest.mark.parametrize("name", ARCHS)
def test_from_the_configuration_to_the_exported_model(labelled, name):
    """The loss falls, and evaluation, export and prediction see a model with one output."""
    labelled.config["Arch"] = {"name": name, "class_num": 10, "token_label": True, **ARCHS[name]}
    labelled.config["Optimizer"]["lr"] = {"name": "Constant", "learning_rate": 0.01}
    labelled.config["Global"].update(save_inference_dir=str(labelled.folder / "inference"), eval_interval=8)
    labelled.config["Infer"] = {
        "transforms": [*labelled.config["DataLoader"]["Eval"]["dataset"]["transform_ops"], {"ToCHWImage": None}],
        "PostProcess": {"name": "Topk", "topk": 1},
    }
    trainer, summary = labelled.train("Global.epochs=8")
    losses = [epoch["train_TokenLabelLoss"] for epoch in summary["history"]]
    assert losses[-1] < 0.9 * losses[0]
    weights = f"Global.pretrained_model={labelled.output_dir}/latest"
    path = labelled.write()
    result = evaluate(load_config(path, [weights], mode="eval"))
    assert result["top1"] == pytest.approx(summary["history"][-1]["eval_top1"])
    folder = export(load_config(path, [weights], mode="export"), onednn=False)
    predicted = Predictor(folder, device="cpu").predict(list_images(labelled.digits / "val_small.txt"))
    _, labels = read_label_list(labelled.digits / "val_small.txt")
    hits = np.mean([item["class_ids"][0] == label for item, label in zip(predicted, labels)])
    assert hits == pytest.approx(result["top1"])


def test_a_resumed_run_is_the_unbroken_one(labelled, tmp_path):
    """MixToken and the maps' sampling draw what they would have drawn."""
    whole, _ = labelled.train("Global.epochs=2")
    resumed, _ = labelled.train(
        "Global.epochs=2", f"Global.checkpoints={labelled.output_dir}/epoch_1", f"Global.output_dir={tmp_path}/again"
    )
    for one, other in zip(whole.model.parameters(), resumed.model.parameters()):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_training_without_maps_gives_every_token_the_images_label(labelled):
    """How a model is fine-tuned on data that no teacher has seen."""
    del labelled.config["DataLoader"]["Train"]["dataset"]["token_label"]
    del labelled.config["DataLoader"]["Train"]["dataset"]["batch_transform_ops"]
    _, summary = labelled.train("Global.epochs=1")
    assert np.isfinite(summary["history"][0]["train_loss"])


def test_another_number_of_tokens_is_named_at_the_first_batch(labelled):
    dataset = labelled.config["DataLoader"]["Train"]["dataset"]
    dataset["token_label"]["size"] = dataset["batch_transform_ops"][0]["MixToken"]["grid"] = 4
    with pytest.raises(ValueError, match="model has 4 tokens and 10 classes.*token_label.size: 2"):
        labelled.train()


TRAIN = "DataLoader.Train.dataset"


@pytest.mark.parametrize(
    "overrides, key, message",
    (
        (["Arch.token_label=False"], "Loss.Train.0.TokenLabelLoss", "needs a model with Arch.token_label: True"),
        ([f"{TRAIN}.token_label.root=absent"], f"{TRAIN}.token_label.root", "there is no such folder"),
        ([f"{TRAIN}.token_label.sise=2"], f"{TRAIN}.token_label.sise", "did you mean"),
        ([f"{TRAIN}.token_label.class_target=truth"], f"{TRAIN}.token_label.class_target", "ground_truth"),
        ([f"{TRAIN}.token_label.size=4"], f"{TRAIN}.batch_transform_ops.0.MixToken", "grid: expected"),
        (
            [f"{TRAIN}.batch_transform_ops=[CutmixOperator: {{alpha: 1.0}}]"],
            f"{TRAIN}.batch_transform_ops.0.CutmixOperator",
            "tears the cells of tokens",
        ),
        (
            [f"{TRAIN}.transform_ops.1={{TimmAutoAugment: {{config_str: augmix-m3}}}}"],
            f"{TRAIN}.transform_ops.1.TimmAutoAugment",
            "AugMix blends",
        ),
        (["Loss.Eval=[TokenLabelLoss: {}]"], "Loss.Eval.0.TokenLabelLoss", "use CELoss"),
        (
            ["Loss.Train=[TokenLabelLoss: {}, CELoss: {}]"],
            "Loss.Train.1.CELoss",
            "takes labels of images alone; TokenLabelLoss replaces it",
        ),
        (["Arch.name=ppcls_ext.ResNet50"], "Arch.token_label", "has no such argument"),
    ),
)
def test_mistakes_are_found_before_the_first_image(labelled, overrides, key, message):
    with pytest.raises(ConfigError) as error:
        load_config(labelled.write(), overrides)
    found = [str(problem) for problem in error.value.problems]
    assert any(key in text and message in text for text in found), found


def test_a_model_with_tokens_is_not_trained_by_another_loss(labelled):
    labelled.config["Loss"]["Train"] = [{"CELoss": {"weight": 1.0}}]
    with pytest.raises(ConfigError, match="put TokenLabelLoss into Loss.Train") as error:
        load_config(labelled.write())
    assert "needs TokenLabelLoss in Loss.Train" in str(error.value)


def test_a_plain_run_is_continued_with_token_labels(labelled, tmp_path):
    """Fine-tuning from a checkpoint of the same model without the classifier of tokens."""
    arch, loss = labelled.config["Arch"], labelled.config["Loss"]["Train"]
    dataset = labelled.config["DataLoader"]["Train"]["dataset"]
    maps, mixing = dataset.pop("token_label"), dataset.pop("batch_transform_ops")
    labelled.config["Arch"] = {**arch, "token_label": False}
    labelled.config["Loss"]["Train"] = [{"CELoss": {"weight": 1.0}}]
    plain, _ = labelled.train("Global.epochs=1")
    labelled.config["Arch"], labelled.config["Loss"]["Train"] = arch, loss
    dataset.update(token_label=maps, batch_transform_ops=mixing)
    weights = f"Global.pretrained_model={labelled.output_dir}/latest"
    tuned = labelled.trainer(weights, f"Global.output_dir={tmp_path}/tuned")
    assert set(tuned.model.fresh_tensors) == {"aux_head.weight", "aux_head.bias"}
    np.testing.assert_array_equal(tuned.model.head.weight.numpy(), plain.model.head.weight.numpy())


CONFIGS = sorted((Path(__file__).resolve().parents[3] / "configs").rglob("*_token_label.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_recipes_fit_their_models(path):
    """All that they lack is the data, and their labels are as many as their model's tokens."""
    with pytest.raises(ConfigError) as error:
        load_config(path, ["Global.device=cpu", "AMP.use_amp=False"])
    assert all("there is no such" in str(problem) for problem in error.value.problems), error.value
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    dataset = config["DataLoader"]["Train"]["dataset"]
    size = dataset["token_label"]["size"]
    assert dataset["batch_transform_ops"] == [{"MixToken": {"alpha": 1.0, "grid": size}}]
    arch = {**config["Arch"], "depths": [1, 1, 1, 1]}
    model = ppcls_ext.create_backbone(arch.pop("name"), **arch)
    output = model(paddle.zeros([1, *config["Global"]["image_shape"]]))
    assert output["token_logits"].shape == [1, size * size, 1000]


@pytest.mark.slow
def test_two_processes_equal_one_with_the_doubled_batch(labelled):
    """Logits of images and of tokens both carry gradients from process to process. ViP: it has no batch statistics."""
    labelled.config["Arch"] = {"name": "VisionPermutator", "class_num": 10, "token_label": True}
    labelled.config["Arch"].update(ARCHS["VisionPermutator"])
    # Images are mixed within the batch of one process.
    del labelled.config["DataLoader"]["Train"]["dataset"]["batch_transform_ops"]
    double = labelled.folder / "double"
    halves = (f"Global.output_dir={double}", "Global.epochs=1", "DataLoader.Train.sampler.batch_size=16")
    launch(labelled, "train.py", *halves, processes=2)
    labelled.train("Global.epochs=1")
    one = load_checkpoint(labelled.output_dir / "latest").parts["pdparams"]
    two = load_checkpoint(double / "latest").parts["pdparams"]
    assert set(one) == set(two) and "aux_head.weight" in one
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, atol=2e-6, err_msg=name)
