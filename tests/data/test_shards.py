"""Tar shards against tarfile, against the list files that they were written from, and against their promises."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import tarfile
import time

import numpy as np
import pytest
from data_helpers import EVAL_OPS, TRAIN_OPS, ImageSet, encode, smooth_pixels
from PIL import Image

from ppcls_ext.data import BadImageError, build_dataloader
from ppcls_ext.data.errors import DataFileError
from ppcls_ext.data.shards import (
    ShardDataset,
    ShardIndex,
    ShardSampler,
    expand,
    index_shards,
    scan,
    shard_files,
    write_shards,
)

COUNT, SAMPLES = 22, 5  # five shards, the last one of two images


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A list of images, and its shards."""
    root = tmp_path_factory.mktemp("packed")
    images = ImageSet(root, COUNT)
    images.shards = write_shards(root, images.list, root / "shards" / "train", samples=SAMPLES, progress=False)
    images.pattern = str(root / "shards" / "train-{000000..000004}.tar")
    return images


@pytest.fixture
def copied(packed, tmp_path):
    """The shards of ``packed``, for a test that damages them."""
    for shard in packed.shards:
        shutil.copy(shard, tmp_path)
        shutil.copy(f"{shard}.index", tmp_path)
    return tmp_path


def section(pattern, ops=TRAIN_OPS, batch_size=4, workers=0, buffer=6, **sampler) -> dict:
    return {
        "dataset": {"name": "ShardDataset", "shards": pattern, "transform_ops": ops, "shuffle_buffer": buffer},
        "sampler": {"batch_size": batch_size, **sampler},
        "loader": {"num_workers": workers},
    }


def contents(batches) -> list:
    return [(batch.indices.tolist(), batch.images.numpy().tobytes(), batch.labels.tolist()) for batch in batches]


# ---- patterns ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("a.tar", ["a.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("a-{8..10}.tar", ["a-8.tar", "a-9.tar", "a-10.tar"]),
        ("{x,yy}/{0..1}", ["x/0", "x/1", "yy/0", "yy/1"]),
    ],
)
def test_braces_expand_as_in_a_shell(pattern, names):
    assert expand(pattern) == names


@pytest.mark.parametrize("pattern", ["a{0..3", "a}", "{a,{b,c}}", "{5..2}", "{}", "{x..z}"])
def test_other_braces_are_refused(pattern):
    with pytest.raises(ValueError, match="shards: "):
        expand(pattern)


# ---- writing and indexing ------------------------------------------------------------------------------------------


