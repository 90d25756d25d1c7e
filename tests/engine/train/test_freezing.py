"""``Arch.freeze`` and ``freeze_befor``: what is frozen stays bit for bit, under the same keys, whatever happens."""

import numpy as np
import paddle
import pytest
from half_precision import half_precision_device
from paddle import nn

from ppcls_ext import plugin
from ppcls_ext.arch.freezing import convert_sync_batchnorm, freeze_up_to
from ppcls_ext.config.checks import device as device_checks
from ppcls_ext.config.loading import load_config
from ppcls_ext.engine.deploy.exporter import export
from ppcls_ext.engine.evaluator import evaluate
from ppcls_ext.engine.train.checkpoint import load_checkpoint
from ppcls_ext.utils.state_dict import state_arrays

#: Small forms, what to freeze, and the beginnings of the keys that are frozen with it.
MODELS = {
    "Sequencer": ({}, "stages.0", ("stem.", "stages.0.")),
    "ResNet": (
        {"name": "ppcls_ext.ResNet18", "class_num": 10, "depths": [1, 1, 1, 1], "planes": [8, 8, 8, 8]},
        "stages[1]",
        ("stem.", "stages.0.", "stages.1."),
    ),
    "ViT, stem": (
        {
            **{"name": "ppcls_ext.ViT_base_patch16_224", "class_num": 10, "img_size": 16, "patch_size": 4},
            **{"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": 2},
        },
        "stem",
        ("stem.",),
    ),
    "PaddleClas": ({"name": "PPLCNet_x0_25", "class_num": 10}, "blocks3", ("conv1.", "blocks2.", "blocks3.")),
}
#: The same with ``Arch.freeze``, which takes layers wherever they stand.
MODELS.update(
    {
        "ResNet, by name": (MODELS["ResNet"][0], "freeze=[stages.2, 'st?m.*']", ("stem.", "stages.2.")),
        "Sequencer, linear probe": ({}, "freeze=all_but_head", ("stem.", "stages.", "norm.")),
        "PaddleClas, linear probe": (
            MODELS["PaddleClas"][0],
            "freeze=all_but_head",
            ("conv1.", "blocks2.", "blocks3.", "blocks4.", "blocks5.", "blocks6.", "last_conv."),
        ),
    }
)


def configure(runs, name):
    arch, frozen, beginnings = MODELS[name]
    if name.startswith("PaddleClas") and not plugin.HAS_PADDLECLAS:
        pytest.skip("PaddleClas is not installed")
    runs.config["Arch"] = dict(arch) if arch else runs.config["Arch"]
    runs.config["Global"].update(save_interval=0, save_interval_steps=1)
    runs.config["EMA"] = {"decay": 0.9}
    runs.config["Optimizer"]["lr"] = {"learning_rate": 0.01}
    return "Arch." + (frozen if "=" in frozen else f"freeze_befor={frozen}"), beginnings


def split(arrays, beginnings):
    """Return the frozen and the other tensors."""
    frozen = {name: array for name, array in arrays.items() if name.startswith(beginnings)}
    return frozen, {name: array for name, array in arrays.items() if name not in frozen}


def equal(found, expected):
    return set(found) == set(expected) and all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.sampled
@pytest.mark.compat
@pytest.mark.parametrize("name", MODELS)
def test_frozen_tensors_stay_bit_for_bit(runs, name):
    """Weights and statistics; in the checkpoint and its average; started from weights, resumed, evaluated, exported."""
    freeze, beginnings = configure(runs, name)
    first, _ = runs.train("Global.epochs=1", f"Global.output_dir={runs.folder / 'first'}")
    start = load_checkpoint(runs.folder / "first").parts["pdparams"]
    options = (freeze, f"Global.pretrained_model={runs.folder / 'first' / 'latest'}")
    trainer = runs.trainer(*options)
    assert set(state_arrays(trainer.model)) == set(start)
    summary = trainer.run()
    parts = load_checkpoint(runs.output_dir).parts
    frozen, trained = split(start, beginnings)
    has_statistics = name.startswith(("ResNet", "PaddleClas"))
    assert frozen and trained and any(key.endswith("_variance") for key in frozen) == has_statistics
    for part in ("pdparams", "pdema"):
        now_frozen, now_trained = split(parts[part], beginnings)
        assert equal(now_frozen, frozen), part
        assert all(not np.array_equal(now_trained[n], array) for n, array in trained.items() if array.size > 10)
    assert not any(key.startswith(beginnings) for key in parts["pdopt"])

    unbroken = state_arrays(trainer.model)
    runs.output_dir = runs.folder / "resumed"
    runs.config["Global"]["output_dir"] = str(runs.output_dir)
    interrupted = runs.trainer(*options)
    step = interrupted._step
    interrupted._step = lambda epoch, i, batch: step(epoch, i, batch) if (epoch, i) != (2, 1) else 1 / 0
    with pytest.raises(ZeroDivisionError):
        interrupted.run()
    resumed, _ = runs.train(freeze, f"Global.checkpoints={runs.output_dir}")
    assert equal(state_arrays(resumed.model), unbroken)

    best = [f"Global.pretrained_model={runs.folder / 'output' / 'best_model'}"]
    for overrides in (best, [*best, freeze]):
        result = evaluate(load_config(runs.write(), overrides, mode="eval"))
        assert result["top1"] == summary["best_metric"]
    folder = export(
        load_config(runs.write(), [*best, freeze, f"Global.save_inference_dir={runs.folder}"], mode="export"),
        onednn=False,
    )
    assert (folder / "inference.pdiparams").is_file()


