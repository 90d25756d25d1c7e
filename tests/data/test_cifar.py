"""CIFAR from archives in the published format: pixels, labels, checksums, and nothing that a file could run."""

import http.server
import os
import pickle
import tarfile
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import paddle
import pytest
from cifar_files import Archive, as_python_reads_it, rows

from ppcls_ext import cli
from ppcls_ext.config import ConfigError, load_config
from ppcls_ext.data import (
    Cifar10,
    Cifar100,
    DataFileError,
    build_dataloader,
    build_dataset,
    cifar,
    class_names_of,
    inspect_labels,
)

RAW = [{"NormalizeImage": {"scale": 1.0, "mean": [0, 0, 0], "std": [1, 1, 1], "order": ""}}]


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    return Archive(tmp_path, monkeypatch, "Cifar10")


@pytest.fixture
def cifar100(tmp_path, monkeypatch):
    return Archive(tmp_path, monkeypatch, "Cifar100", count=6)


def test_the_archive_of_these_tests_is_what_python_2_wrote(cifar10):
    """The standard library and Paddle's own reader take it, and find the same."""
    with tarfile.open(cifar10.path) as tar:
        batch = as_python_reads_it(tar.extractfile("cifar-10-batches-py/data_batch_2").read())
    np.testing.assert_array_equal(batch["data"], rows(cifar10.pixels["train"][4:8]))
    theirs = paddle.vision.datasets.Cifar10(str(cifar10.path), mode="test", download=False, backend="cv2")
    ours = Cifar10(str(cifar10.path), "test", RAW)
    for sample, (image, label) in zip(ours, theirs):
        np.testing.assert_array_equal(sample.image, image.transpose(2, 0, 1))
        assert sample.label == int(label)


@pytest.mark.compat
@pytest.mark.parametrize("unpacked", (False, True), ids=("archive", "folder"))
@pytest.mark.parametrize("split", ("train", "test"))
def test_pixels_and_labels_of_cifar_10(cifar10, split, unpacked):
    dataset = Cifar10(str(cifar10.unpack() if unpacked else cifar10.path), split, RAW)
    assert len(dataset) == {"train": 20, "test": 4}[split]
    for index, sample in enumerate(dataset):
        np.testing.assert_array_equal(sample.image, cifar10.pixels[split][index].transpose(2, 0, 1))
    assert list(dataset.labels) == cifar10.labels[split]
    assert dataset.image_path(1).endswith(
        {"train": "data_batch_1", "test": "test_batch"}[split] + "/thing_s_000001.png"
    )


@pytest.mark.parametrize("unpacked", (False, True), ids=("archive", "folder"))
def test_class_names_come_from_the_archive(cifar10, cifar100, unpacked):
    """Of the data set, and of its section in a configuration, which export and prediction take them from."""
    for archive, dataset, options, key in (
        (cifar10, Cifar10, {}, "labels"),
        (cifar100, Cifar100, {}, "fine_labels"),
        (cifar100, Cifar100, {"label_mode": "coarse"}, "coarse_labels"),
    ):
        path = str(archive.unpack() if unpacked else archive.path)
        expected = archive.names[key]
        assert dataset(path, "test", RAW, **options).class_names == expected
        assert class_names_of({"name": dataset.__name__, "data_file": path, "mode": "train", **options}) == expected
        assert len(expected) == {"labels": 10, "fine_labels": 100, "coarse_labels": 20}[key]
    assert class_names_of({"name": "Cifar10", "data_file": "nowhere"}) is None


def test_a_folder_without_names(cifar10):
    folder = cifar10.unpack()
    (folder / "batches.meta").write_bytes(b"other")
    with pytest.raises(DataFileError, match="batches.meta has the MD5"):
        Cifar10(str(folder), "test", RAW)
    (folder / "batches.meta").unlink()
    assert Cifar10(str(folder), "test", RAW).class_names is None


