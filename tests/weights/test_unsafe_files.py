"""Files made to do harm are refused, by the name of what they tried, and quickly."""

import io
import json
import os
import pickle
import struct
import time
import zipfile

import numpy as np
import pytest
import torch_writer as writer
from torch_writer import Build, Call, Global, Raw

from ppcls_ext.utils.files import NotRegularFileError
from ppcls_ext.weights.files.reader import DamagedFileError, UnsafeFileError, find_weights, read_pickle, read_weights

W = np.ones(4, dtype=np.float32)
NDARRAY, DTYPE = Global("numpy", "ndarray"), Global("numpy", "dtype")
RECONSTRUCT = Global("numpy.core.multiarray", "_reconstruct")
DICT = Global("collections", "OrderedDict")


def array(shape, code="f4", data=b"", reconstruct=((0,), b"b")):
    return Build(Call(RECONSTRUCT, NDARRAY, *reconstruct), (1, shape, Call(DTYPE, code, False, True), False, data))


def write_paddle(path, item):
    path.write_bytes(writer.pickled(item, 2))


def write_zip(path, item):
    writer.write_zip(path, item, {"0": W})


def write_legacy(path, item):
    writer.write_legacy(path, item, {"0": W})


CALLS = {
    "os.system": (Call(Global("os", "system"), "touch owned"), r"os\.system"),
    "posix.system": (Call(Global("posix", "system"), "touch owned"), r"posix\.system"),
    "eval": (Call(Global("builtins", "eval"), "open('owned', 'w')"), r"builtins\.eval"),
    "eval of Python 2": (Call(Global("__builtin__", "eval"), "open('owned', 'w')"), r"__builtin__\.eval"),
    "getattr": (Call(Global("builtins", "getattr"), {}, "clear"), r"builtins\.getattr"),
    "class of ours": (
        Call(Global("ppcls_ext.arch.backbone.sequencer", "Sequencer2D")),
        r"ppcls_ext\.arch\.backbone\.sequencer\.Sequencer2D",
    ),
    "our reader": (
        Call(Global("ppcls_ext.weights.files.reader", "read_pickle"), "x"),
        r"weights\.files\.reader\.read_pickle",
    ),
    "nested torch.load": (Call(Global("torch.storage", "_load_from_bytes"), b""), r"torch\.storage\._load_from_bytes"),
    "numpy.load": (Call(Global("numpy", "load"), "x.npy", None, True), r"numpy\.load"),
    "dotted name": (Call(Global("collections", "OrderedDict.fromkeys"), [1]), r"OrderedDict\.fromkeys"),
    "call of data": (Call("text", 1), "it calls a str"),
    "state of a dict": (Build({}, {"keys": 1}), "the state of a dict"),
    "state of a function": (Build(DICT, {"make": 1}), r"the state of a collections\.OrderedDict"),
    "state of a list": (Build([], (1, 2)), "the state of a list"),
    "__setstate__ of a tensor": (Build(writer.tensor(W, "0"), {"a": 1}), "the state of a|data|persistent"),
    "old-style instance": (Raw(b"(S'touch owned'\nios\nsystem\n"), r"os\.system"),
    "old-style instance of data": (Raw(b"(icollections\nOrderedDict\n"), r"an instance of collections\.OrderedDict"),
    "object by class on the stack": (Raw(b"(ccollections\nOrderedDict\no"), r"an instance of collections\.OrderedDict"),
    "extension registry": (Raw(b"\x82\x01"), "an instance of a class"),
    "array of objects": (array((1,), "O8", [1]), "an array of the type 'O8'"),
    "array of objects by flag": (array((1,), "f4", [Call(Global("os", "system"), "x")]), r"os\.system"),
    "list in place of numbers": (array((1,), "f4", [1.0]), "whose content is a list"),
    "record type": (
        Build(Call(DTYPE, "f4", False, True), (3, "<", None, ("a",), {"a": 1}, 4, 1, 0)),
        "a compound type",
    ),
    "array of another class": (
        Call(RECONSTRUCT, Global("collections", "OrderedDict"), (0,), b"b"),
        r"array of the class 'collections\.OrderedDict'",
    ),
    "codec": (Call(Global("_codecs", "encode"), "x", "rot13"), "the codec 'rot13'"),
}


