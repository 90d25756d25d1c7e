"""Global.base_batch_size: the learning rates of a recipe on another number of images per step."""

import math

import pytest

PEAK, START, END = 4e-3, 1e-4, 1e-3
LR = {"name": "Cosine", "learning_rate": PEAK, "warmup_epoch": 1, "warmup_start_lr": START, "eta_min": END}


@pytest.fixture
def recipe(runs):
    """Three steps of 32 images an epoch, two epochs, the rates stated for 128 images a step."""
    runs.config["Global"]["base_batch_size"] = 128
    runs.config["Optimizer"]["lr"] = dict(LR)
    return runs


def rates(recipe, *overrides):
    """Train and return the learning rate of every step."""
    trainer = recipe.trainer("Global.eval_during_train=False", *overrides)
    step, taken = trainer._step, []

    def recording(*arguments):
        pending = step(*arguments)
        taken.append(pending.lr)
        return pending

    trainer._step = recording
    trainer.run()
    return taken


@pytest.mark.compat
def test_every_rate_is_scaled_and_the_log_says_so(recipe):
    taken = rates(recipe)
    warm_up = [START + (PEAK - START) * step / 3 for step in range(3)]
    decay = [END + (PEAK - END) * share for share in (1, 0.75, 0.25)]  # (1 + cos(pi t / 3)) / 2
    assert taken == pytest.approx([rate / 4 for rate in warm_up + decay])
    assert (
        "learning rates x 0.25: 32 images per optimizer step, the recipe's are stated for 128 "
        "(Global.base_batch_size): learning_rate 0.004 -> 0.001, warmup_start_lr 0.0001 -> 2.5e-05, "
        "eta_min 0.001 -> 0.00025" in recipe.log()
    )


def test_accumulated_batches_count(recipe):
    """96 images in batches of 8, four to a step: 32 images a step again."""
    recipe.train("DataLoader.Train.sampler.batch_size=8", "Global.update_freq=4", "Global.epochs=1")
    assert "learning rates x 0.25: 32 images per optimizer step" in recipe.log()


@pytest.mark.parametrize("stated_for", [32, None])
def test_nothing_is_scaled_where_the_recipe_fits_or_says_nothing(recipe, stated_for):
    recipe.config["Global"]["base_batch_size"] = stated_for
    trainer = recipe.trainer()
    trainer.state.schedule.step(3)
    assert trainer.state.schedule() == PEAK
    assert "learning rates x" not in recipe.log()


def test_a_table_of_rates_is_scaled(recipe):
    recipe.config["Optimizer"]["lr"] = {"name": "Piecewise", "decay_epochs": [1], "values": [0.4, 0.04]}
    trainer = recipe.trainer()
    assert trainer.state.schedule() == pytest.approx(0.1)
    assert "values [0.4, 0.04] -> [0.1, 0.01]" in recipe.log()


@pytest.mark.parametrize(("batch_size", "steps"), [(32, 3), (16, 6)])
def test_resuming_scales_once_and_follows_the_new_batch(recipe, batch_size, steps):
    """The second epoch: the same batch, the rates of the unbroken run; half of it, half of the rates from the start."""
    whole = rates(recipe)
    taken = rates(
        recipe,
        f"Global.checkpoints={recipe.output_dir / 'epoch_1'}",
        f"DataLoader.Train.sampler.batch_size={batch_size}",
    )
    scale = batch_size / 128
    decay = [END + (PEAK - END) * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]
    assert taken == pytest.approx([rate * scale for rate in decay])
    if batch_size == 32:
        assert taken == whole[3:]