@pytest.mark.compat
def test_shards_hold_the_files_of_the_list(packed):
    """By tarfile alone: each image once, its bytes as they were, its label beside it, in WebDataset's layout."""
    listed = {packed.path(index).read_bytes(): index % 3 for index in range(COUNT)}
    found = {}
    for shard in packed.shards:
        with tarfile.open(shard) as archive:
            members = archive.getmembers()
            for image, label in zip(members[::2], members[1::2]):
                assert image.name.endswith(".png") and label.name == image.name[:-4] + ".cls"
                found[archive.extractfile(image).read()] = int(archive.extractfile(label).read())
    assert [len(tarfile.open(shard).getmembers()) // 2 for shard in packed.shards] == [5, 5, 5, 5, 2]
    assert found == listed


def test_written_index_is_that_of_a_scan(packed):
    for shard in packed.shards:
        assert ShardIndex.load(shard) == scan(shard)


def test_the_list_is_mixed_unless_not_wanted(packed, tmp_path):
    in_order = write_shards(packed.root, packed.list, tmp_path / "a", samples=SAMPLES, shuffle=False, progress=False)
    names = [name for shard in in_order for name in ShardIndex.load(shard).names]
    assert names == [f"{index:08d}-{index:03d}.png" for index in range(COUNT)]
    mixed = [name.partition("-")[2] for shard in packed.shards for name in ShardIndex.load(shard).names]
    assert sorted(mixed) == [f"{index:03d}.png" for index in range(COUNT)] != mixed


def test_writing_again_writes_what_is_missing_alone(packed, copied):
    whole = [(copied / f"train-{n:06d}.tar").read_bytes() for n in range(5)]
    times = [(copied / f"train-{n:06d}.tar").stat().st_mtime_ns for n in range(5)]
    (copied / "train-000001.tar").unlink()
    (copied / "train-000003.tar").write_bytes(whole[3][:-700])
    write_shards(packed.root, packed.list, copied / "train", samples=SAMPLES, progress=False)
    assert [(copied / f"train-{n:06d}.tar").read_bytes() for n in range(5)] == whole
    now = [(copied / f"train-{n:06d}.tar").stat().st_mtime_ns for n in range(5)]
    assert [old == new for old, new in zip(times, now)] == [True, False, True, False, True]


def test_a_missing_image_stops_before_anything_is_written(packed, tmp_path):
    (tmp_path / "list.txt").write_text("images/000.png 0\nimages/nowhere.png 1\n")
    with pytest.raises(FileNotFoundError, match="nowhere.png"):
        write_shards(packed.root, tmp_path / "list.txt", tmp_path / "out" / "train", progress=False)
    assert not (tmp_path / "out").exists()


def tar_of(path, members: dict, mode="w") -> str:
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return str(path)


def test_shards_of_other_tools_are_indexed(tmp_path):
    """Folders, points in suffixes, JSON, long and Chinese names, members that do not matter."""
    image = encode(Image.fromarray(smooth_pixels(14, 14)), "JPEG")
    long_name = "猫/" + "x" * 150
    shard = tar_of(
        tmp_path / "theirs.tar",
        {
            "a/1.cls": b"7\n",
            "a/1.jpg": image,
            "a/1.txt": b"a caption",
            "a/2.seg.png": b"no image of ours",
            "a/2.JPG": image + b"\0",
            "a/2.json": json.dumps({"label": 3}).encode(),
            f"{long_name}.jpeg": image,
            f"{long_name}.cls": b"0",
        },
    )
    assert index_shards(shard, progress=False) == 3
    index = ShardIndex.load(shard)
    assert (index.names, index.labels) == (["a/1.jpg", "a/2.JPG", f"{long_name}.jpeg"], [7, 3, 0])
    dataset = ShardDataset(shard, [{"DecodeImage": None}])
    assert [dataset.read(i) for i in range(3)] == [image, image + b"\0", image]
    assert dataset.image_path(2) == f"{shard}:{long_name}.jpeg"


@pytest.mark.parametrize(
    "members, message",
    [
        ({"1.jpg": b"x"}, "'1' has no label"),
        ({"1.cls": b"1", "2.jpg": b"x", "2.cls": b"0"}, "'1' has no image"),
        ({"1.jpg": b"x", "1.png": b"x", "1.cls": b"0"}, "'1' has two images"),
        ({"1.jpg": b"x", "1.cls": b"cat"}, "1.cls: expected an integer"),
        ({"1.jpg": b"x", "1.json": b'{"class": 3}'}, "1.json: expected a key 'label'"),
        ({"1.jpg": b"x", "1.json": b'{"label": "3"}'}, "expected an integer"),
        ({"1.jpg": b"x", "1.cls": b"1_0"}, "1.cls: expected an integer, got b'1_0'"),
        ({"1.jpg": b"x", "1.cls": "\u0661".encode()}, "1.cls: expected an integer"),
        ({"1.jpg": b"x", "1.cls": b"1" * 19}, "1.cls: expected an integer"),
        ({"1.jpg": b"x", "1.cls": b"1", "1.json": b'{"label": 2}'}, "the sample has two labels, 1 and 2"),
        ({"1.json": b'{"label": 2}', "1.jpg": b"x", "1.cls": b"1"}, "the sample has two labels, 2 and 1"),
        ({"1.jpg": b"x", "1.cls": b"1", "1.CLS": b"1"}, "the sample has two labels in .cls"),
        ({"1.jpg": b"x", "1.json": b'{"label": Infinity}'}, "expected JSON: it holds Infinity"),
        ({"1.jpg": b"x", "1.json": b'{"label": %d}' % (2**70)}, "expected an integer"),
        ({"1.jpg": b"x", "1.json": b"[" * 100_000}, "expected JSON"),
        ({"1.jpg": b"x", "1.cls": b"0", "2.jpg": b"x", "2.cls": b"0", "1.txt": b""}, "'1' do not stand together"),
        ({"1.jpg": b"x", "1.cls": b"0", "2.jpg": b"x", "2.cls": b"0", "1.JPG": b"x", "1.CLS": b"1"}, "twice"),
        ({"readme.md": b"x"}, "no image"),
        ({}, "holds no sample"),
    ],
)
def test_what_is_no_shard_is_refused_by_name(tmp_path, members, message):
    with pytest.raises(DataFileError, match=message) as caught:
        index_shards(tar_of(tmp_path / "odd.tar", members), progress=False)
    assert "odd.tar" in str(caught.value)
    assert not (tmp_path / "odd.tar.index").exists()


def test_compressed_and_cut_off_files_are_not_indexed(packed, tmp_path):
    whole = open(packed.shards[0], "rb").read()
    (tmp_path / "cut.tar").write_bytes(whole[: ShardIndex.load(packed.shards[0]).offsets[3] + 10])
    for shard in (str(tmp_path / "cut.tar"), tar_of(tmp_path / "x.tar", {"1.jpg": b"x", "1.cls": b"0"}, "w:gz")):
        with pytest.raises(DataFileError, match="not a whole, uncompressed tar file"):
            scan(shard)


def test_a_file_cut_between_two_members_is_not_indexed(tmp_path):
    """It looks like a whole tar file with fewer samples; only the blocks of zeros at its end are missing."""
    image = encode(Image.fromarray(smooth_pixels(14, 14)), "PNG")
    members = {f"{i}{suffix}": data for i in range(3) for suffix, data in ((".png", image), (".cls", b"0"))}
    shard = tmp_path / "whole.tar"
    whole = open(tar_of(shard, members), "rb").read()
    with tarfile.open(shard) as archive:
        borders = [member.offset for member in archive][1:]
        end = archive.offset
    for border in [border for border in borders[1::2]] + [end]:
        shard.write_bytes(whole[:border])
        with pytest.raises(DataFileError, match="no end-of-archive block"):
            scan(str(shard))
    damaged = bytearray(whole)
    damaged[borders[1] : borders[1] + 20] = b"\1" * 20  # the header of the second sample's image
    shard.write_bytes(damaged)
    with pytest.raises(DataFileError, match="not a whole, uncompressed tar file"):
        scan(str(shard))
    shard.write_bytes(whole)
    assert len(scan(str(shard))) == 3


def test_metadata_beside_a_class_may_hold_the_same_label_or_none(tmp_path):
    members = {"1.jpg": b"x", "1.cls": b"4", "1.json": b'{"label": 4}', "2.jpg": b"x", "2.json": b"{}", "2.cls": b"5"}
    assert scan(tar_of(tmp_path / "odd.tar", members)).labels == [4, 5]


# ---- order ---------------------------------------------------------------------------------------------------------

LENGTHS = [7, 1, 30, 12, 25, 25]
TOTAL = sum(LENGTHS)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_training_shards_between_ranks_without_overlap(world_size):
    ranks = [
        ShardSampler(LENGTHS, 4, buffer=10, shuffle=True, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    drawn = [np.concatenate(rank.batches(5)) for rank in ranks]
    assert len({len(rank) for rank in ranks}) == len({len(samples) for samples in drawn}) == 1
    assert all(len(rank.batches(5)) == len(rank) for rank in ranks)
    every = np.concatenate(drawn)
    assert set(every.tolist()) == set(range(TOTAL)) and len(every) - TOTAL < world_size


@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 120])
def test_evaluation_sees_each_sample_once_in_the_order_of_the_files(world_size):
    ranks = [
        ShardSampler(LENGTHS, 4, buffer=10, rank=rank, world_size=world_size, exact=True) for rank in range(world_size)
    ]
    batches = [rank.batches(0) for rank in ranks]
    assert [len(own) for own in batches] == [len(rank) for rank in ranks]
    assert [index for own in batches for batch in own for index in batch.tolist()] == list(range(TOTAL))


def test_drop_last_gives_full_batches_alone():
    for world_size in (1, 2, 3):
        ranks = [
            ShardSampler(LENGTHS, 8, buffer=10, shuffle=True, drop_last=True, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        batches = [batch for rank in ranks for batch in rank.batches(1)]
        assert [len(batch) for batch in batches] == [8] * (TOTAL // (8 * world_size) * world_size)
        assert len(set(np.concatenate(batches).tolist())) == 8 * len(batches)


def test_shards_are_read_one_after_the_other():
    """At any time the samples drawn so far are the line's first ones but for what the buffer holds."""
    sampler = ShardSampler(LENGTHS, 1, buffer=10, shuffle=True, seed=3)
    line = sampler.order(2).tolist()
    place = {sample: number for number, sample in enumerate(line)}
    drawn = [place[int(sample[0])] for sample in sampler.batches(2)]
    assert all(where <= number + 9 for number, where in enumerate(drawn))
    assert drawn != sorted(drawn)
    shard_of = np.repeat(np.arange(len(LENGTHS)), LENGTHS)[line]
    assert (np.diff(shard_of) != 0).sum() == len(LENGTHS) - 1  # each shard is one run of the line


def test_buffer_draws_evenly():
    """The first sample of a run is any of the first ``buffer``, with equal probability."""
    firsts = [int(ShardSampler([50], 1, buffer=5, shuffle=True, seed=s).batches(0)[0][0]) for s in range(2000)]
    counts = np.bincount(firsts)
    assert len(counts) == 5 and np.abs(counts - 400).max() < 90  # five standard deviations


def test_order_depends_on_seed_epoch_and_rank():
    def order(seed=0, epoch=0, rank=0):
        return np.concatenate(
            ShardSampler([40] * 4, 4, buffer=20, shuffle=True, seed=seed, rank=rank, world_size=2).batches(epoch)
        ).tolist()

    assert order() == order()
    assert len({tuple(order(**change)) for change in ({}, {"seed": 1}, {"epoch": 1}, {"rank": 1})}) == 4


def test_a_full_buffer_is_a_permutation_of_all():
    drawn = np.concatenate(ShardSampler(LENGTHS, 4, buffer=10_000, shuffle=True).batches(0))
    assert sorted(drawn.tolist()) == list(range(TOTAL)) and np.abs(np.diff(drawn)).mean() > 20


# ---- loading -------------------------------------------------------------------------------------------------------


@pytest.mark.compat
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_images_and_labels_are_those_of_the_list(packed, workers):
    """In evaluation, where nothing is drawn: what the list file gives, sample by sample."""
    by_list = build_dataloader({**packed.section(EVAL_OPS, shuffle=False), "loader": {}}, "Eval")
    expected = {}
    for batch in by_list.epoch(0):
        for index, image, label in zip(batch.indices, batch.images.numpy(), batch.labels.numpy()):
            expected[f"{index:03d}.png"] = (image.tobytes(), int(label))
    loader = build_dataloader(section(packed.pattern, EVAL_OPS, workers=workers), "Eval")
    found = {}
    for batch in loader.epoch(0):
        for index, image, label in zip(batch.indices, batch.images.numpy(), batch.labels.numpy()):
            found[loader.dataset.image_path(index).partition("-")[2].rpartition("-")[2]] = (image.tobytes(), int(label))
    loader.close()
    assert found == expected and len(found) == COUNT


@pytest.mark.compat
def test_any_number_of_workers_and_a_resumed_epoch_give_the_same_batches(packed):
    expected = contents(build_dataloader(section(packed.pattern), "Train", seed=3).epoch(2))
    for workers in (1, 2, 3):
        loader = build_dataloader(section(packed.pattern, workers=workers), "Train", seed=3)
        assert contents(loader.epoch(2)) == expected
        assert contents(loader.epoch(2, start_batch=2)) == expected[2:]
        loader.close()


def test_dataset_can_be_pickled_after_reading(packed):
    dataset = ShardDataset(packed.pattern, EVAL_OPS)
    first = dataset[3]
    again = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    np.testing.assert_array_equal(again[3].image, first.image)


def test_few_files_stay_open(packed, monkeypatch):
    monkeypatch.setattr("ppcls_ext.data.shards.dataset.OPEN_SHARDS", 2)
    dataset = ShardDataset(packed.pattern, EVAL_OPS)
    expected = [dataset.read(index) for index in range(COUNT)]
    assert [dataset.read(index) for index in reversed(range(COUNT))] == expected[::-1]
    assert len(dataset._open) == 2


# ---- damage --------------------------------------------------------------------------------------------------------


def damaged_train(copied, workers=0):
    loader = build_dataloader(section(str(copied / "train-{000000..000004}.tar"), workers=workers), "Train")
    batches = list(loader.epoch(0))
    loader.close()
    return loader, sorted(b.index for batch in batches for b in batch.bad), [b for batch in batches for b in batch.bad]


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_image_is_one_counted_line(copied, workers):
    shard = copied / "train-000001.tar"
    index = ShardIndex.load(str(shard))
    data = bytearray(shard.read_bytes())
    data[index.offsets[2] : index.offsets[2] + 40] = bytes(40)
    shard.write_bytes(data)
    _, places, bad = damaged_train(copied, workers)
    assert places == [7] and bad[0].path == f"{shard}:{index.names[2]}" and len(bad[0].reason) > 10
    with pytest.raises(BadImageError, match=index.names[2]):
        list(build_dataloader(section(str(shard), EVAL_OPS), "Eval").epoch(0))


def test_cut_off_shard_costs_its_last_images(copied, caplog):
    shard = copied / "train-000001.tar"
    index = ShardIndex.load(str(shard))
    shard.write_bytes(shard.read_bytes()[: index.offsets[3] + 10])
    _, places, bad = damaged_train(copied)
    assert places == [8, 9]
    assert any(f"10 of the image's {index.sizes[3]} bytes" in image.reason for image in bad)
    assert f"{shard}: has" in caplog.text
    with pytest.raises(DataFileError, match="cut off"):
        build_dataloader(section(str(shard), EVAL_OPS), "Eval")


def test_shard_cut_off_during_evaluation_is_a_named_error(copied):
    shard = copied / "train-000001.tar"
    loader = build_dataloader(section(str(shard), EVAL_OPS), "Eval")
    shard.write_bytes(shard.read_bytes()[:2000])
    with pytest.raises(BadImageError, match=r"train-000001\.tar:0000000.*cut off"):
        list(loader.epoch(0))


def test_index_of_another_file_is_noticed(copied, tmp_path):
    """No image comes with another one's label, even where all sizes agree."""
    for name in ("a", "b"):
        tar_of(tmp_path / f"{name}.tar", {f"{name}.jpg": b"x" * 600, f"{name}.cls": b"0"})
    index_shards(str(tmp_path / "a.tar"), progress=False)
    shutil.copy(tmp_path / "b.tar", tmp_path / "a.tar")
    with pytest.raises(BadImageError, match=r"index belongs to a different file: b\.jpg"):
        ShardDataset(str(tmp_path / "a.tar"), EVAL_OPS)[0]
    shards = [copied / f"train-{number:06d}.tar" for number in (0, 1)]
    sizes = [shard.stat().st_size for shard in shards]
    shutil.copy(shards[1], shards[0])
    with open(shards[0], "ab") as stream:
        stream.truncate(sizes[0])
    dataset = ShardDataset(str(shards[0]), EVAL_OPS, skip_bad=True)
    wrong = [dataset[index] for index in range(5)]
    assert all(getattr(sample, "reason", "").startswith(("the index", "the shard")) for sample in wrong)


def change_index(folder, **first):
    """Change the first value of columns, or another field, of an index."""
    path = folder / "train-000002.tar.index"
    content = json.loads(path.read_text())
    for name, value in first.items():
        content[name] = value if name == "tar_bytes" else value + content[name][1:]
    path.write_text(json.dumps(content))


def make_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda folder: (folder / "train-000002.tar").unlink(), "1 of 5 files do not exist: .*train-000002.tar"),
        (lambda folder: (folder / "train-000002.tar.index").unlink(), "no index; `ppcls_ext index-shards"),
        (lambda folder: (folder / "train-000002.tar.index").write_text("{"), "is not a shard's index"),
        (lambda folder: (folder / "train-000002.tar.index").write_text("[]"), "is not a shard's index"),
        (lambda folder: change_index(folder, offsets=[2**70]), "its place is not within"),
        (lambda folder: change_index(folder, sizes=[2**62]), "its place is not within"),
        (lambda folder: change_index(folder, labels=[2**70]), "the label has more than 18 digits"),
        (lambda folder: change_index(folder, labels=[float("inf")]), "it holds Infinity"),
        (lambda folder: change_index(folder, tar_bytes=float("inf")), "it holds Infinity"),
        (lambda folder: change_index(folder, tar_bytes=2**70), "tar_bytes: expected the size of the shard"),
        (lambda folder: change_index(folder, names=["x" * 50_000_000]), "a name has 50,000,000 letters"),
        (lambda folder: (folder / "train-000002.tar.index").write_text("[" * 10**6), "is not a shard's index"),
        (lambda folder: (folder / "train-000002.tar.index").write_bytes(b"\xff"), "is not a shard's index"),
        (lambda folder: make_pipe(folder / "train-000002.tar.index"), "is a named pipe; expected a regular file"),
        (lambda folder: make_pipe(folder / "train-000002.tar"), "is a named pipe; expected a regular file"),
        (lambda folder: open(folder / "train-000002.tar", "ab").write(b"more"), "writes a new index"),
    ],
)
def test_missing_and_changed_files_are_found_at_the_start(copied, change, message):
    change(copied)
    with pytest.raises((FileNotFoundError, DataFileError), match=message):
        build_dataloader(section(str(copied / "train-{000000..000004}.tar")), "Train")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_samples": 23}, "num_samples: expected 23 samples, the 5 shards hold 22"),
        ({"shuffle_buffer": 0}, "shuffle_buffer"),
        ({"shards": []}, "shards: expected a pattern"),
    ],
)
def test_wrong_arguments(packed, arguments, message):
    with pytest.raises(ValueError, match=message):
        ShardDataset(**{"shards": packed.pattern, "transform_ops": EVAL_OPS, **arguments})
    with pytest.raises(DataFileError, match="more than once"):
        ShardDataset([packed.pattern, packed.shards[1]], EVAL_OPS)


@pytest.mark.parametrize(
    "pattern", ["x-{0..999999999999999}.tar", "{0..9999}{0..9999}.tar", "x-{0..99999999999999999999}.tar"]
)
def test_a_pattern_stands_for_a_bounded_number_of_files(pattern):
    started = time.monotonic()
    with pytest.raises(ValueError, match="stands for .* files; expected at most 1,000,000|expected a range"):
        shard_files(pattern)
    assert time.monotonic() - started < 0.5


def test_other_shards_of_the_same_number_are_noticed(packed, copied, tmp_path):
    pattern = str(copied / "train-{000000..000004}.tar")
    then = build_dataloader(section(pattern), "Train").sampler.signature()
    assert build_dataloader(section(packed.pattern), "Train").sampler.signature() == then
    change_index(copied, labels=[2 if ShardIndex.load(str(copied / "train-000002.tar")).labels[0] < 2 else 0])
    assert build_dataloader(section(pattern), "Train").sampler.signature() != then


def test_repeated_augmentation_is_refused(packed):
    with pytest.raises(ValueError, match="expected DistributedBatchSampler"):
        build_dataloader(section(packed.pattern, name="RASampler"), "Train")