@pytest.mark.parametrize("write", [write_paddle, write_zip, write_legacy])
@pytest.mark.parametrize("name", CALLS)
def test_nothing_runs(tmp_path, monkeypatch, write, name):
    monkeypatch.chdir(tmp_path)
    item, tried = CALLS[name]
    write(tmp_path / "m.bin", {"w": item})
    with pytest.raises((UnsafeFileError, DamagedFileError), match=tried) as error:
        read_weights(tmp_path / "m.bin")
    if name != "__setstate__ of a tensor" or write is not write_paddle:  # there, a tensor itself is refused
        assert type(error.value) is UnsafeFileError and "m.bin is refused" in str(error.value)
    assert not (tmp_path / "owned").exists()


def test_every_real_pickle_by_reduce(tmp_path):
    """The classic attack, as ``pickle`` itself writes it, at every protocol."""

    class Evil:
        def __reduce__(self):
            return eval, ("1 + 1",)

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "m.pdparams").write_bytes(pickle.dumps({"w": Evil()}, protocol))
        for read in (read_pickle, read_weights):
            with pytest.raises(UnsafeFileError, match=r"builtin(s|__)\.eval"):
                read(tmp_path / "m.pdparams")


def long(number):
    return b"\x8a\x20" + number.to_bytes(32, "little", signed=True)


def colliding(count):
    """A dictionary of integers that Python hashes alike, as a set of instructions."""
    step = (1 << 61) - 1
    return b"}(" + b"".join(long(step * i) + b"N" for i in range(1, count + 1)) + b"u"


HUGE = 1 << 50
SIZES = {
    "array": (array((HUGE,), "f4", b"1234"), "damaged"),
    "array of many axes": (array((HUGE, 0, 2), "f4", b"1234"), "damaged"),
    "_reconstruct of a huge array": (array((1,), "f4", b"1234", reconstruct=((HUGE,), b"d")), None),
    "direct ndarray": (Call(NDARRAY, (HUGE,)), None),
    "bytes": (Raw(b"\x8e" + struct.pack("<Q", HUGE)), "announces"),
    "bytearray": (Raw(b"\x96" + struct.pack("<Q", HUGE)), "announces|damaged"),
    "text": (Raw(b"\x8d" + struct.pack("<Q", HUGE)), "announces"),
    "frame": (Raw(b"\x95" + struct.pack("<Q", HUGE)), "announces"),
    "integer": (Raw(b"\x8b" + struct.pack("<i", 1 << 20) + b"\x01" * (1 << 20)), "an integer of 1048576 bytes"),
    "integer as text": (Raw(b"L" + b"9" * 100_000 + b"L\n"), "an integer of 100000 digits"),
    "memo": (Raw(b"}r\xff\xff\xff\x7f"), None),
    "array of 70 axes": (array((1,) * 70, "f4", b"1234"), "an array of 70 axes; expected at most 32"),
    "hash of nested tuples": (Raw(b"}" + b")" + b"2\x86" * 200 + b"K\x01s"), "a tuple as a key"),
}


@pytest.mark.parametrize("name", SIZES)
def test_no_memory_is_taken_on_the_words_of_a_file(tmp_path, name):
    """A declared size is held against the bytes that are there; what is not data holds no array."""
    item, message = SIZES[name]
    write_paddle(tmp_path / "m.pdparams", {"w": item})
    if message is None:
        value = read_pickle(tmp_path / "m.pdparams")["w"]
        assert getattr(value, "nbytes", 0) <= 4
    else:
        with pytest.raises(DamagedFileError, match=message):
            read_pickle(tmp_path / "m.pdparams")


