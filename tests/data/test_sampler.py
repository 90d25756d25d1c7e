"""The order of samples: exactness, shares of the ranks, dependence on seed and epoch alone."""

from __future__ import annotations

import numpy as np
import pytest

from ppcls_ext.data.sampler import EpochSampler


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
