"""Early stopping, and the figure that selects the best model."""

import numpy as np
import pytest

from ppcls_ext.config import ConfigError
from ppcls_ext.config.loading import load_config
from ppcls_ext.engine.train.selection import EarlyStopping
from ppcls_ext.utils.state_dict import state_arrays

STOPPING = {"patience": 2, "min_delta": 0.01}


@pytest.mark.parametrize(
    "falls, figures, stopped_after",
    [
        (False, [0.5, 0.6, 0.605, 0.609, 0.9], 4),  # 0.605 and 0.609 exceed 0.6 by less than 0.01
        (False, [0.5, 0.505, 0.52, 0.52, 0.52, 0.9], 5),  # an improvement begins the count again
        (True, [1.0, 0.9, 0.895, 0.95, 0.1], 4),
        (False, [0.5, 0.6, 0.7], None),
    ],
)
def test_patience_counts_evaluations_without_an_improvement(falls, figures, stopped_after):
    watch = EarlyStopping("figure", 2, 0.01, falls)
    found = None
    for epoch, value in enumerate(figures, start=1):
        watch.update(value, epoch)
        if watch.is_over:
            found = epoch
            break
        again = EarlyStopping("figure", 2, 0.01, falls)
        again.load_state(watch.state())
        watch = again  # what a resumed run goes on with
    assert found == stopped_after


def test_a_run_stops_and_its_resumption_too(runs):
    """With a learning rate of almost 0 the loss does not move: the first evaluation and two more are all."""
    runs.config["Global"].update(epochs=9, early_stopping={"metric": "loss", **STOPPING})
    runs.config["Optimizer"]["lr"] = {"learning_rate": 1e-9}
    _, summary = runs.train()
    assert summary["epochs"] == len(summary["history"]) == 3
    assert "loss has not fallen by more than 0.01 in 2 evaluations since epoch 1" in summary["stopped_early"]
    assert "early stopping after epoch 3 of 9: loss" in runs.log()
    _, again = runs.train(f"Global.checkpoints={runs.output_dir / 'latest'}")
    assert again["epochs"] == 3 and again["history"] == [] and again["stopped_early"] == summary["stopped_early"]
    runs.config["Global"]["overwrite"] = True
    half = runs.train_until(3, 1)
    assert half.state.early_stopping.state()["waited"] == 1
    _, resumed = runs.train(f"Global.checkpoints={runs.output_dir / 'latest'}")
    assert resumed["epochs"] == 3


def test_the_loss_selects_and_stops(runs):
    runs.config["Global"].update(epochs=3, best_metric="loss", early_stopping={"metric": "ema_loss", "patience": 3})
    runs.config["EMA"] = {"decay": 0.5}
    trainer, summary = runs.train()
    losses = [figures["eval_loss"] for figures in summary["history"]]
    averaged = [figures["eval_ema_loss"] for figures in summary["history"]]
    assert summary["criterion"] == "loss" and summary["best_metric"] == min(losses)
    assert summary["best_epoch"] == 1 + losses.index(min(losses))
    assert trainer.state.best_ema.metric == min(averaged)
    assert trainer.state.early_stopping.reference.metric == min(averaged) and summary["stopped_early"] is None


def test_the_rate_falls_by_evaluations_and_a_resumed_run_goes_on_from_there(runs):
    """Patience 0 and an accuracy that cannot rise by 100 %: each evaluation after the first halves the rate."""
    runs.config["Optimizer"]["lr"] = {
        **{"name": "ReduceOnPlateau", "learning_rate": 0.008, "factor": 0.5, "patience": 0},
        **{"threshold": 1.0, "threshold_mode": "abs"},
    }
    runs.config["Global"].update(epochs=4, save_interval_steps=1)
    trainer, _ = runs.train()
    assert trainer.state.schedule.mode == "max" and trainer.state.optimizer.get_lr() == pytest.approx(0.001)
    weights = state_arrays(trainer.model)
    runs.config["Global"]["overwrite"] = True
    runs.train_until(3, 2)
    resumed = runs.trainer(f"Global.checkpoints={runs.output_dir / 'latest'}")
    assert resumed.state.optimizer.get_lr() == pytest.approx(0.004)
    resumed.run()
    assert all(np.array_equal(array, weights[name]) for name, array in state_arrays(resumed.model).items())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"early_stopping": {"metric": "topp1", "patience": 1}}, "did you mean top1?"),
        ({"early_stopping": {"metric": "ema_top1", "patience": 1}}, "needs a section EMA"),
        ({"early_stopping": {"metric": "top1"}}, "patience"),
        ({"best_metric": "recall"}, "evaluation has no figure 'recall'"),
        ({"best_metric": "top1", "eval_during_train": False}, "watches an evaluation"),
    ],
)
def test_mistakes_are_named_before_training(runs, changes, message):
    runs.config["Global"].update(changes)
    with pytest.raises(ConfigError) as error:
        load_config(runs.write())
    assert message in str(error.value)


@pytest.mark.parametrize(
    "lr, message",
    [
        ({"name": "ReduceOnPlateau", "mode": "min"}, "got min, but of top1, which it watches, more is better"),
        ({"name": "ReduceOnPlateau", "warmup_epoch": 1}, "ReduceOnPlateau follows the evaluations alone"),
    ],
)
def test_a_plateau_that_cannot_be_followed_is_refused(runs, lr, message):
    runs.config["Optimizer"]["lr"] = {"learning_rate": 0.1, **lr}
    with pytest.raises(ConfigError) as error:
        load_config(runs.write())
    assert message in str(error.value)