def test_a_stride_of_zero_cannot_fill_the_memory(tmp_path):
    item = {"w": writer.tensor(W, "0", sizes=(1 << 20, 1 << 20), strides=(0, 0))}
    for write in (write_zip, write_legacy):
        write(tmp_path / "m.pth", item)
        with pytest.raises(UnsafeFileError, match=r"\(1048576, 1048576\) would bring its tensors to 4,398,046,511"):
            read_weights(tmp_path / "m.pth")


def test_many_views_cannot_fill_the_memory(tmp_path):
    """Each is small enough; together they are not."""
    base = np.zeros(1 << 20, dtype=np.float32)
    tensors = {f"w{i}": writer.tensor(base, "0") for i in range(40)}
    writer.write_zip(tmp_path / "m.pth", tensors, {"0": base})
    with pytest.raises(UnsafeFileError, match="would bring its tensors to"):
        read_weights(tmp_path / "m.pth")


@pytest.mark.parametrize(
    ("stored", "call"),
    [
        (b"X" + struct.pack("<I", 1 << 20) + b"x" * (1 << 20), b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"),
        (b"(" + b"N" * (1 << 18) + b"l", b"cbuiltins\ntuple\nh\x00\x85R"),
        (b"(" + b"U\x01a" * (1 << 18) + b"l", b"cbuiltins\nset\nh\x00\x85R"),
        (
            b"(" + b"".join(b"U\x05%05dN\x86" % i for i in range(1 << 15)) + b"l",
            b"cbuiltins\ndict\nh\x00\x85R",
        ),
    ],
    ids=["bytes", "tuple", "set", "dict"],
)
def test_many_copies_of_one_thing_cannot_fill_the_memory(tmp_path, stored, call):
    """What is written once and called upon many times."""
    (tmp_path / "m.pdparams").write_bytes(b"\x80\x02" + stored + b"q\x000(" + call * 5000 + b"l.")
    with pytest.raises(UnsafeFileError, match="a copy of a .* would bring its tensors to"):
        read_weights(tmp_path / "m.pdparams")


def test_the_items_of_an_array_do_not_become_objects(tmp_path):
    for module, name in (("builtins", "tuple"), ("builtins", "set"), ("torch", "Size"), ("collections", "OrderedDict")):
        writer.write_zip(tmp_path / "m.pth", {"w": Call(Global(module, name), writer.tensor(W, "0"))}, {"0": W})
        with pytest.raises(DamagedFileError, match="makes a container of a ndarray"):
            read_weights(tmp_path / "m.pth")


def test_zip_bombs(tmp_path):
    tensors, _ = writer.state({"a": W})
    writer.write_zip(tmp_path / "m.pth", tensors, {"0": np.zeros(1 << 24)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UnsafeFileError, match=r"its member 'archive/data\.pkl' is compressed"):
        read_weights(tmp_path / "m.pth")
    np.savez_compressed(tmp_path / "m.npz", a=np.zeros(1 << 24))  # 128 MB in 130 KB
    with pytest.raises(UnsafeFileError, match=r"its member 'a\.npy' would bring its tensors to 134,217,8"):
        read_weights(tmp_path / "m.npz")


def test_a_member_that_inflates_beyond_its_declared_size(tmp_path):
    np.savez_compressed(tmp_path / "m.npz", a=np.zeros(1000))
    data = (tmp_path / "m.npz").read_bytes()
    true, said = struct.pack("<L", 8000 + 128), struct.pack("<L", 200)
    assert data.count(true) >= 1
    (tmp_path / "m.npz").write_bytes(data.replace(true, said))
    with pytest.raises(DamagedFileError, match="is not 200 bytes long, as it declares"):
        read_weights(tmp_path / "m.npz")


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/etc/passwd", "a/../../x", "..\\x", "C:/x", "a/\\x"])
def test_paths_out_of_the_archive(tmp_path, name):
    tensors, storages = writer.state({"a": W})
    writer.write_zip(tmp_path / "m.pth", tensors, storages, more={name: b"x"})
    with pytest.raises(UnsafeFileError, match="points outside the archive"):
        read_weights(tmp_path / "m.pth")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_comes_twice(tmp_path):
    tensors, storages = writer.state({"a": W})
    writer.write_zip(tmp_path / "m.pth", tensors, storages, more={"archive/data/0": b"0" * 16})
    with pytest.raises(UnsafeFileError, match="two members named 'archive/data/0'"):
        read_weights(tmp_path / "m.pth")


def npy(header: str, content: bytes) -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"x"), UnsafeFileError, "type object"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1048576,)}", b"x"), DamagedFileError, "its shape"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", b""), DamagedFileError, "its shape"),
        (npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}", b"1234"), UnsafeFileError, "type"),
        (npy("__import__('os').system('touch owned')", b""), DamagedFileError, "damaged"),
        (npy("(" * 5000, b""), DamagedFileError, "damaged"),
        (b"\x93NUMPY\x03\x00" + b"\0" * 20, DamagedFileError, "format"),
        (b"no array", DamagedFileError, "magic"),
    ],
)
def test_arrays_of_an_npz(tmp_path, monkeypatch, content, error, message):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("a.npy", content)
    with pytest.raises(error, match=message):
        read_weights(tmp_path / "m.npz")
    assert not (tmp_path / "owned").exists()


