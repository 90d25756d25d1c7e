"""The reader builds arrays and containers, and nothing that runs."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import paddle
import pytest

from ppcls_ext.weights.files.array_files import bfloat16_to_float32
from ppcls_ext.weights.files.reader import DamagedFileError, UnsafeFileError, find_weights, read_pickle, read_weights


def read_tensors(path):
    return read_weights(find_weights(path)).tensors


@pytest.mark.compat
def test_reads_what_paddle_saves(tmp_path):
    state = {"a": paddle.arange(6, dtype="float32").reshape([2, 3]), "n": paddle.to_tensor([1, 2], dtype="int64")}
    paddle.save(state, str(tmp_path / "m.pdparams"))
    read = read_tensors(tmp_path / "m")  # the suffix may be left out
    assert read["a"].tolist() == [[0, 1, 2], [3, 4, 5]] and read["n"].dtype == np.int64


@pytest.mark.compat
def test_reads_nested_tensors_and_plain_values(tmp_path):
    paddle.save({"list": [paddle.ones([2])], "epoch": 3, "metric": 0.5, "none": None}, str(tmp_path / "s.pdstates"))
    read = read_pickle(tmp_path / "s.pdstates")
    assert read["list"][0].tolist() == [1, 1] and (read["epoch"], read["metric"], read["none"]) == (3, 0.5, None)


@pytest.mark.compat
def test_bfloat16_comes_back_as_float32(tmp_path):
    # Values that eight bits of mantissa hold exactly.
    values = [1.0, -2.5, 0.15625, 384.0]
    paddle.save({"w": paddle.to_tensor(values, dtype="bfloat16")}, str(tmp_path / "m.pdparams"))
    assert read_tensors(tmp_path / "m.pdparams")["w"].tolist() == values
    assert bfloat16_to_float32(np.array([0x3F80, 0xC020], dtype=np.uint16)).tolist() == [1.0, -2.5]


class Evil:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (os.system, ("touch owned",), "posix.system"),
        (eval, ("1+1",), r"builtin(s|__)\.eval"),
        (getattr, ({}, "keys"), r"builtin(s|__)\.getattr"),
        (Evil, (print,), "Evil"),
    ],
    ids=["os.system", "eval", "getattr", "own class"],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_anything_that_runs_is_refused_by_name(tmp_path, monkeypatch, function, arguments, named, protocol):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.pdparams").write_bytes(pickle.dumps({"w": Evil(function, *arguments)}, protocol=protocol))
    with pytest.raises(UnsafeFileError, match=rf"m\.pdparams is refused: .*{named}"):
        read_tensors(tmp_path / "m.pdparams")
    assert not (tmp_path / "owned").exists()


def test_cut_file_is_named(tmp_path):
    paddle.save({"a": paddle.ones([100])}, str(tmp_path / "m.pdparams"))
    data = (tmp_path / "m.pdparams").read_bytes()
    for end in (0, 10, len(data) // 2, len(data) - 1):
        (tmp_path / "m.pdparams").write_bytes(data[:end])
        with pytest.raises(DamagedFileError, match=r"m\.pdparams is damaged"):
            read_tensors(tmp_path / "m.pdparams")


def test_codec_that_is_not_latin1_is_refused(tmp_path):
    import codecs

    (tmp_path / "m.pdparams").write_bytes(pickle.dumps({"w": Evil(codecs.encode, "x", "rot13")}, protocol=2))
    with pytest.raises(UnsafeFileError, match="the codec 'rot13'"):
        read_tensors(tmp_path / "m.pdparams")


@pytest.mark.compat
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_every_protocol_of_paddle_save(tmp_path, protocol):
    paddle.save({"w": paddle.to_tensor([1.5, -2.0])}, str(tmp_path / "m.pdparams"), protocol=protocol)
    assert read_tensors(tmp_path / "m")["w"].tolist() == [1.5, -2.0]


def test_ordered_dict_and_old_paddle_key(tmp_path):
    state = OrderedDict(a=np.ones(2, dtype=np.float32))
    state["StructuredToParameterName@@"] = {"a": "linear_0.w_0"}
    (tmp_path / "m.pdparams").write_bytes(pickle.dumps(state, protocol=2))
    assert list(read_tensors(tmp_path / "m")) == ["a"]


def test_the_folder_of_a_run_is_no_file_of_weights(tmp_path):
    (tmp_path / "best_model.pdparams").write_bytes(b"")
    with pytest.raises(OSError, match="is a folder; expected a regular file; it holds best_model$"):
        find_weights(tmp_path)


def test_missing_file_names_both_spellings(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no weights at .*best \(nor at .*best\.pdparams or .*best\.safetensors\)"
    ):
        read_tensors(tmp_path / "best")


def test_not_a_mapping_is_an_error(tmp_path):
    (tmp_path / "m.pdparams").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match="holds a list; expected a mapping"):
        read_tensors(tmp_path / "m")
    (tmp_path / "m.pdparams").write_bytes(pickle.dumps({"a": "text"}))
    with pytest.raises(ValueError, match="holds no tensors; its keys are a"):
        read_tensors(tmp_path / "m")
