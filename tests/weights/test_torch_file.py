"""PyTorch's files are read without PyTorch: all types, views and formats."""

from pathlib import Path

import numpy as np
import pytest
import torch_writer as writer

from ppcls_ext.weights.files.reader import DamagedFileError, UnsafeFileError, read_weights

REAL = Path(__file__).parents[1] / "golden" / "torch"
WRITERS = {"zip": writer.write_zip, "legacy": writer.write_legacy}


@pytest.mark.compat
@pytest.mark.parametrize("format", ["zip", "legacy"])
def test_files_of_pytorch_itself(format):
    """Every type and every kind of view equals what PyTorch reads back from its own file."""
    file = read_weights(REAL / f"tensors.{format}.pth")
    values = np.load(REAL / "values.npz")
    assert file.format == f"torch ({format})" and set(file.tensors) == set(values)
    for name, array in file.tensors.items():
        assert array.dtype == values[name].dtype and np.array_equal(array, values[name]), name
    assert file.tensors["bfloat16"].dtype == np.float32 and file.tensors["expanded"].shape == (3, 4)


@pytest.mark.compat
@pytest.mark.parametrize("format", ["zip", "legacy"])
def test_a_training_checkpoint_of_pytorch_itself(format):
    """Optimizer, scheduler, arguments and numbers of NumPy lie beside the weights and are listed."""
    path = REAL / f"checkpoint.{format}.pth"
    with pytest.raises(ValueError, match=r"\(model\) and their moving average \(model_ema\): choose with --ema"):
        read_weights(path)
    raw, averaged = read_weights(path, ema=False), read_weights(path, ema=True)
    assert (raw.wrapper, raw.prefix, averaged.wrapper, averaged.prefix) == ("model", "", "model_ema", "module.")
    assert set(raw.skipped) >= {"model_ema", "optimizer", "args", "max_accuracy", "epoch"}
    names = ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert list(raw.tensors) == list(averaged.tensors) == names
    assert averaged.tensors["1.num_batches_tracked"] == 1 and averaged.tensors["1.running_var"].tolist() == [2.0, 2.0]


def test_a_file_without_checksums():
    """PyTorch can be told to leave them out."""
    assert read_weights(REAL / "no_checksum.zip.pth").tensors["w"].tolist() == [0, 1, 2]


def test_a_whole_model_and_a_program_are_no_weights():
    with pytest.raises(UnsafeFileError, match=r"it asks for torch\.nn\.modules\.linear\.Linear"):
        read_weights(REAL / "whole_model.zip.pth")
    with pytest.raises(UnsafeFileError, match="TorchScript program, which is code"):
        read_weights(REAL / "torchscript.pt")


@pytest.mark.parametrize("format", WRITERS)
def test_views_share_a_storage(tmp_path, format):
    base = np.arange(24, dtype=np.float32)
    views = {
        "offset": writer.tensor(base, "0", offset=20, sizes=(4,), strides=(1,)),
        "transposed": writer.tensor(base, "0", offset=0, sizes=(4, 6), strides=(1, 4)),
        "last": writer.tensor(base, "0", offset=23, sizes=(), strides=()),
    }
    WRITERS[format](tmp_path / "m.pth", views, {"0": base})
    tensors = read_weights(tmp_path / "m.pth").tensors
    assert tensors["offset"].tolist() == [20, 21, 22, 23] and tensors["last"] == 23
    assert np.array_equal(tensors["transposed"], base.reshape(6, 4).T)


def test_views_of_storages_in_the_legacy_format(tmp_path):
    """PyTorch before 0.4 wrote a storage that is part of another one."""
    base = np.arange(10, dtype=np.float32)
    call = writer.tensor(base, "0", sizes=(3,), strides=(1,))
    pid = call.arguments[0].pid
    call.arguments[0].pid = (*pid[:4], 10, ("view", 4, 3))
    writer.write_legacy(tmp_path / "m.pth", {"w": call}, {"0": base})
    assert read_weights(tmp_path / "m.pth").tensors["w"].tolist() == [4, 5, 6]


def test_a_big_endian_file(tmp_path):
    values = np.array([1.5, -2.0], dtype=">f4")
    tensors = {"w": writer.tensor(values.astype("f4"), "0")}
    writer.write_zip(tmp_path / "m.pth", tensors, {"0": values}, byteorder="big")
    assert read_weights(tmp_path / "m.pth").tensors["w"].tolist() == [1.5, -2.0]


@pytest.mark.parametrize("format", WRITERS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offset": 5}, "reaches to item 8 of a storage of 6"),
        ({"strides": (5,)}, "reaches to item 15 of a storage of 6"),
        ({"sizes": (2, 2)}, "2 sizes and 1 strides"),
        ({"sizes": (-1,)}, "the size, stride or offset -1; expected an integer from 0"),
        ({"strides": (-1,)}, "the size, stride or offset -1; expected an integer from 0"),
        ({"count": 7}, "has 24 bytes, too few for 7 items|has 6 items where 7 are announced"),
    ],
)
def test_a_tensor_outside_its_storage_is_damage(tmp_path, format, change, message):
    base = np.arange(6, dtype=np.float32)
    item = {"w": writer.tensor(base, "0", **{"sizes": (4,), "strides": (1,), **change})}
    WRITERS[format](tmp_path / "m.pth", item, {"0": base})
    with pytest.raises(DamagedFileError, match=rf"m\.pth is damaged .*({message})"):
        read_weights(tmp_path / "m.pth")


@pytest.mark.parametrize("format", WRITERS)
def test_a_cut_file_is_damage(tmp_path, format):
    tensors, storages = writer.state({"a": np.ones((4, 5), np.float32), "b": np.zeros(3, np.int64)})
    WRITERS[format](tmp_path / "m.pth", tensors, storages)
    data = (tmp_path / "m.pth").read_bytes()
    for end in [0, 1, 8, 20, *range(30, len(data) - 1, 41), len(data) - 1]:
        (tmp_path / "m.pth").write_bytes(data[:end])
        with pytest.raises(DamagedFileError, match=r"m\.pth is damaged"):
            read_weights(tmp_path / "m.pth")


def test_a_flipped_bit_is_damage(tmp_path):
    tensors, storages = writer.state({"a": np.ones(100, np.float32)})
    writer.write_zip(tmp_path / "m.pth", tensors, storages)
    data = bytearray((tmp_path / "m.pth").read_bytes())
    data[data.index(storages["0"].tobytes()) + 7] ^= 1
    (tmp_path / "m.pth").write_bytes(data)
    with pytest.raises(DamagedFileError, match="the checksum of its member 'archive/data/0' is wrong"):
        read_weights(tmp_path / "m.pth")


def test_metadata_of_a_state_dict_is_no_data(tmp_path):
    item = writer.Build(writer.Call(writer.Global("collections", "OrderedDict")), {"_metadata": {"": {"version": 1}}})
    tensors, storages = writer.state({"a": np.ones(2, np.float32)})
    writer.write_zip(tmp_path / "m.pth", {"state_dict": tensors, "other": item}, storages)
    file = read_weights(tmp_path / "m.pth")
    assert (list(file.tensors), file.wrapper, file.skipped) == (["a"], "state_dict", ["other"])