@pytest.mark.parametrize("name", ["ResNet", "ResNet, by name"])
def test_frozen_weights_are_not_rounded_under_o2(runs, monkeypatch, name):
    """The others are in half precision, with masters in the optimizer; recompute beside it."""
    monkeypatch.setattr(device_checks, "check_device", lambda report: None)
    freeze, beginnings = configure(runs, name)
    runs.config["AMP"] = {"level": "O2", "dtype": "bfloat16"}
    runs.config["Global"].update(eval_during_train=False, recompute=True)
    with half_precision_device():
        trainer = runs.trainer(freeze)
        start = {
            name: tensor.numpy()
            for name, tensor in trainer.model.state_dict().items()
            if "float32" in str(tensor.dtype)
        }
        frozen, _ = split(start, beginnings)
        head = trainer.state.float32_weights()["head.weight"]
        trainer.run()
    parts = load_checkpoint(runs.output_dir).parts
    assert trainer.model.head.weight.dtype == paddle.bfloat16
    assert set(frozen) == set(split(parts["pdparams"], beginnings)[0])
    for part in ("pdparams", "pdema"):
        assert equal(split(parts[part], beginnings)[0], frozen)
    assert not np.array_equal(parts["pdparams"]["head.weight"], head)


def test_synchronised_batch_norm_leaves_frozen_statistics_alone():
    model = nn.Sequential(nn.BatchNorm2D(3), nn.Sequential(nn.BatchNorm2D(3), nn.Conv2D(3, 3, 1)), nn.BatchNorm2D(3))
    names = list(model.state_dict())
    freeze_up_to(model, "1.0")
    model = convert_sync_batchnorm(model)
    kinds = [type(layer).__name__ for layer in (model[0], model[1][0], model[2])]
    assert kinds == ["BatchNorm2D", "BatchNorm2D", "SyncBatchNorm"]
    assert list(model.state_dict()) == names and not model[1][1].weight.stop_gradient


def test_an_unknown_layer_is_refused_with_the_nearest(runs):
    with pytest.raises(ValueError, match=r"freeze_befor: there is no sub-layer 'stages\.7'; nearest: stages\.\d"):
        runs.trainer("Arch.freeze_befor=stages.7")


@pytest.mark.parametrize(
    "freeze, message",
    [
        ("stage.0", r"there is no layer or parameter 'stage\.0'; nearest: stages\.0"),
        ("[stem, all_but_hed]", "'all_but_hed'; nearest: all_but_head"),
        ("'*'", "leaves nothing to train"),
    ],
)
def test_what_cannot_be_frozen_is_refused_at_its_key(runs, freeze, message):
    with pytest.raises(ValueError, match=f"Arch.freeze: .*{message}"):
        runs.trainer(f"Arch.freeze={freeze}")


def test_a_part_of_a_layer(runs):
    """A single parameter, as text with several names; its layer's other parameters are trained."""
    trainer = runs.trainer("Arch.freeze=head.bias stem")
    assert trainer.model.head.bias.stop_gradient and not trainer.model.head.weight.stop_gradient
    assert all(parameter.stop_gradient for parameter in trainer.model.stem.parameters())


@pytest.mark.parametrize("key", ["Arch.lr_mult_list", "Optimizer.lr_mult_list"])
def test_other_rates_by_stage_are_refused_with_the_keys_to_use(runs, key):
    with pytest.raises(ValueError, match=rf"{key}: .*layerwise_decay.*Arch\.freeze"):
        runs.trainer(f"{key}=[0.0, 1.0]")