def test_a_pickle_in_an_npz(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([{"x": 1}], dtype=object))
    (tmp_path / "m.npz").write_bytes(buffer.getvalue())
    with pytest.raises(UnsafeFileError, match="its array 'a' is of the type object, which holds no numbers"):
        read_weights(tmp_path / "m.npz")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 40]},
        {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]},
        {"dtype": "PY", "shape": [4], "data_offsets": [0, 16]},
    ],
    ids=["offset", "shape", "hole", "backwards", "type"],
)
def test_a_safetensors_header_that_lies(tmp_path, entry):
    header = json.dumps({"w": entry}).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + W.tobytes())
    with pytest.raises(DamagedFileError, match=r"m\.safetensors is damaged"):
        read_weights(tmp_path / "m.safetensors")


def test_a_safetensors_header_longer_than_the_file(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", 1 << 25) + b'{"w":' + W.tobytes())
    with pytest.raises(DamagedFileError, match=r"m\.safetensors is damaged"):
        read_weights(tmp_path / "m.safetensors")


def test_random_damage_never_escapes_as_another_error(tmp_path):
    """Flip bytes anywhere in small valid files: either they still read, or one of the two errors names them."""
    rng = np.random.default_rng(0)
    tensors, storages = writer.state({"a": W, "b": np.arange(6, dtype=np.int64).reshape(2, 3)})
    writer.write_zip(tmp_path / "zip", {"model": tensors, "epoch": 3}, storages)
    writer.write_legacy(tmp_path / "legacy", {"model": tensors, "epoch": 3}, storages)
    np.savez(tmp_path / "npz.npz", a=W, b=W)
    (tmp_path / "paddle").write_bytes(pickle.dumps({"a": W, "n": {"e": (1, 2.5, np.float64(3))}}, protocol=2))
    for name in ("zip", "legacy", "npz.npz", "paddle"):
        data = (tmp_path / name).read_bytes()
        for _ in range(150):
            damaged = bytearray(data)
            for place in rng.integers(0, len(data), 3):
                damaged[place] = rng.integers(0, 256)
            (tmp_path / "damaged").write_bytes(damaged)
            try:
                read_weights(tmp_path / "damaged")
            except (UnsafeFileError, DamagedFileError) as error:
                assert "damaged" in str(error)
            except ValueError as error:  # read, but no weights
                assert "holds" in str(error)


@pytest.mark.parametrize(
    "pickled",
    [
        colliding(60_000),
        # Known text, and the same colliding keys copied again and again.
        colliding(4000) + b"q\x00(" + b"cbuiltins\ndict\nh\x00\x85R" * 1000 + b"l",
        b"cbuiltins\nset\n(" + b"".join(long(((1 << 61) - 1) * i) for i in range(60_000)) + b"l\x85R",
        colliding(4000) + b"q\x00(" + b"cargparse\nNamespace\n)Rh\x00b" * 1000 + b"l",
        b"}(" + b"(" + b"K\x01" * 100_000 + b"tq\x01N" + b"h\x01N" * 100_000 + b"u",
    ],
    ids=["dict", "copies", "set", "state", "long tuples"],
)
def test_no_choice_of_keys_takes_long(tmp_path, pickled):
    """The time is in proportion to the file, not to the square of the number of its keys."""
    (tmp_path / "m.pdparams").write_bytes(b"\x80\x02" + pickled + b".")
    start = time.process_time()
    with pytest.raises((UnsafeFileError, DamagedFileError), match="more than 5,000 keys that are not text|a tuple of"):
        read_weights(tmp_path / "m.pdparams")
    assert time.process_time() - start < 2


def test_integers_as_keys_are_read(tmp_path):
    """As in the state of PyTorch's optimizers."""
    content = {"model": {"w": W}, "optimizer": {"state": {index: {"step": 1} for index in range(2000)}}}
    (tmp_path / "m.pdparams").write_bytes(pickle.dumps(content, 2))
    assert read_pickle(tmp_path / "m.pdparams")["optimizer"]["state"][1999] == {"step": 1}


def test_tensors_of_70_axes(tmp_path):
    tensors = {"w": writer.tensor(W, "0", sizes=(1,) * 70, strides=(1,) * 70)}
    for write in (writer.write_zip, writer.write_legacy):
        write(tmp_path / "m.pth", tensors, {"0": W})
        with pytest.raises(DamagedFileError, match="its tensor has 70 axes; expected at most 32"):
            read_weights(tmp_path / "m.pth")
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(1,) * 70}}}"
        archive.writestr("a.npy", npy(header, b"1234"))
    with pytest.raises(DamagedFileError, match="its array 'a' has 70 axes"):
        read_weights(tmp_path / "m.npz")
    header = json.dumps({"w": {"dtype": "F32", "shape": [1] * 70, "data_offsets": [0, 4]}}).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"1234")
    with pytest.raises(DamagedFileError, match="its tensor 'w' has 70 axes"):
        read_weights(tmp_path / "m.safetensors")


