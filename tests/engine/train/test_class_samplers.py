"""Samplers by class: what is drawn, on any number of ranks, resumed and augmented."""

import numpy as np
import pytest

from ppcls_ext.data.class_sampler import ClassBalancedSampler, RepeatFactorSampler
from ppcls_ext.utils.state_dict import state_arrays

LABELS = np.repeat([0, 1, 2, 4], [400, 80, 16, 4])
BUILD = {
    "balanced": lambda **options: ClassBalancedSampler(LABELS, **{"batch_size": 10, **options}),
    "repeated": lambda **options: RepeatFactorSampler(LABELS, repeat_threshold=0.25, **{"batch_size": 10, **options}),
}


def drawn(sampler, epoch):
    return np.concatenate(sampler.batches(epoch))


def test_balanced_draws_each_class_alike():
    """500 draws an epoch; of 40 epochs each of 4 classes is a quarter, and so is each image of a class in it."""
    sampler = BUILD["balanced"]()
    images = np.concatenate([drawn(sampler, epoch) for epoch in range(40)]) % len(LABELS)
    counts = np.bincount(LABELS[images], minlength=5)
    expected, spread = 40 * 500 / 4, np.sqrt(40 * 500 * 0.25 * 0.75)
    assert counts[3] == 0 and (np.abs(counts[[0, 1, 2, 4]] - expected) < 4 * spread).all()
    rare = np.bincount(images)[-4:]
    assert (np.abs(rare - expected / 4) < 4 * np.sqrt(expected / 4)).all()


def test_repeat_factors_are_those_of_lvis():
    """Shares 0.8, 0.16, 0.032 and 0.008 at 0.25: factors 1, 1.25, 2.795 and 5.590."""
    sampler = BUILD["repeated"]()
    factors = np.array([1, 1.25, np.sqrt(0.25 / 0.032), np.sqrt(0.25 / 0.008)])
    length = 400 + 80 * 1.25 + 16 * factors[2] + 4 * factors[3]
    assert len(drawn(sampler, 0)) == sampler.size == int(np.ceil(length))
    counts = np.array([np.bincount(drawn(sampler, epoch) % len(LABELS), minlength=500) for epoch in range(200)])
    assert counts.min() >= 1
    means = [counts[:, LABELS == label].mean() for label in (0, 1, 2, 4)]
    assert means == pytest.approx(factors, rel=0.01)
    assert set(np.unique(counts[:, LABELS == 1])) == {1, 2} and counts[:, LABELS == 4].max() <= 6


@pytest.mark.parametrize("name", BUILD)
def test_epochs_differ_and_depend_on_the_seed_alone(name):
    first = BUILD[name](seed=3)
    assert np.array_equal(drawn(first, 5), drawn(BUILD[name](seed=3), 5))
    assert not np.array_equal(drawn(first, 5), drawn(first, 6))
    assert not np.array_equal(drawn(first, 5), drawn(BUILD[name](seed=4), 5))


@pytest.mark.parametrize("name", BUILD)
def test_each_occurrence_of_an_image_is_augmented_by_its_own_number(name):
    draws = drawn(BUILD[name](), 1)
    for image in np.unique(draws % len(LABELS)):
        own = np.sort(draws[draws % len(LABELS) == image]) // len(LABELS)
        assert own.tolist() == list(range(len(own)))


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_what_one_process_draws(name, world_size):
    one = BUILD[name](batch_size=12).batches(2)
    ranks = [BUILD[name](batch_size=12 // world_size, rank=r, world_size=world_size) for r in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1
    for step in range(len(one) - 1):
        together = np.concatenate([rank.batches(2)[step] for rank in ranks])
        assert np.array_equal(together, one[step])


@pytest.mark.parametrize("name", BUILD)
def test_a_run_resumes_where_it_stopped(runs, name):
    """Weights after a kill within an epoch and a resumption are those of the run that was not killed."""
    sampler = {"name": "ClassBalancedSampler", "batch_size": 32}
    if name == "repeated":
        sampler = {"name": "RepeatFactorSampler", "batch_size": 32, "repeat_threshold": 0.5}
    runs.config["DataLoader"]["Train"]["sampler"] = sampler
    runs.config["Global"].update(save_interval=0, save_interval_steps=1, eval_during_train=False)
    through, _ = runs.train()
    runs.config["Global"]["overwrite"] = True
    runs.train_until(2, 2)
    resumed, _ = runs.train(f"Global.checkpoints={runs.output_dir / 'latest'}")
    expected = state_arrays(through.model)
    assert all(np.array_equal(array, expected[key]) for key, array in state_arrays(resumed.model).items())
    runs.train_until(2, 2)
    runs.config["DataLoader"]["Train"]["sampler"] = {"batch_size": 32}
    with pytest.raises(ValueError, match="stopped within an epoch"):
        runs.trainer(f"Global.checkpoints={runs.output_dir / 'latest'}")


@pytest.mark.parametrize(
    "split, change, message",
    [
        ("Eval", {"name": "ClassBalancedSampler"}, "ClassBalancedSampler repeats images"),
        ("Train", {"name": "RepeatFactorSampler"}, "RepeatFactorSampler needs it"),
        ("Train", {"name": "ClassBalancedSampler", "shuffle": False}, "draws at random"),
        ("Train", {"name": "ClassBalancedSampler", "repeat_threshold": 0.1}, "needs sampler.name: RepeatFactorSampler"),
    ],
)
def test_mistakes_are_named_before_training(runs, split, change, message):
    runs.config["DataLoader"][split]["sampler"] = {"batch_size": 32, **change}
    with pytest.raises(ValueError, match=message):
        runs.trainer()
