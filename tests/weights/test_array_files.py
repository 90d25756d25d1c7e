"""safetensors and NumPy archives: every type, and what is no file of weights at all."""

import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from ppcls_ext.weights.files.reader import DamagedFileError, read_weights


@pytest.mark.compat
def test_safetensors_of_every_type(tmp_path):
    kinds = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")
    arrays = {kind: np.arange(6).reshape(2, 3).astype(kind) for kind in (*kinds, "bool")}
    arrays.update(scalar=np.array(2.5, np.float32), empty=np.zeros((0, 3), np.float32))
    save_file(arrays, tmp_path / "m.safetensors", metadata={"format": "pt", "note": "x"})
    file = read_weights(tmp_path / "m.safetensors")
    assert file.format == "safetensors" and file.metadata == {"format": "pt", "note": "x"}
    assert set(file.tensors) == set(arrays)
    for name, array in arrays.items():
        found = file.tensors[name]
        assert found.dtype == array.dtype and found.shape == array.shape and np.array_equal(found, array)


@pytest.mark.compat
def test_bfloat16_of_safetensors(tmp_path):
    """The values that these bits stand for by definition: sign, eight bits of exponent, seven of fraction."""
    bits = struct.pack("<4H", 0x3F80, 0xC020, 0x3E20, 0x43C0)
    header = json.dumps({"w": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bits)
    found = read_weights(tmp_path / "m.safetensors").tensors["w"]
    assert found.dtype == np.float32 and found.tolist() == [[1.0, -2.5], [0.15625, 384.0]]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_numpy(tmp_path, save):
    arrays = {
        "Transformer/encoderblock_0/kernel": np.arange(12.0).reshape(3, 4),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "big": np.array([1.5, -2.0], dtype=">f4"),
        "scalar": np.array(3),
        "empty": np.zeros((0, 2)),
    }
    save(tmp_path / "m.npz", **arrays)
    file = read_weights(tmp_path / "m.npz")
    assert file.format == "npz" and set(file.tensors) == set(arrays)
    assert all(np.array_equal(file.tensors[name], array) for name, array in arrays.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged or is in no known format"),
        (b"<!DOCTYPE html><html>", "it is a web page"),
        (b"\n  <html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (b"\x1f\x8b\x08\x00", "compressed by gzip; unpack it first"),
        (b"ustar" * 100, "damaged or is in no known format"),
        (b"PK\x05\x06" + b"\0" * 18, "its members are none"),
    ],
)
def test_what_is_downloaded_by_mistake(tmp_path, content, message):
    (tmp_path / "m.pth").write_bytes(content)
    with pytest.raises(DamagedFileError, match=rf"m\.pth is damaged or is in no known format: .*{message}|{message}"):
        read_weights(tmp_path / "m.pth")
