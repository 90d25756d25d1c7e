"""MultiScaleDataset with MultiScaleSampler: sizes by batch, the same number of pixels, the same for all workers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from data_helpers import NORMALISE

from ppcls_ext.data import build_dataloader
from ppcls_ext.data.build import build_dataset
from ppcls_ext.data.sampler import MultiScaleSampler

pytestmark = pytest.mark.compat

OPS = [{"DecodeImage": None}, {"RandCropImage": {"size": 7, "interpolation": "bicubic"}}, NORMALISE]
SCALES = [16, [8, 24], 35]


def section(image_set, workers=0, ops=OPS, **sampler) -> dict:
    whole = image_set.section(ops, workers=workers)
    whole["dataset"]["name"] = "MultiScaleDataset"
    whole["sampler"] = {"name": "MultiScaleSampler", "scales": SCALES, "first_bs": 6, "divided_factor": 8, **sampler}
    return whole


def sampler(size=100, rank=0, world_size=1, seed=0, **arguments):
    arguments = {"scales": SCALES, "first_bs": 6, "divided_factor": 8, **arguments}
    return MultiScaleSampler(size, **arguments, seed=seed, rank=rank, world_size=world_size)


def test_each_size_takes_as_many_pixels_as_the_first():
    """PaddleClas's rule: 16 * 16 * 6 pixels; 8x24 takes 8 images, 35 is rounded down to 32 and takes 1."""
    planned = sampler(2000)
    counts = {(16, 16): 6, (8, 24): 8, (32, 32): 1}
    drawn = Counter()
    for number, batch in enumerate(planned.batches(3)):
        size = planned.image_size(3, number)
        assert len(batch) == counts[size]
        drawn[size] += 1
    assert set(drawn) == set(counts) and min(drawn.values()) > 0.25 * len(planned)


@pytest.mark.parametrize("world_size", [1, 3])
def test_an_epoch_sees_each_image_and_ranks_the_same_size(world_size):
    ranks = [sampler(rank=rank, world_size=world_size) for rank in range(world_size)]
    for epoch in (0, 1):
        seen = np.concatenate([batch for own in ranks for batch in own.batches(epoch)])
        assert set(seen) == set(range(100)) and len(seen) < 100 + 9 * world_size
        sizes = [[own.image_size(epoch, number) for number in range(len(own))] for own in ranks]
        assert all(other == sizes[0] for other in sizes)
    assert len({len(own) for own in ranks}) == 1
    assert [batch.tolist() for batch in ranks[0].batches(0)] != [batch.tolist() for batch in ranks[0].batches(1)]
    assert sampler().signature() != sampler(scales=[16, 8]).signature()


def test_without_training_there_is_the_first_size_alone():
    planned = sampler(is_training=False, scales=[17, 8])
    assert {planned.image_size(0, number) for number in range(len(planned))} == {(17, 17)}
    assert np.concatenate(planned.batches(0))[:100].tolist() == list(range(100))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_have_the_size_of_their_sampler(image_set, workers):
    loader = build_dataloader(section(image_set, workers), "Train")
    own = loader.sampler
    expected = {}
    for number, batch in enumerate(loader.epoch(1)):
        width, height = own.image_size(1, number)
        assert batch.images.shape[1:] == [3, height, width]
        assert batch.indices.tolist() == own.batches(1)[number].tolist()
        expected[number] = batch.images.numpy()
    resumed = [batch.images.numpy() for batch in loader.epoch(1, start_batch=2)]
    np.testing.assert_array_equal(resumed[0], expected[2])
    loader.close()


def test_the_operators_keep_their_other_arguments(image_set):
    dataset = build_dataset(section(image_set)["dataset"], "Train")
    crop = dataset.transforms_at((24, 8), True).operators[1]
    assert crop.size == (24, 8) and crop.resize.interpolation == "bicubic"
    assert dataset.transforms_at(None, True).operators[1].size == (7, 7)


@pytest.mark.parametrize(
    ("mode", "change", "message"),
    [
        ("Eval", {}, "sampler.name: MultiScaleSampler repeats images; expected DistributedBatchSampler"),
        ("Train", {"dataset": {"name": "ImageNetDataset"}}, "needs dataset.name: MultiScaleDataset"),
        ("Train", {"sampler": {"name": "RASampler"}}, "unknown key 'scales'"),
        ("Train", {"dataset": {"transform_ops": OPS[::2]}}, "expected at least one of them"),
        ("Train", {"sampler": {"scales": None}}, "sampler.scales: the key is missing"),
        ("Train", {"sampler": {"scales": []}}, "scales: expected a list of sizes"),
        ("Train", {"sampler": {"scales": [16, 7]}}, r"scales\[1\]: expected at least divided_factor = 8, got 7"),
        ("Train", {"sampler": {"scales": [[16, 16, 3]]}}, r"scales\[0\]: expected an integer or \[width, height\]"),
        ("Train", {"sampler": {"first_bs": 0}}, "sampler.first_bs: expected an integer of at least 1"),
        ("Train", {"sampler": {"batch_size": 4}}, "unknown key 'batch_size'"),
    ],
)
def test_what_does_not_fit_is_refused(image_set, mode, change, message):
    whole = section(image_set)
    for part, values in change.items():
        whole[part].update(values)
    with pytest.raises(ValueError, match=message):
        build_dataloader(whole, mode)