@pytest.mark.parametrize("label_mode", ("fine", "coarse"))
def test_labels_of_cifar_100(cifar100, label_mode):
    dataset = Cifar100(str(cifar100.path), "train", RAW, label_mode)
    assert list(dataset.labels) == {"fine": cifar100.labels, "coarse": cifar100.coarse}[label_mode]["train"]
    np.testing.assert_array_equal(dataset[5].image, cifar100.pixels["train"][5].transpose(2, 0, 1))
    assert list(Cifar100(str(cifar100.path), "train").labels) == cifar100.labels["train"]


@pytest.mark.parametrize("to_rgb", (True, False))
def test_decode_image_may_come_first_and_orders_the_channels(cifar10, to_rgb):
    dataset = Cifar10(str(cifar10.path), "test", [{"DecodeImage": {"to_rgb": to_rgb}}, *RAW])
    expected = cifar10.pixels["test"][2].transpose(2, 0, 1)
    np.testing.assert_array_equal(dataset[2].image, expected if to_rgb else expected[::-1])


def section(archive, mode="train", **dataset):
    ops = [{"RandCropImage": {"size": 24}}, {"RandFlipImage": None}, *RAW]
    dataset = {"name": "Cifar10", "data_file": str(archive.path), "mode": mode, "transform_ops": ops, **dataset}
    return {"dataset": dataset, "sampler": {"batch_size": 4, "shuffle": True}, "loader": {"num_workers": 0}}


def test_the_loader_shards_and_resumes_it_like_any_other(cifar10):
    whole = build_dataloader(section(cifar10), "Train", seed=3)
    batches = list(whole.epoch(2))
    later = list(whole.epoch(2, start_batch=3))
    assert [list(b.indices) for b in later] == [list(b.indices) for b in batches[3:]]
    np.testing.assert_array_equal(later[0].images.numpy(), batches[3].images.numpy())
    halves = section(cifar10)
    halves["sampler"]["batch_size"] = 2
    ranks = [build_dataloader(halves, "Train", seed=3, rank=rank, world_size=2) for rank in range(2)]
    for batch, parts in zip(batches, zip(*(rank.epoch(2) for rank in ranks))):
        np.testing.assert_array_equal(batch.images.numpy(), np.concatenate([part.images.numpy() for part in parts]))
        np.testing.assert_array_equal(batch.labels.numpy(), np.concatenate([part.labels.numpy() for part in parts]))


def test_worker_processes_give_the_same_batches(cifar10):
    here = build_dataloader(section(cifar10), "Train", seed=3)
    there = section(cifar10)
    there["loader"]["num_workers"] = 2
    there = build_dataloader(there, "Train", seed=3)
    try:
        for one, other in zip(here.epoch(1), there.epoch(1)):
            np.testing.assert_array_equal(one.images.numpy(), other.images.numpy())
    finally:
        there.close()


def test_a_configuration_check_knows_its_labels(cifar100):
    summary = inspect_labels({"name": "Cifar100", "data_file": str(cifar100.path), "mode": "train"})
    assert (summary.count, summary.max) == (6, max(cifar100.labels["train"]))
    assert "set Arch.class_num to" in summary.problem(10) and summary.problem(100) is None


