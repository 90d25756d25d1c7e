"""Mixed precision, loss scaling, accumulation, recompute, layer-wise decay, clipping, averaging and resuming, in pairs.

Half precision runs on a stand-in for a GPU; see ``half_precision.py``. Everything else is Paddle's own.
"""

import itertools
import os
import re
from pathlib import Path

import numpy as np
import paddle
import pytest
from half_precision import HALVES, half_precision_device

from ppcls_ext.config import load_config
from ppcls_ext.config.checks import device as device_checks
from ppcls_ext.engine.evaluator import evaluate
from ppcls_ext.engine.train.checkpoint import load_checkpoint
from ppcls_ext.engine.train.trainer import NonFiniteGradientError
from ppcls_ext.utils.state_dict import state_arrays

#: What a run may have besides; ``scaler`` is float16 with a scale that overflows at first, and then grows.
FEATURES = {
    "O1": {"AMP": {"level": "O1", "dtype": "bfloat16"}},
    "O2": {"AMP": {"level": "O2", "dtype": "bfloat16"}},
    "scaler": {"AMP": {"level": "O1", "dtype": "float16", "scale_loss": 2.0**19}},
    "scaler O2": {"AMP": {"level": "O2", "dtype": "float16", "scale_loss": 2.0**19}},
    "ema": {"EMA": {"decay": 0.8}},
    "accumulation": {"Global": {"update_freq": 2}},
    "recompute": {"Global": {"recompute": True}},
    "layerwise decay": {"Optimizer": {"layerwise_decay": 0.7}},
    "clipping": {"Optimizer": {"clip_global_norm": 0.1}},
}
PRECISIONS = ("O1", "O2", "scaler", "scaler O2")
PAIRS = [pair for pair in itertools.combinations(FEATURES, 2) if not (pair[0] in PRECISIONS and pair[1] in PRECISIONS)]


@pytest.fixture
def device(monkeypatch):
    """A CPU that takes half precision, and a configuration that believes it."""
    monkeypatch.setattr(device_checks, "check_device", lambda report: None)
    with half_precision_device():
        yield


def configure(runs, *features: str) -> None:
    """Let ``runs`` train in the way that the features say: 4 batches of 8 an epoch, no evaluation, drop path."""
    runs.config["Global"].update(eval_during_train=False, save_interval=0, epochs=4, log_grad_norm=True)
    runs.config["Optimizer"]["lr"] = {"name": "Cosine", "learning_rate": 0.03, "warmup_epoch": 0.5}
    runs.config["Arch"]["drop_path_rate"] = 0.2
    train = runs.config["DataLoader"]["Train"]
    train["sampler"]["batch_size"] = 8
    label_list = runs.folder / "train.txt"
    label_list.write_text("".join(Path(train["dataset"]["cls_label_path"]).read_text().splitlines(True)[:32]))
    train["dataset"]["cls_label_path"] = str(label_list)
    train["dataset"]["transform_ops"][1] = {"ResizeImage": {"size": 16}}
    for feature in features:
        for section, keys in FEATURES[feature].items():
            runs.config.setdefault(section, {}).update(keys)


def flat(value, prefix="") -> dict:
    """Return the numbers of a nested mapping as arrays, by path."""
    if isinstance(value, dict):
        return {path: array for key, item in value.items() for path, array in flat(item, f"{prefix}/{key}").items()}
    return {prefix: np.asarray(value)}


@pytest.mark.sampled
@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_every_pair_trains_and_resumes_exactly(runs, device, pair):
    """The loss is finite and falls; killed within the last epoch and resumed, every number of the end is the same."""
    configure(runs, *pair)
    runs.config["Global"]["save_interval_steps"] = 1 if "accumulation" in pair else 2
    trainer, summary = runs.train()
    losses = [epoch["train_loss"] for epoch in summary["history"]]
    assert np.isfinite(losses).all() and losses[-1] < losses[0] - 0.02
    skipped = summary["skipped_steps"]
    assert (1 <= skipped <= 3) == bool({"scaler", "scaler O2"} & set(pair)), skipped
    assert summary["steps"] == (8 if "accumulation" in pair else 16)
    if trainer.state.ema:
        assert trainer.state.ema.updates == summary["steps"] - skipped
    expected = flat(load_checkpoint(runs.output_dir / "latest").parts)
    assert all(np.isfinite(array).all() for array in expected.values() if array.dtype.kind == "f" and array.size > 1)
    os.rename(runs.output_dir, runs.folder / "unbroken")
    runs.train_until(4, 3)
    assert load_checkpoint(runs.output_dir / "latest").parts["pdstates"]["iteration"] > 0
    runs.train(f"Global.checkpoints={runs.output_dir / 'latest'}")
    found = flat(load_checkpoint(runs.output_dir / "latest").parts)
    assert set(found) == set(expected)
    assert [path for path in expected if not np.array_equal(found[path], expected[path])] == []


