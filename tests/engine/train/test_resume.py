"""Going on from a checkpoint: damage that hashes do not show, changed settings, a disk that was full."""

import copy
import os

import numpy as np
import pytest
from faults import watched

from ppcls_ext.engine.train.checkpoint import (
    CheckpointError,
    CheckpointStore,
    CheckpointWriteError,
    load_checkpoint,
)
from ppcls_ext.engine.train.optimizer_state import OptimizerStateError
from ppcls_ext.utils.state_dict import state_arrays


@pytest.fixture(scope="module")
def finished(new_runs, tmp_path_factory):
    """The parts of a checkpoint after one epoch, and the runs that go on from it."""
    runs = new_runs(tmp_path_factory.mktemp("finished"))
    runs.config["Global"].update(epochs=1, eval_during_train=False, save_interval=0)
    runs.config["EMA"] = {"decay": 0.9}
    runs.train()
    return runs, load_checkpoint(runs.output_dir / "latest")


def resume_from(finished, change, *overrides):
    """Build a trainer from the checkpoint after ``change(parts)``."""
    runs, checkpoint = finished
    parts = copy.deepcopy(checkpoint.parts)
    change(parts)
    CheckpointStore(runs.folder / "changed").save("latest", parts, 3, checkpoint.info["arguments"])
    return runs.trainer(f"Global.checkpoints={runs.folder / 'changed'}", *overrides)


def entry(name, value):
    return lambda parts: parts["pdstates"].update({name: value})


DAMAGE = {
    "no epoch": (lambda parts: parts["pdstates"].pop("epoch"), "no entry 'epoch'"),
    "epoch of text": (entry("epoch", "1"), "'epoch' is '1', not a whole number"),
    "negative step": (entry("step", -3), "'step' is -3"),
    "huge iteration": (entry("iteration", 2**70), "'iteration' is 1180591620717411303424"),
    "infinite metric": (entry("metric", float("inf")), "'metric' is inf, not a number"),
    "metric is NaN": (entry("metric", float("nan")), "'metric' is nan, not a number"),
    "sums of text": (entry("meter", ["a"]), r"'meter' is \['a'\]"),
    "infinite sums": (entry("meter", np.array([np.inf])), "'meter' is array"),
    "images": (entry("bad_images", [1]), r"'bad_images' is \[1\]"),
    "scaler": (entry("scaler", {"scale": "x"}), "'scaler' is"),
    "states are a list": (lambda parts: parts.update(pdstates=[1, 2]), r"latest\.pdstates holds a list, not a mapping"),
    "weights are a list": (lambda parts: parts.update(pdparams=[1]), r"latest\.pdparams holds a list"),
    "weight missing": (lambda parts: parts["pdparams"].pop("head.bias"), r"(?s)does not fit.*head\.bias"),
    "weight of text": (lambda parts: parts["pdparams"].update({"head.bias": "x"}), r"(?s)head\.bias"),
    "average missing": (lambda parts: parts["pdema"].pop("head.bias"), "average of head.bias should be .*nothing"),
    "average of another shape": (
        lambda parts: parts["pdema"].update({"head.bias": np.zeros(3, "float32")}),
        r"average of head\.bias should be \[10\], and there is \[3\]",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_wrong_content_with_right_hashes_is_a_named_error(finished, kind):
    change, message = DAMAGE[kind]
    with pytest.raises(CheckpointError, match=message):
        resume_from(finished, change)


@pytest.mark.parametrize(
    "key, value, message",
    [
        (
            "head.bias/moment1_0",
            np.zeros(3, "float32"),
            r"head\.bias/moment1_0 is float32\[3\]; its parameter is \[10\]",
        ),
        ("head.bias/moment1_0", "text", r"head\.bias/moment1_0 is"),
        ("nothing/moment1_0", np.zeros(3, "float32"), "unknown to the model: nothing"),
        ("master_weights", [1], "master_weights holds a list"),
    ],
)
def test_a_damaged_optimizer_state_is_named(finished, key, value, message):
    with pytest.raises(OptimizerStateError, match=message):
        resume_from(finished, lambda parts: parts["pdopt"].update({key: value}))


@pytest.mark.parametrize(
    "overrides, messages",
    [
        (
            ["Optimizer={name: Momentum, momentum: 0.9, lr: {learning_rate: 0.1}}"],
            ["Optimizer.name was AdamW, is Momentum", "Optimizer.lr.name was Cosine, is Constant"],
        ),
        (["Optimizer={name: SGD, lr: {learning_rate: 0.1}}"], ["Optimizer.name was AdamW, is SGD"]),
        (["Optimizer.lr.learning_rate=0.5"], ["Optimizer.lr.learning_rate was 0.003, is 0.5"]),
        (["Optimizer.lr.warmup_epoch=0"], ["Optimizer.lr.warmup_epoch was 1.0, is 0.0"]),
        (["Loss.Train.0.CELoss.epsilon=null"], ["Loss.Train.0.CELoss.epsilon was 0.1, is not set"]),
        (["DataLoader.Train.sampler.batch_size=16"], ["images per optimizer step was 32, is 16"]),
        (["Global.epochs=5", "Global.seed=8"], ["Global.epochs was 1, is 5", "Global.seed was 7, is 8"]),
        (["EMA.decay=0.5"], ["EMA.decay was 0.9, is 0.5"]),
    ],
)
def test_changed_settings_are_told_with_both_values(finished, overrides, messages):
    """The run goes on, but is not the one that would have been."""
    runs, _ = finished
    (runs.output_dir / "train.log").write_text("")
    epochs = [] if any("epochs" in item for item in overrides) else ["Global.epochs=2"]
    trainer = resume_from(finished, lambda parts: None, *overrides, *epochs)
    trainer.run()
    for message in messages:
        assert f"the resumed run differs from the checkpoint's: {message}" in runs.log()
    assert ("Momentum begins afresh" in runs.log()) == ("Momentum" in overrides[0])
    assert np.isfinite(trainer.history[-1]["train_loss"])


def test_the_same_settings_give_no_warning(finished):
    runs, _ = finished
    (runs.output_dir / "train.log").write_text("")
    resume_from(finished, lambda parts: None)
    assert "differs" not in runs.log() and "Finish load checkpoints" in runs.log()


@pytest.mark.compat
def test_a_disk_that_fills_up_within_a_run(runs):
    """The run ends with a sentence, what was saved before is whole, and with space again it goes on exactly."""
    runs.config["Global"].update(eval_during_train=False, save_interval=0, save_interval_steps=1)
    trainer = runs.trainer()
    with watched() as operations:
        trainer.run()
    expected = state_arrays(trainer.model)
    # Not those of the very first save, before which there is nothing to go on from.
    writes = [number for number, kind in enumerate(operations.kinds, 1) if kind == "write"]
    os.rename(runs.output_dir, runs.folder / "unbroken")
    for fatal in (writes[len(writes) // 3], writes[len(writes) // 2], writes[-1]):
        runs.output_dir = runs.folder / f"full_{fatal}"
        runs.config["Global"]["output_dir"] = str(runs.output_dir)
        with watched(fatal, full_disk=True), pytest.raises(CheckpointWriteError, match="No space left on device"):
            runs.train()
        resumed, _ = runs.train(f"Global.checkpoints={runs.output_dir}")
        found = state_arrays(resumed.model)
        assert all(np.array_equal(found[name], array) for name, array in expected.items())