@pytest.mark.parametrize(
    "argument, value, message",
    (
        ("mode", "eval", "mode: expected one of train, test"),
        ("data_file", "nowhere.tar.gz", "prepare_cifar.py --dataset cifar10"),
    ),
)
def test_a_wrong_argument_is_named(cifar10, argument, value, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        build_dataset(section(cifar10, **{argument: value})["dataset"], "Train")


def test_another_archive_is_refused_with_what_it_is(cifar10, tmp_path, monkeypatch):
    with pytest.raises(DataFileError, match="is cifar-10-python.tar.gz: write name: Cifar10"):
        Cifar100(str(cifar10.path), "train")
    damaged = bytearray(cifar10.path.read_bytes())
    damaged[-20] ^= 1
    cifar10.path.write_bytes(damaged)
    with pytest.raises(DataFileError, match="incomplete or a different file. Delete it; python tools/prepare_cifar.py"):
        Cifar10(str(cifar10.path), "train")


def test_a_changed_file_of_the_folder_is_refused(cifar10):
    folder = cifar10.unpack()
    file = folder / "data_batch_3"
    file.write_bytes(file.read_bytes()[:-1])
    Cifar10(str(folder), "test")
    with pytest.raises(DataFileError, match="data_batch_3 has the MD5 .* unpack cifar-10-python.tar.gz again"):
        Cifar10(str(folder), "train")
    file.unlink()
    with pytest.raises(FileNotFoundError, match="holds no data_batch_3; expected the folder cifar-10-batches-py"):
        Cifar10(str(folder), "train")


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_in_an_archive_is_run(tmp_path, monkeypatch):
    """Even one whose checksum is right."""
    poison = pickle.dumps({"data": Touch(str(tmp_path / "owned"))}, protocol=2)
    archive = Archive(tmp_path, monkeypatch, "Cifar10", poison=poison)
    with pytest.raises(DataFileError, match="data_batch_1: it asks for .*open, which is not data"):
        Cifar10(str(archive.path), "test")
    assert not (tmp_path / "owned").exists()


def test_prepare_cifar_fetches_and_checks(cifar10, tmp_path, monkeypatch, capsys):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/{cifar10.path.name}"
        monkeypatch.setitem(cifar.ARCHIVES, "Cifar10", replace(cifar.ARCHIVES["Cifar10"], url=address))
        output = tmp_path / "fetched"
        assert cli.main(["prepare-cifar", "--output", str(output)]) == 0
        assert "name: Cifar10, data_file:" in capsys.readouterr().out
        assert (output / cifar10.path.name).read_bytes() == cifar10.path.read_bytes()
    finally:
        server.shutdown()
        server.server_close()


CONFIG = Path(__file__).resolve().parents[2] / "configs" / "CIFAR10" / "DilateFormer_Tiny.yaml"


@pytest.mark.compat
@pytest.mark.parametrize(
    "override, message",
    (
        ("Arch.class_num=10", None),
        ("Arch.class_num=9", "set Arch.class_num to 10, or correct the list"),
        ("DataLoader.Train.dataset.data_file=absent.tar.gz", "prepare_cifar.py --dataset cifar10 fetches it from"),
        ("DataLoader.Train.dataset.mode=validation", "validation"),
        ("DataLoader.Train.dataset.download=True", "fetch the archive by python tools/prepare_cifar.py"),
        ("DataLoader.Train.dataset.label_mode=fine", "Cifar10 has no such argument"),
        ("DataLoader.Train.dataset.name=Cifar100", "is cifar-10-python.tar.gz: write name: Cifar10"),
    ),
)
def test_the_configuration_of_cifar_10_and_its_mistakes(cifar10, override, message):
    overrides = [f"DataLoader.{split}.dataset.data_file={cifar10.path}" for split in ("Train", "Eval")]
    overrides += ["Global.device=cpu", override]
    if message is None:
        assert load_config(CONFIG, overrides, mode="train").Arch.class_num == 10
        return
    with pytest.raises(ConfigError, match=message):
        load_config(CONFIG, overrides, mode="train")


def test_an_archive_is_read_once_however_often_it_is_asked_for(cifar10, monkeypatch):
    """The checks of a configuration and the run itself build the data sets of both splits."""
    cifar._read_splits.cache_clear()
    reads = []
    checked = cifar.check_archive
    monkeypatch.setattr(cifar, "check_archive", lambda archive, path: reads.append(path) or checked(archive, path))
    for mode in ("train", "test", "train", "test"):
        Cifar10(str(cifar10.path), mode, None)
    assert len(reads) == 1
    os.utime(cifar10.path, ns=(1, 1))
    Cifar10(str(cifar10.path), "test", None)
    assert len(reads) == 2