def test_a_skipped_step_changes_nothing_but_scale_and_schedule(runs, device):
    """An infinite gradient: weights, moments and average stay, the scale halves, the learning rate goes on."""
    configure(runs, "scaler", "ema", "accumulation")
    runs.config["AMP"]["scale_loss"] = 2.0**40
    trainer = runs.trainer()
    weights, shadow = state_arrays(trainer.model), trainer.state.ema.state_dict()
    lr = trainer.state.optimizer.get_lr()
    batches = trainer.loader.epoch(1)
    for iteration in range(2):
        trainer._step(1, iteration, next(batches))
    batches.close()
    assert (trainer.state.progress.step, trainer.state.progress.skipped, trainer.state.ema.updates) == (1, 1, 0)
    assert all(np.array_equal(array, state_arrays(trainer.model)[name]) for name, array in weights.items())
    assert all(np.array_equal(array, trainer.state.ema.state_dict()[name]) for name, array in shadow.items())
    moments = {key: value for key, value in trainer.state.optimizer.state_dict().items() if "moment" in key}
    assert all(float(value.abs().max()) == 0 for value in moments.values())
    assert trainer.state.scaler.state_dict()["scale"] == 2.0**39
    assert trainer.state.optimizer.get_lr() > lr


@pytest.mark.parametrize("dtype", [None, "float16"])
def test_clipping_sees_the_true_gradients(runs, device, dtype):
    """Two micro-batches, a scale of 64: the gradients are unscaled once, and clipped to 0.1 after that."""
    configure(runs, "clipping", "accumulation")
    if dtype:
        runs.config["AMP"] = {"level": "O1", "dtype": dtype, "scale_loss": 64.0}
    trainer = runs.trainer()
    seen = {}
    clip = trainer.state.optimizer._grad_clip

    def norm(pairs):
        return np.sqrt(sum(float((gradient.astype("float32") ** 2).sum()) for _, gradient in pairs))

    def watched(parameters_and_gradients):
        seen["before"] = norm(parameters_and_gradients)
        clipped = clip(parameters_and_gradients)
        seen["after"] = norm(clipped)
        return clipped

    trainer.state.optimizer._grad_clip = watched
    batches = trainer.loader.epoch(1)
    for iteration in range(2):
        trainer._step(1, iteration, next(batches))
    batches.close()
    np.testing.assert_allclose(seen["before"], float(trainer._grad_norm), rtol=1e-5)
    np.testing.assert_allclose(seen["after"], min(0.1, seen["before"]), rtol=1e-4)
    assert seen["before"] > 0.1
    if dtype:  # the norm is that of float32, but for rounding
        configure(runs, "clipping", "accumulation")
        runs.config["AMP"]["use_amp"] = False
        plain = runs.trainer()
        batches = plain.loader.epoch(1)
        for iteration in range(2):
            plain._step(1, iteration, next(batches))
        batches.close()
        np.testing.assert_allclose(seen["before"], float(plain._grad_norm), rtol=0.02)


@pytest.mark.compat
def test_master_weights_average_and_checkpoint_under_o2(runs, device):
    """The checkpoint holds float32 masters, the average follows them in closed form, and LSTMs stay float32."""
    configure(runs, "O2", "ema")
    trainer = runs.trainer()
    history = []
    update = trainer.state.ema.update

    def recording(master_weights):
        history.append({name: tensor.numpy() for name, tensor in master_weights.items()})
        update(master_weights)

    start = trainer.state.ema.state_dict()
    trainer.state.ema.update = recording
    trainer.run()
    parts = load_checkpoint(runs.output_dir / "latest").parts
    masters = {name: p for name, p in trainer.model.named_parameters() if p.dtype in HALVES}
    assert masters and not any("rnn_v" in name or "rnn_h" in name for name in masters)
    rounded = 0
    for name, parameter in masters.items():
        last = history[-1][parameter.name]
        assert np.array_equal(parts["pdparams"][name], last) and last.dtype == np.float32
        half = parameter.astype("float32").numpy()
        assert np.array_equal(half, paddle.to_tensor(last).astype(parameter.dtype).astype("float32").numpy())
        rounded += (half != last).sum()
        average = start[name].astype(np.float64)
        for step in history:
            average = 0.8 * average + 0.2 * step[parameter.name]
        np.testing.assert_allclose(parts["pdema"][name], average, rtol=1e-5, atol=1e-7)
    assert rounded > 100


