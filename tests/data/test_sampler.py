"""The order of samples: exactness, shares of the ranks, dependence on seed and epoch alone."""

from __future__ import annotations

import numpy as np
import pytest

from ppcls_ext.data import build_dataloader
from ppcls_ext.data.sampler import EpochSampler, RASampler


def rank_batches(epoch=1, world_size=1, **options):
    return [EpochSampler(**options, rank=rank, world_size=world_size).batches(epoch) for rank in range(world_size)]


@pytest.mark.parametrize("shuffle", [False, True], ids=["in_order", "shuffled"])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 64, 100, 10_007])
def test_evaluation_sees_each_sample_once(size, world_size, shuffle):
    """Defects 19 and 25: no batch is dropped, none is counted twice, whatever the number of processes."""
    options = {"size": size, "batch_size": 32, "shuffle": shuffle, "exact": True}
    ranks = rank_batches(world_size=world_size, **options)
    seen = np.concatenate([batch for batches in ranks for batch in batches])
    np.testing.assert_array_equal(np.sort(seen), np.arange(size))
    for rank, batches in enumerate(ranks):
        assert len(EpochSampler(**options, rank=rank, world_size=world_size)) == len(batches)
        assert all(0 < len(batch) <= 32 for batch in batches)
    counts = [sum(map(len, batches)) for batches in ranks]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("drop_last", [False, True], ids=["all", "drop_last"])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("size", [97, 100, 10_007])
def test_training_gives_all_ranks_the_same_number(size, world_size, drop_last):
    options = {"size": size, "batch_size": 32, "shuffle": True, "drop_last": drop_last}
    ranks = rank_batches(world_size=world_size, **options)
    shapes = [[len(batch) for batch in batches] for batches in ranks]
    assert all(shape == shapes[0] for shape in shapes)
    assert len(EpochSampler(**options, world_size=world_size)) == len(shapes[0])
    seen = np.concatenate([batch for batches in ranks for batch in batches])
    if drop_last:
        assert (
            set(shapes[0]) <= {32} and len(seen) == len(np.unique(seen)) == size // (32 * world_size) * 32 * world_size
        )
    else:
        assert set(seen) == set(range(size))
        assert len(seen) == -(-size // world_size) * world_size  # at most world_size - 1 samples occur twice


@pytest.mark.parametrize("exact", [False, True], ids=["train", "eval"])
def test_ranks_share_the_batches_of_one_process(exact):
    options = {"size": 96 * 3, "shuffle": True, "seed": 5, "exact": exact}
    one = rank_batches(batch_size=96, **options)[0]
    three = rank_batches(batch_size=32, world_size=3, **options)
    for k, batch in enumerate(one):
        np.testing.assert_array_equal(np.concatenate([batches[k] for batches in three]), batch)


@pytest.mark.compat
def test_training_shares_equal_paddles_sampler():
    from paddle.io import Dataset, DistributedBatchSampler

    class Numbers(Dataset):
        def __getitem__(self, index):
            return index

        def __len__(self):
            return 101

    for rank in range(3):
        expected = list(DistributedBatchSampler(Numbers(), 8, num_replicas=3, rank=rank))
        ours = EpochSampler(101, 8, rank=rank, world_size=3).batches(0)
        assert [batch.tolist() for batch in ours] == expected


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        return EpochSampler(50, 8, shuffle=True, seed=seed).order(epoch).tolist()

    orders = [order(seed, epoch) for seed in (0, 1, 2) for epoch in (0, 1, 2)]
    assert len({tuple(each) for each in orders}) == 9
    np.random.seed(1)
    assert order(1, 2) == order(1, 2) == orders[5]
    assert sorted(order(1, 2)) == list(range(50))


def test_order_is_the_same_everywhere():
    """NumPy freezes RandomState's stream, so runs can be repeated on any version: these numbers must not change."""
    assert EpochSampler(10, 2, shuffle=True, seed=7).order(3).tolist() == [5, 4, 9, 2, 7, 1, 0, 8, 3, 6]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"size": 0}, "at least one sample"),
        ({"rank": 2, "world_size": 2}, "rank"),
        ({"seed": -1}, "seed"),
        ({"drop_last": True, "exact": True}, "every sample once"),
        ({"drop_last": True, "batch_size": 6, "world_size": 2}, "leaves no batch"),
    ],
    ids=["batch_size", "size", "rank", "seed", "exact", "no_batch"],
)
def test_wrong_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        EpochSampler(**{"size": 10, "batch_size": 2, **change})


