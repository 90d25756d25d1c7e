"""Writes PyTorch's two formats without PyTorch, and pickles that ask for anything."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "int16": "ShortStorage",
    "int32": "IntStorage",
    "int64": "LongStorage",
    "bool": "BoolStorage",
}


class Global:
    """A name in the file; nothing of that name has to exist here."""

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name


class Call:
    """The result of calling ``function`` in the reader."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments


class Build:
    """``target`` after its state was set."""

    def __init__(self, target, state):
        self.target, self.state = target, state


class Persistent:
    """A reference out of the pickle, such as that to a storage."""

    def __init__(self, pid):
        self.pid = pid


class Raw:
    """Instructions, as they are."""

    def __init__(self, code: bytes):
        self.code = code


class _Pickler(pickle._Pickler):
    dispatch = dict(pickle._Pickler.dispatch)

    def _global(self, item):
        self.write(pickle.GLOBAL + f"{item.module}\n{item.name}\n".encode())

    def _call(self, item):
        self.save(item.function)
        self.save(item.arguments)
        self.write(pickle.REDUCE)

    def _build(self, item):
        self.save(item.target)
        self.save(item.state)
        self.write(pickle.BUILD)

    def _persistent(self, item):
        self.save(item.pid)
        self.write(pickle.BINPERSID)

    def _raw(self, item):
        self.write(item.code)

    dispatch.update({Global: _global, Call: _call, Build: _build, Persistent: _persistent, Raw: _raw})

    def memoize(self, obj):  # keeps the instructions short
        pass


def pickled(item, protocol: int = 2) -> bytes:
    """Return the pickle of ``item``, which may hold the classes above."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol).dump(item)
    return buffer.getvalue()


def tensor(array: np.ndarray, key: str, offset: int = 0, sizes=None, strides=None, count=None, kind=None) -> Call:
    """Return what PyTorch writes for a tensor; its storage is ``array``."""
    contiguous = [int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim)]
    storage = Global("torch", kind or STORAGES[str(array.dtype)])
    pid = Persistent(("storage", storage, key, "cpu", array.size if count is None else count))
    sizes = tuple(array.shape) if sizes is None else tuple(sizes)
    strides = tuple(contiguous) if strides is None else tuple(strides)
    ordered = Call(Global("collections", "OrderedDict"))
    return Call(Global("torch._utils", "_rebuild_tensor_v2"), pid, offset, sizes, strides, False, ordered)


def state(arrays: dict) -> tuple[dict, dict]:
    """Return a state dict to pickle, and its storages by key."""
    tensors = {name: tensor(array, str(i)) for i, (name, array) in enumerate(arrays.items())}
    return tensors, {str(i): np.ascontiguousarray(array) for i, array in enumerate(arrays.values())}


def write_zip(path, item, storages: dict, more: dict = (), compression=zipfile.ZIP_STORED, byteorder=None):
    """Write the zip format. ``more``: further members."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled(item))
        if byteorder:
            archive.writestr("archive/byteorder", byteorder)
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
        archive.writestr("archive/version", "3\n")
        for name, content in dict(more).items():
            archive.writestr(name, content)


def write_legacy(path, item, storages: dict, counts: dict = ()):
    """Write the format before PyTorch 1.6. ``counts``: item counts to write instead of the true ones."""
    with open(path, "wb") as file:
        system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
        for part in (MAGIC, 1001, system, item, list(storages)):
            file.write(pickled(part))
        for key, array in storages.items():
            file.write(struct.pack("<q", dict(counts).get(key, array.size)) + array.tobytes())


def ordered(items: dict) -> OrderedDict:
    """Return what ``Module.state_dict()`` returns, metadata and all."""
    made = OrderedDict(items)
    made._metadata = OrderedDict([("", {"version": 1})])
    return made
