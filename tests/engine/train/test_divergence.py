"""Weights that are not finite are never saved, evaluated or resumed from."""

import re

import numpy as np
import pytest
from half_precision import half_precision_device

from ppcls_ext import cli
from ppcls_ext.config.checks import device as device_checks
from ppcls_ext.engine.train.checkpoint import CheckpointError, CheckpointStore, load_checkpoint
from ppcls_ext.engine.train.trainer import NonFiniteStateError


@pytest.fixture
def diverging(runs):
    """A network with ReLU and BatchNorm, whose loss stays finite whatever becomes of its weights."""
    small = {"depths": [1, 1, 1, 1], "planes": [8, 8, 8, 8]}
    runs.config["Arch"] = {"name": "ppcls_ext.ResNet18", "class_num": 10, **small}
    runs.config["Optimizer"]["lr"] = {"learning_rate": 0.001}
    runs.config["Metric"].pop("Train")
    runs.config["Global"].update(epochs=3, save_interval=0)
    return runs


def spoil(trainer, step, tensor):
    """Let ``tensor(state)`` of a trainer become NaN in one place at the end of optimizer step ``step``."""
    original = trainer.state.step

    def spoiling():
        original()
        if trainer.state.progress.step == step:
            victim = tensor(trainer.state)
            values = victim.numpy()
            values.reshape(-1)[-1] = np.nan
            victim.set_value(values)

    trainer.state.step = spoiling


def finite(prefix):
    def visit(value):
        if isinstance(value, dict):
            return all(map(visit, value.values()))
        return not isinstance(value, np.ndarray) or value.dtype.kind != "f" or bool(np.isfinite(value).all())

    return all(visit(part) for part in load_checkpoint(prefix).parts.values())


VICTIMS = {
    "weight": (lambda state: state.model.head.weight, r"head\.weight"),
    "buffer": (lambda state: next(b for n, b in state.model.named_buffers() if n.endswith("_variance")), "_variance"),
    "optimizer": (
        lambda state: next(t for n, t in state.optimizer.state_dict().items() if "moment2" in n),
        r"optimizer \S+/moment2_0",
    ),
    "average": (lambda state: state.ema.tensors()["head.bias"], r"EMA head\.bias"),
}


@pytest.mark.compat
@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("evaluates", [False, True], ids=["no evaluation", "evaluation"])
def test_nothing_that_is_not_finite_is_saved(diverging, victim, evaluates):
    """One NaN in the second of three epochs: the error names tensor, step and the checkpoint, which is epoch 1's."""
    tensor, name = VICTIMS[victim]
    diverging.config["Global"]["eval_during_train"] = evaluates
    diverging.config["EMA"] = {"decay": 0.5}
    trainer = diverging.trainer()
    spoil(trainer, 6, tensor)
    output = re.escape(str(diverging.output_dir / "latest"))
    with pytest.raises(
        NonFiniteStateError,
        match=rf"after step 6 \(epoch 2, iteration 0\) \d+ of \d+ tensors hold NaN.*{name}"
        rf".*the last good checkpoint is {output} \(step 3\)",
    ):
        trainer.run()
    for prefix in ("latest", *(("best_model", "best_model_ema") if evaluates else ())):
        assert finite(diverging.output_dir / prefix), prefix
    assert load_checkpoint(diverging.output_dir / "latest").parts["pdstates"]["epoch"] == 1
    diverging.trainer(f"Global.checkpoints={diverging.output_dir}", "Global.epochs=2").run()


def test_finite_weights_with_infinite_logits_are_not_saved_either(diverging):
    """The greatest numbers there are, whose products overflow: evaluation finds them."""
    trainer = diverging.trainer()
    original = trainer.state.step

    def overflowing():
        original()
        if trainer.state.progress.step == 6:
            weight = trainer.model.head.weight
            weight.set_value(np.full(weight.shape, np.finfo(np.float32).max))

    trainer.state.step = overflowing
    with pytest.raises(NonFiniteStateError, match=r"evaluation after epoch 2: .*infinite logits.*latest \(step 3\)"):
        trainer.run()
    assert load_checkpoint(diverging.output_dir).parts["pdstates"]["step"] == 3


def test_a_step_within_the_epoch_is_checked_too(diverging):
    diverging.config["Global"].update(save_interval_steps=1, eval_during_train=False)
    trainer = diverging.trainer()
    spoil(trainer, 2, VICTIMS["weight"][0])
    with pytest.raises(NonFiniteStateError, match=r"after step 2 \(epoch 0, iteration 2\).*latest \(step 1\)"):
        trainer.run()
    assert finite(diverging.output_dir / "latest")


@pytest.mark.parametrize("level", ["O1", "O2"])
def test_master_weights_are_checked_under_mixed_precision(diverging, monkeypatch, level):
    monkeypatch.setattr(device_checks, "check_device", lambda report: None)
    diverging.config["AMP"] = {"level": level, "dtype": "float16", "scale_loss": 128.0}
    diverging.config["Global"]["eval_during_train"] = False
    with half_precision_device():
        trainer = diverging.trainer()
        victim = VICTIMS["optimizer"][0]
        if level == "O2":
            victim = lambda state: next(iter(state.master_weights().values()))  # noqa: E731
        spoil(trainer, 6, victim)
        expected = "master_weight" if level == "O2" else "moment2"
        with pytest.raises(NonFiniteStateError, match=rf"optimizer \S+{expected}.*latest \(step 3\)"):
            trainer.run()
        assert finite(diverging.output_dir / "latest")


def test_the_command_fails_with_one_sentence(diverging, capsys):
    """The case that was found: a learning rate of 1e4 under a loss that stays finite."""
    diverging.config["Global"].update(eval_during_train=False, epochs=2)
    diverging.config["Optimizer"] = {"name": "Momentum", "momentum": 0.9, "lr": {"learning_rate": 1e25}}
    assert cli.main(["train", "-c", str(diverging.write())]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "diverged" in error and "there is no checkpoint from before" in error
    assert not list(diverging.output_dir.glob("latest*"))


def test_a_checkpoint_that_is_not_finite_is_not_resumed(runs):
    """One that an older version has saved."""
    runs.config["Global"].update(eval_during_train=False, epochs=1)
    runs.train()
    checkpoint = load_checkpoint(runs.output_dir / "latest")
    checkpoint.parts["pdparams"]["head.bias"][3] = np.inf
    CheckpointStore(runs.output_dir).save("latest", checkpoint.parts, 3, checkpoint.info["arguments"])
    with pytest.raises(CheckpointError, match=r"NaN or infinity in 1 of \d+ tensors, among them head\.bias; resume"):
        runs.trainer(f"Global.checkpoints={runs.output_dir}")