@pytest.mark.parametrize("precision", ["O2", "scaler O2"])
def test_what_half_precision_trained_is_evaluated_alike_in_float32(runs, device, precision):
    """Within the run it is evaluated in half precision; the checkpoint in float32 agrees, but for rounding."""
    configure(runs, precision, "ema")
    _, summary = runs.train("Global.eval_during_train=True", "Global.eval_interval=4")
    evaluated = summary["history"][-1]
    runs.config.pop("AMP")
    weights = f"Global.pretrained_model={runs.output_dir / 'best_model'}"
    alone = evaluate(load_config(runs.write(), [weights], mode="eval"))
    assert evaluated["eval_loss"] == pytest.approx(alone["loss"], rel=0.01)
    assert evaluated["eval_ema_loss"] != evaluated["eval_loss"]


def test_recompute_and_accumulation_change_no_result_in_half_precision(runs, device):
    """Recompute runs each block again under the same autocast and with the same random numbers."""
    configure(runs, "scaler")
    plain, _ = runs.train("Global.epochs=1")
    again, _ = runs.train("Global.epochs=1", "Global.recompute=True")
    assert any(getattr(layer, "recompute", False) for layer in again.model.sublayers())
    for name, array in state_arrays(plain.model).items():
        np.testing.assert_allclose(state_arrays(again.model)[name], array, rtol=1e-6, atol=1e-7, err_msg=name)


def test_accumulation_equals_the_larger_batch_with_loss_scaling(runs, device):
    """Two micro-batches of 8 take the steps of one batch of 16, scaled, clipped and averaged, but for rounding."""
    configure(runs, "clipping", "ema", "layerwise decay")
    runs.config["Arch"]["drop_path_rate"] = 0.0
    runs.config["AMP"] = {"level": "O1", "dtype": "float16", "scale_loss": 1024.0}
    large, _ = runs.train("DataLoader.Train.sampler.batch_size=16", "Global.epochs=3")
    small, _ = runs.train("Global.update_freq=2", "Global.epochs=3")
    assert small.state.progress.step == large.state.progress.step == 6 and small.state.progress.skipped == 0
    start = runs.trainer().state.ema.state_dict()
    moved = {name: np.abs(array - start[name]).max() for name, array in large.state.ema.state_dict().items()}
    for name, array in large.state.ema.state_dict().items():
        assert np.abs(small.state.ema.state_dict()[name] - array).mean() <= 0.05 * moved[name], name


def test_skipped_steps_and_the_scale_are_in_the_log(runs, device):
    configure(runs, "scaler")
    _, summary = runs.train("Global.epochs=1")
    scales = [float(value) for value in re.findall(r"loss_scale: (\d+\.\d+)", runs.log())]
    assert scales[0] == 2.0**18 and scales[-1] == 2.0 ** (19 - summary["skipped_steps"])
    assert f"epoch 1: {summary['skipped_steps']} of 4 steps were skipped" in runs.log()


def test_a_fixed_scale_takes_the_steps_of_a_dynamic_one_that_never_overflows(runs, device):
    configure(runs, "scaler", "clipping")
    runs.config["AMP"]["scale_loss"] = 256.0
    dynamic, summary = runs.train("Global.epochs=2")
    fixed, _ = runs.train("Global.epochs=2", "AMP.use_dynamic_loss_scaling=False")
    assert summary["skipped_steps"] == 0 and "loss_scale: 256.0" in runs.log()
    expected, found = state_arrays(dynamic.model), state_arrays(fixed.model)
    assert all(np.array_equal(found[name], array) for name, array in expected.items())


def test_gradients_that_no_scale_makes_finite_end_the_run(runs, device):
    configure(runs, "scaler")
    runs.config["AMP"]["scale_loss"] = 1.0
    trainer = runs.trainer()

    def poison(gradient):
        return gradient * float("inf")

    trainer.model.head.weight.register_hook(poison)
    with pytest.raises(NonFiniteGradientError, match=r"gradients of step 14 \(epoch 4\).*scale has fallen to 6\.1e-05"):
        trainer.run()


def test_recompute_is_refused_for_a_backbone_without(runs):
    runs.config["Arch"] = {"name": "PPLCNet_x0_25", "class_num": 10}
    with pytest.raises(ValueError, match=r"Global\.recompute: .*PPLCNet_x0_25 has no recompute"):
        runs.trainer("Global.recompute=True")


def test_the_last_incomplete_group_is_left_out(runs):
    """Four batches in groups of three: one step an epoch, of three batches, and the schedule counts those."""
    configure(runs)
    trainer, summary = runs.train("Global.update_freq=3", "Global.epochs=1")
    assert (trainer.iterations, summary["steps"], trainer.state.schedule.last_epoch) == (3, 1, 1)
