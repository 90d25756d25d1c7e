"""The loader: the same batches for any number of workers, exact resuming, bad images, failures and signals."""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paddle
import pytest
from data_helpers import EVAL_OPS, NORMALISE, TRAIN_OPS

from ppcls_ext.data import BadImage, BadImageError, TransformError, WorkerDiedError, build_dataloader, build_dataset
from ppcls_ext.data import workers as workers_module
from ppcls_ext.data.workers import WorkerPool

pytestmark = pytest.mark.compat


def digest(batches) -> list[str]:
    """One line a batch: everything that a training step can see."""
    lines = []
    for batch in batches:
        pixels = hashlib.sha1(np.ascontiguousarray(batch.images.numpy())).hexdigest()
        lines.append(f"{pixels} {batch.labels.tolist()} {batch.indices.tolist()} {[str(bad) for bad in batch.bad]}")
    return lines


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def wait_until(condition, seconds=10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def worker_pids(loader) -> list[int]:
    return [process.pid for process in loader._pool.processes]


# ---------------------------------------------------------------- batches


def test_batch(image_set):
    loader = build_dataloader(image_set.section(), "Train", seed=3)
    batches = list(loader.epoch(1))
    assert len(loader) == len(batches) == 6
    assert [len(batch) for batch in batches] == [4, 4, 4, 4, 4, 2]
    for batch in batches:
        assert batch.images.shape == [len(batch), 3, 12, 12] and batch.images.dtype == paddle.float32
        assert batch.labels.shape == [len(batch)] and batch.labels.dtype == paddle.int64
        np.testing.assert_array_equal(batch.labels.numpy(), batch.indices % 3)
    assert sorted(np.concatenate([batch.indices for batch in batches])) == list(range(22))


@pytest.mark.compat
@pytest.mark.parametrize("workers, shared", [(0, True), (2, True), (2, False)])
@pytest.mark.parametrize("last", [[NORMALISE], [NORMALISE, {"ToCHWImage": None}]], ids=["hwc", "chw"])
def test_normalising_on_the_device_gives_the_same_batches(image_set, last, workers, shared):
    """Bit for bit on a CPU, also where a batch lost all its images."""
    ops = [*TRAIN_OPS[:-1], *last]
    for index in range(3):
        image_set.path(index).write_bytes(b"no image")
    section = image_set.section(ops, batch_size=1, workers=workers, shared=shared)
    section["dataset"]["transform_ops"] = ops
    on_host = build_dataloader(section, "Train", seed=3)
    section["loader"]["normalize_on_device"] = True
    on_device = build_dataloader(section, "Train", seed=3)
    assert on_device.dataset.load(5, 0, normalize=False).image.dtype == np.uint8
    batches = list(on_device.epoch(1))
    assert all(batch.images.dtype == paddle.float32 for batch in batches) and sum(len(b.bad) for b in batches) == 3
    assert digest(on_device.epoch(1)) == digest(on_host.epoch(1))
    on_host.close()
    on_device.close()


TO_IMAGENET = {"NormalizeImage": {"scale": 1.0, "order": ""}}


@pytest.mark.parametrize(
    "last",
    [
        [],
        [{"NormalizeImage": {"order": "", "channel_num": 4}}],
        [NORMALISE, {"RandomErasing": {"EPSILON": 0.5}}],
        [{"NormalizeImage": {"mean": [0, 0, 0], "std": [1, 1, 1], "order": ""}}, {"PCALighting": None}, TO_IMAGENET],
    ],
    ids=["none", "four_channels", "not_last", "second"],
)
def test_only_a_last_normalisation_can_be_left_to_the_device(image_set, last):
    section = image_set.section([*TRAIN_OPS[:-1], *last])
    section["loader"]["normalize_on_device"] = True
    with pytest.raises(ValueError, match="loader.normalize_on_device: the last operator must be NormalizeImage"):
        build_dataloader(section, "Train")
    del section["loader"]["normalize_on_device"]
    loader = build_dataloader(section, "Train")  # the host does what there is to do
    for batch in loader.epoch(0):
        for index, image in zip(batch.indices, batch.images.numpy()):
            np.testing.assert_array_equal(image, loader.dataset.load(index, 0).image)
    section["loader"]["normalize_on_device"] = True
    section["dataset"].update(
        transform_ops=TRAIN_OPS, batch_transform_ops=[{"OpSampler": {"MixupOperator": {"alpha": 0.8, "prob": 0.5}}}]
    )
    with pytest.raises(ValueError, match="batch_transform_ops mix normalised images"):
        build_dataloader(section, "Train", class_num=3)


@pytest.mark.parametrize("shared", [True, False], ids=["shared_memory", "pipe"])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_same_batches_for_any_number_of_workers(image_set, workers, shared):
    """Defect 4 and 16: two epochs, each from its own start, bit for bit."""
    single = build_dataloader(image_set.section(), "Train", seed=3)
    several = build_dataloader(image_set.section(workers=workers, shared=shared), "Train", seed=3)
    for epoch in (1, 2):
        assert digest(several.epoch(epoch)) == digest(single.epoch(epoch))
    several.close()


def test_augmentation_depends_on_seed_epoch_and_index_alone(image_set):
    section = image_set.section()["dataset"]

    def image(seed, epoch, index=5):
        dataset = build_dataset(section, "Train", seed=seed)
        dataset.set_epoch(epoch)
        return dataset[index].image.tobytes()

    assert len({image(seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6
    np.random.seed(0)
    first = image(1, 2)
    np.random.seed(1)
    assert image(1, 2) == first


@pytest.mark.parametrize("workers", [0, 2])
def test_start_batch_equals_skipping(image_set, workers, monkeypatch):
    loader = build_dataloader(image_set.section(workers=workers), "Train", seed=3)
    whole = digest(loader.epoch(7))
    loader.close()
    for start in (1, 4, 6):
        assert digest(loader.epoch(7, start_batch=start)) == whole[start:]
    loader.close()
    with pytest.raises(ValueError, match="start_batch: expected 0 to 6, got 7"):
        loader.epoch(7, start_batch=7)


def test_skipped_batches_are_not_read(image_set):
    loader = build_dataloader(image_set.section(shuffle=False), "Train")
    for index in range(8):
        image_set.path(index).unlink()
    assert all(not batch.bad for batch in loader.epoch(0, start_batch=2))


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_together_give_the_batches_of_one_process(image_set, workers):
    one = list(build_dataloader(image_set.section(batch_size=6), "Train", seed=3).epoch(1))
    ranks = [
        build_dataloader(image_set.section(batch_size=3, workers=workers), "Train", seed=3, rank=rank, world_size=2)
        for rank in range(2)
    ]
    for whole, *parts in zip(one, *(loader.epoch(1) for loader in ranks)):
        np.testing.assert_array_equal(np.concatenate([part.images.numpy() for part in parts]), whole.images.numpy())
        np.testing.assert_array_equal(np.concatenate([part.indices for part in parts]), whole.indices)
    for loader in ranks:
        loader.close()


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_is_exact(image_set, world_size):
    section = image_set.section(EVAL_OPS, shuffle=False)
    seen = []
    for rank in range(world_size):
        loader = build_dataloader(section, "Eval", rank=rank, world_size=world_size)
        batches = list(loader.epoch(0))
        assert len(batches) == len(loader)
        seen += [index for batch in batches for index in batch.indices]
    assert sorted(seen) == list(range(22))


def test_a_dataset_can_be_pickled_and_spawned(image_set):
    """What Windows and macOS do; the batches are those of a fork."""
    loader = build_dataloader(image_set.section(), "Train", seed=3)
    assert pickle.loads(pickle.dumps(loader.dataset)).paths == loader.dataset.paths  # noqa: S301 - our own bytes
    pool = WorkerPool(loader.dataset, loader.sampler, 1, start_method="spawn")
    arrays = list(pool.batches(1, 0, 2))
    pool.close()
    for batch, expected in zip(arrays, loader.epoch(1)):
        np.testing.assert_array_equal(batch.images, expected.images.numpy())


# ---------------------------------------------------------------- bad images


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_image_is_left_out_of_training_and_reported(image_set, workers):
    """Defect 23: never replaced by another sample."""
    image_set.path(5).write_bytes(b"")
    loader = build_dataloader(image_set.section(workers=workers), "Train", seed=3)
    image_set.path(9).unlink()  # vanishes during training
    batches = list(loader.epoch(1))
    loader.close()
    bad = sorted((item for batch in batches for item in batch.bad), key=lambda item: item.index)
    assert [(item.index, item.path) for item in bad] == [(5, str(image_set.path(5))), (9, str(image_set.path(9)))]
    assert "empty" in bad[0].reason and "No such file" in bad[1].reason
    assert str(image_set.path(5)) in str(bad[0])
    kept = sorted(index for batch in batches for index in batch.indices)
    assert kept == [index for index in range(22) if index not in (5, 9)]
    assert sum(len(batch.bad) + len(batch) for batch in batches) == 22


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_image_is_an_error_in_evaluation(image_set, workers):
    """Defect 23: the metric never silently is one of other images."""
    image_set.path(9).write_bytes(image_set.path(9).read_bytes()[:-30])
    loader = build_dataloader(image_set.section(EVAL_OPS, workers=workers), "Eval")
    with pytest.raises(BadImageError, match=r"009\.png \(sample 9\): .*truncated"):
        list(loader.epoch(0))
    loader.close()
    assert isinstance(build_dataset(image_set.section()["dataset"], "Train")[9], BadImage)
    with pytest.raises(BadImageError):
        build_dataset(image_set.section()["dataset"], "Eval")[9]


@pytest.mark.parametrize("workers", [0, 1])
def test_batch_without_any_good_image_is_empty(image_set, workers):
    for index in range(4):
        image_set.path(index).write_bytes(b"no image")
    loader = build_dataloader(image_set.section(shuffle=False, workers=workers), "Train")
    batches = list(loader.epoch(0))
    loader.close()
    assert len(batches[0]) == 0 and batches[0].images.shape[0] == 0 and len(batches[0].bad) == 4
    assert len(batches[1]) == 4


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("workers", [0, 2])
def test_failing_operator_ends_the_run_with_its_name(image_set, workers):
    """Defect 15: nothing is retried or swallowed, and the message names sample, operator and place."""
    section = image_set.section([TRAIN_OPS[0], {"CropImage": {"size": 15}}, NORMALISE], shuffle=False, workers=workers)
    loader = build_dataloader(section, "Train")
    with pytest.raises(TransformError) as caught:
        list(loader.epoch(0))
    message = str(caught.value)
    assert f"sample 0, {image_set.path(0)}, operator 1 (CropImage): the image is 16x14" in message
    assert "Traceback" in message and "crop.py" in message
    assert loader._pool is None or loader._pool.closed


@pytest.mark.parametrize("workers", [0, 1])
def test_images_of_different_sizes_are_explained(image_set, workers):
    section = image_set.section([TRAIN_OPS[0], NORMALISE], shuffle=False, workers=workers)
    with pytest.raises(ValueError, match=r"different shapes: sample 0 \[3, 14, 16\], sample 1 \[3, 15, 16\]"):
        list(build_dataloader(section, "Train").epoch(0))


def test_dead_worker_is_an_error_not_a_hang(image_set):
    loader = build_dataloader(image_set.section(workers=2), "Train")
    batches = loader.epoch(0)
    next(batches)
    victims = worker_pids(loader)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerDiedError, match="exit code -9.*num_workers"):
        list(batches)
    assert wait_until(lambda: not any(map(is_alive, victims)))
    assert len(list(loader.epoch(0))) == 6  # and a new epoch starts new ones
    loader.close()


# ---------------------------------------------------------------- lives of the processes


def test_workers_end_when_the_iteration_stops_early(image_set):
    loader = build_dataloader(image_set.section(batch_size=1, workers=2), "Train")
    batches = loader.epoch(0)
    next(batches)
    pids = worker_pids(loader)
    assert all(map(is_alive, pids))
    batches.close()
    assert not any(map(is_alive, pids))


def test_workers_stay_for_the_next_epoch_and_end_with_the_loader(image_set):
    loader = build_dataloader(image_set.section(workers=2), "Train")
    batches = loader.epoch(0)
    for _ in range(len(loader)):
        next(batches)
    batches.close()  # not exhausted, but nothing is outstanding
    pids = worker_pids(loader)
    list(loader.epoch(1))
    assert worker_pids(loader) == pids and all(map(is_alive, pids))
    del loader, batches
    assert not any(map(is_alive, pids))


SCRIPT = """
import json, os, sys, time
sys.path[:0] = json.loads(sys.argv[1])
from ppcls_ext.data import build_dataloader
loader = build_dataloader(json.loads(sys.argv[2]), "Train")
batches = loader.epoch(0)
next(batches)
try:
    print(*[process.pid for process in loader._pool.processes], flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    rest = sum(1 for _ in batches)
    print("finished", rest, flush=True)
"""


def start_script(image_set, script=SCRIPT, *more):
    import json

    arguments = [json.dumps(sys.path), json.dumps(image_set.section(batch_size=1, workers=2))]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    line = process.stdout.readline()
    while line and not line.replace(" ", "").strip().isdigit():  # PaddleClas may print while it is imported
        line = process.stdout.readline()
    return process, [int(pid) for pid in line.split()]


@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_signals_to_the_process_group(image_set, name):
    """Ctrl-C is the main process' alone: it can still finish. When it is killed, its workers do not outlive it."""
    process, pids = start_script(image_set)
    assert len(pids) == 2 and all(map(is_alive, pids))
    os.killpg(process.pid, getattr(signal, name))
    output, _ = process.communicate(timeout=30)
    assert output.strip() == ("finished 21" if name == "SIGINT" else "")
    assert wait_until(lambda: not any(map(is_alive, pids)))


BLOCKED = """
import json, sys, time
sys.path[:0] = json.loads(sys.argv[1])
from ppcls_ext.data import build_dataloader
loader = build_dataloader(json.loads(sys.argv[2]), "Train")
loader.dataset.read = lambda index: open(sys.argv[3], "rb").read()  # a pipe: blocks for good
from ppcls_ext.data.workers import WorkerPool
pool = WorkerPool(loader.dataset, loader.sampler, 2)
[pool._send(number, (0, number)) for number in range(2)]
print(*[process.pid for process in pool.processes], flush=True)
time.sleep(60)
"""


def test_a_worker_that_is_blocked_in_a_read_ends_with_its_run(image_set, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    process, pids = start_script(image_set, BLOCKED, str(tmp_path / "pipe"))
    time.sleep(0.5)
    assert len(pids) == 2 and all(map(is_alive, pids))
    process.kill()
    process.wait(timeout=30)
    assert wait_until(lambda: not any(map(is_alive, pids)))


def test_a_small_shared_memory_does_not_matter(image_set, monkeypatch, caplog):
    """Images use anonymous memory, not /dev/shm; where there is none, pipes, and the log says so once."""
    expected = digest(build_dataloader(image_set.section(), "Train").epoch(0))
    before = set(os.listdir("/dev/shm"))
    loader = build_dataloader(image_set.section(workers=2), "Train")
    batches = loader.epoch(0)
    first = next(batches)
    assert not [name for name in set(os.listdir("/dev/shm")) - before if "ppcls_ext" in name]
    assert digest([first, *batches]) == expected
    loader.close()

    monkeypatch.setattr(workers_module, "_new_memory", lambda content: None)
    loader = build_dataloader(image_set.section(workers=2), "Train")
    with caplog.at_level("INFO", logger="ppcls_ext"):
        assert digest(loader.epoch(0)) == expected
    loader.close()
    assert sum("through pipes" in record.message for record in caplog.records) == 1


# ---------------------------------------------------------------- sections


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("sampler", {"name": "PKSampler"}, "does not support"),
        ("sampler", {"name": "DistributedBatchSampeler"}, "did you mean 'DistributedBatchSampler'"),
        ("sampler", {"batchsize": 3}, "did you mean 'batch_size'"),
        ("sampler", {"batch_size": 2.5}, "batch_size: expected an integer"),
        ("sampler", {"shuffle": "no"}, "shuffle: expected True or False"),
        ("sampler", {"drop_last": True, "batch_size": 23}, "leaves no batch"),
        ("loader", {"num_workers": -1}, "num_workers"),
        ("loader", {"num_workers": 10**9}, "num_workers: expected an integer from 0 to 1024"),
        ("sampler", {"name": ["RASampler"]}, "unknown sampler"),
        ("loader", {"prefetch": 3}, "unknown key 'prefetch'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_mistakes_in_the_section(image_set, part, change, message):
    section = image_set.section()
    section[part].update(change)
    with pytest.raises(ValueError, match=message):
        build_dataloader(section, "Train")


def test_sampler_without_a_name_is_sharded_too(image_set):
    """PaddleClas then gives every process all samples."""
    section = image_set.section(EVAL_OPS, shuffle=False)
    del section["sampler"]["name"]
    seen = [
        index
        for rank in range(2)
        for batch in build_dataloader(section, "Eval", rank=rank, world_size=2).epoch(0)
        for index in batch.indices
    ]
    assert sorted(seen) == list(range(22))