def test_a_name_of_megabytes_is_not_repeated(tmp_path):
    header = json.dumps({"w" * (5 << 20): {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"1")
    with pytest.raises((UnsafeFileError, DamagedFileError)) as error:
        read_weights(tmp_path / "m.safetensors")
    assert len(str(error.value)) < 2000


def test_depth_is_no_traceback(tmp_path):
    """Lists in lists: built without recursion, and named where a number is meant."""
    deep = b"(" * 50_000 + b"K\x01" + b"l" * 50_000
    (tmp_path / "m.pdparams").write_bytes(b"\x80\x02}X\x01\x00\x00\x00w" + deep + b"s.")
    with pytest.raises((DamagedFileError, ValueError), match="m.pdparams"):
        read_weights(tmp_path / "m.pdparams")
    size = Raw(deep)
    writer.write_zip(tmp_path / "m.pth", {"w": writer.tensor(W, "0", sizes=(size,), strides=(1,))}, {"0": W})
    with pytest.raises(DamagedFileError, match="m.pth is damaged"):
        read_weights(tmp_path / "m.pth")


@pytest.mark.parametrize("read", [read_pickle, read_weights, find_weights])
def test_pipes_devices_and_folders_are_named(tmp_path, read):
    """Reading them would never end."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero.pdparams").symlink_to("/dev/zero")
    (tmp_path / "random").symlink_to("/dev/random")
    (tmp_path / "folder").mkdir()
    kinds = {"pipe": "a named pipe", "zero.pdparams": "a device", "random": "a device", "folder": "a folder"}
    for name, kind in kinds.items():
        with pytest.raises(NotRegularFileError, match=f"{name} is {kind}; expected a regular file"):
            read(tmp_path / name)
