"""Stochastic weight averaging: the mean, its batch statistics, its learning rate, and resumption."""

import numpy as np
import paddle
import pytest
from paddle import nn

from ppcls_ext.config import ConfigError
from ppcls_ext.config.loading import load_config
from ppcls_ext.data.sample import Batch
from ppcls_ext.engine.batch_statistics import update_batch_statistics
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.evaluator import evaluate
from ppcls_ext.engine.precision import Precision
from ppcls_ext.engine.train.checkpoint import load_checkpoint

RESNET = {"name": "ppcls_ext.ResNet18", "class_num": 10, "depths": [1, 1], "planes": [8, 8]}


@pytest.mark.compat
def test_the_mean_of_the_chosen_epochs_evaluated_saved_and_resumed(runs):
    runs.config["Arch"] = dict(RESNET)
    runs.config["SWA"] = {"start_epoch": 2, "freq": 2}
    runs.config["Global"].update(epochs=5, save_interval_steps=1, eval_interval=5)
    _, summary = runs.train()
    epochs = [load_checkpoint(runs.output_dir / f"epoch_{epoch}").parts["pdparams"] for epoch in (2, 4)]
    found = load_checkpoint(runs.output_dir / "swa").parts["pdparams"]
    for name, array in found.items():
        mean = (epochs[0][name].astype(np.float64) + epochs[1][name]) / 2
        if name.endswith(("_mean", "_variance")):
            assert not np.allclose(array, mean, rtol=1e-4), name  # measured for the mean of the weights
        else:
            np.testing.assert_allclose(array, mean, rtol=1e-5, atol=1e-7)
    again = evaluate(load_config(runs.write(), [f"Global.pretrained_model={runs.output_dir / 'swa'}"], mode="eval"))
    assert summary["swa"] == again

    runs.config["Global"].update(output_dir=str(runs.folder / "again"))
    runs.train_until(5, 1)
    _, resumed = runs.train(f"Global.checkpoints={runs.folder / 'again' / 'latest'}")
    assert resumed["swa"] == summary["swa"]
    parts = load_checkpoint(runs.folder / "again" / "swa").parts["pdparams"]
    assert all(np.array_equal(parts[name], array) for name, array in found.items())


def test_the_rate_is_constant_from_the_first_epoch_that_counts(runs):
    runs.config["SWA"] = {"start_epoch": 3, "lr": 0.5}
    runs.config["Global"].update(epochs=4, eval_during_train=False)
    rates = []
    for override in ((), ("Optimizer.lr.by_epoch=True",)):
        trainer = runs.trainer(*override, f"Global.output_dir={runs.folder / f'rates{len(override)}'}")
        step = trainer._step

        def noted(*arguments, step=step, trainer=trainer):
            rates.append(trainer.state.optimizer.get_lr())
            return step(*arguments)

        trainer._step = noted
        trainer.run()
    by_step, by_epoch = np.array(rates[:12]), np.array(rates[12:])
    assert (by_step[6:] == 0.5).all() and (by_epoch[6:] == 0.5).all()
    assert by_step[3] == 0.003 and (np.diff(by_step[3:6]) < 0).all()  # the cosine before it
    assert by_epoch[:6].tolist() == [1e-5] * 3 + [0.003] * 3


class Network(nn.Layer):
    def __init__(self):
        super().__init__()
        self.norms = nn.LayerList([nn.BatchNorm2D(3), nn.BatchNorm2D(3)])
        self.drop = nn.Dropout(0.9)

    def forward(self, x):
        return self.norms[1](self.drop(self.norms[0](x)))


class TwoAlike:
    """A session of two processes that have seen the same."""

    world_size = 2

    def sum(self, values):
        return values * 2


@pytest.mark.parametrize("session", [Session("cpu"), TwoAlike()])
def test_statistics_are_the_mean_over_the_batches_and_dropout_is_off(session):
    model = Network()
    model.norms[1]._use_global_stats = True  # as a frozen one
    rng = np.random.default_rng(0)
    images = [rng.normal(size, size, size=(4, 3, 5, 5)).astype(np.float32) for size in (1, 2, 5)]
    batches = [Batch(paddle.to_tensor(array), paddle.zeros([4], "int64"), np.arange(4), []) for array in images]
    count = update_batch_statistics(model, batches, session, Precision())
    assert count == 3 and model.training and model.drop.training and model.norms[0]._momentum == 0.9
    means, variances = (
        np.mean([getattr(array, name)(axis=(0, 2, 3)) for array in images], axis=0) for name in ("mean", "var")
    )
    np.testing.assert_allclose(model.norms[0]._mean.numpy(), means, rtol=1e-5)
    np.testing.assert_allclose(model.norms[0]._variance.numpy(), variances, rtol=1e-5)
    assert (model.norms[1]._mean.numpy() == 0).all()


@pytest.mark.parametrize(
    "swa, message",
    [
        ({"start_epoch": 3}, "SWA.start_epoch: got 3; expected at most Global.epochs = 2"),
        ({"freq": 2}, "SWA.start_epoch: the key is missing"),
    ],
)
def test_mistakes_are_named_before_training(runs, swa, message):
    runs.config["SWA"] = swa
    with pytest.raises(ConfigError) as error:
        load_config(runs.write())
    assert message in str(error.value)