# ---------------------------------------------------------------- repeated augmentation


def drawn(size, batch_size, world_size=1, epoch=1, **options):
    return [
        RASampler(size, batch_size, rank=r, world_size=world_size, **options).batches(epoch) for r in range(world_size)
    ]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_repeats_meet_in_one_step_with_different_numbers(world_size):
    size, batch_size = 600, 12 // world_size
    ranks = drawn(size, batch_size, world_size, shuffle=True, drop_last=True)
    for k in range(len(ranks[0])):
        step = np.sort(np.concatenate([batches[k] for batches in ranks]))
        images, repeats = step % size, step // size
        assert all(sorted(repeats[images == image]) == [0, 1, 2] for image in np.unique(images))
    # Every rank has a third of the repeats of an image where there are three.
    if world_size == 3:
        for batches in ranks:
            assert len(np.unique(batches[0] % size)) == batch_size


@pytest.mark.parametrize("drop_last", [False, True], ids=["all", "drop_last"])
@pytest.mark.parametrize(("size", "counted"), [(600, 512), (256, 256), (255, 255), (10_007, 9984)])
def test_an_epoch_of_repeats_is_as_long_as_the_dataset(size, counted, drop_last):
    for world_size in (1, 2, 3):
        for rank, batches in enumerate(drawn(size, 32, world_size, shuffle=True, drop_last=drop_last)):
            samples = counted // world_size
            assert sum(map(len, batches)) == (samples // 32 * 32 if drop_last else samples)
            sampler = RASampler(size, 32, rank=rank, world_size=world_size, drop_last=drop_last)
            assert len(sampler) == len(batches) and all(len(batch) == 32 for batch in batches[:-1])


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_repeats_in_the_order_of_the_list_by_hand(rank):
    """PaddleClas's rule: repeat each place, then every third from the rank on, up to 256 / 3 of them."""
    places = np.repeat(np.arange(300), 3)[rank::3][: 256 // 3]
    ours = np.concatenate(RASampler(300, 32, rank=rank, world_size=3).batches(0))
    np.testing.assert_array_equal(ours % 300, places)
    np.testing.assert_array_equal(np.concatenate(RASampler(300, 8, num_repeats=1).batches(0)), np.arange(256))


def test_repeats_depend_on_seed_and_epoch():
    draws = {np.concatenate(drawn(300, 8, shuffle=True, seed=s, epoch=e)[0]).tobytes() for s in (0, 1) for e in (0, 1)}
    assert len(draws) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_repeats": 0}, "num_repeats"),
        ({"drop_last": True, "batch_size": 11}, "no batch is left: 10 samples"),
        ({"size": 1, "world_size": 2}, "no batch is left: 0 samples"),
    ],
    ids=["repeats", "drop_last", "ranks"],
)
def test_wrong_arguments_of_repeats(change, message):
    with pytest.raises(ValueError, match=message):
        RASampler(**{"size": 10, "batch_size": 2, **change})


@pytest.mark.compat
def test_repeats_are_augmented_differently_and_alike_for_any_number_of_workers(image_set):
    section = image_set.section(batch_size=6)
    section["sampler"] = {"name": "RASampler", "batch_size": 6, "num_repeats": 3, "shuffle": True}
    expected = None
    for workers in (0, 3):
        section["loader"]["num_workers"] = workers
        loader = build_dataloader(section, "Train", seed=5)
        batches = list(loader.epoch(1))
        found = [(batch.images.numpy().tobytes(), batch.indices.tolist()) for batch in batches]
        assert expected is None or found == expected
        rest = [(batch.images.numpy().tobytes(), batch.indices.tolist()) for batch in loader.epoch(1, start_batch=2)]
        assert rest == found[2:]
        loader.close()
        expected = found
    assert [len(batch) for batch in batches] == [6, 6, 6, 4]
    for batch in batches[:3]:
        assert len(set(batch.indices)) == 2 and len(np.unique(batch.images.numpy(), axis=0)) == 6
        np.testing.assert_array_equal(batch.labels.numpy(), batch.indices % 3)
    section["sampler"]["shuffle"] = False
    with pytest.raises(ValueError, match="RASampler repeats images"):
        build_dataloader(section, "Eval")
    section["sampler"]["num_repeats"] = "3"
    with pytest.raises(ValueError, match=r"sampler.num_repeats: expected an integer"):
        build_dataloader(section, "Train")
