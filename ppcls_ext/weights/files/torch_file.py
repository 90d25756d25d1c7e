"""Reading what ``torch.save`` wrote, without PyTorch: the zip format of 1.6 and later, and the format before it.

Both hold a pickle in which a tensor is a view (offset, sizes, strides) of a storage, and the storages' bytes. The
arrays returned are views of the file's bytes wherever NumPy has the type; bfloat16, which it lacks, becomes float32.
"""

from __future__ import annotations

import functools
import math
import struct
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from ppcls_ext.utils.safe_pickle import (
    Bytes,
    DamagedFileError,
    DataUnpickler,
    MemoryBudget,
    Name,
    UnsafeFileError,
    plain_sequence,
    record,
)
from ppcls_ext.weights.files.archive import Archive
from ppcls_ext.weights.files.array_files import bfloat16_to_float32, check_axes

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = b"\x80\x02\x8a\x0a" + LEGACY_MAGIC.to_bytes(10, "little") + b"."
_LEGACY_PROTOCOL = 1001

_BFLOAT16 = "bfloat16"
#: PyTorch's type -> NumPy's
_TYPES = {
    "float32": "f4",
    "float64": "f8",
    "float16": "f2",
    "bfloat16": _BFLOAT16,
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "int64": "i8",
    "uint64": "u8",
    "bool": "?",
    "complex64": "c8",
    "complex128": "c16",
}
_STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "UntypedStorage": "uint8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}


@dataclass
class _Type:
    """A type of numbers, as the file names it."""

    name: str

    def numpy(self, order: str = "<") -> np.dtype:
        """Return the type of the stored items."""
        code = _TYPES[self.name]
        return np.dtype(order + ("u2" if code == _BFLOAT16 else code))


@dataclass
class _Storage:
    """Bytes in the file, None while they are not known yet, and what they mean."""

    data: Optional[memoryview]
    type: _Type
    count: int
    order: str = "<"


def read_zip(archive: Archive, budget: MemoryBudget) -> Any:
    """Return the object in a zip archive of ``torch.save``, its tensors as arrays.

    Raises:
        UnsafeFileError, DamagedFileError: see :mod:`ppcls_ext.weights.files.reader`.
    """
    folder = next(name for name in archive if is_main_pickle(name)).partition("/")[0]
    if any(name.startswith(f"{folder}/code/") or name == f"{folder}/constants.pkl" for name in archive):
        raise UnsafeFileError("it is a TorchScript program, which is code; save the model's state_dict() instead")
    archive.refuse_compressed()
    order = "<"
    if f"{folder}/byteorder" in archive:
        order = {b"little": "<", b"big": ">"}[bytes(archive.read(f"{folder}/byteorder", budget))]
    storages: dict = {}

    def find(kind: _Type, key: str, count: int, view: Any) -> _Storage:
        if view is not None:
            raise DamagedFileError("it has a view of a storage, which this format does not allow")
        if key not in storages:
            data = archive.read(f"{folder}/data/{key}", budget)
            storages[key] = _Storage(data, kind, count, order)
            if len(data) < count * kind.numpy().itemsize:
                raise DamagedFileError(f"its storage {key!r} has {len(data)} bytes, too few for {count} items")
        return storages[key]

    return _unpickle(Bytes(archive.read(f"{folder}/data.pkl", budget)), find, budget)


def is_main_pickle(name: str) -> bool:
    """Return whether a member is the pickle of a zip archive of ``torch.save``."""
    return name.count("/") == 1 and name.endswith("/data.pkl")


def read_legacy(data: memoryview, budget: MemoryBudget) -> Any:
    """Return the object in a file of PyTorch before 1.6: magic number, protocol, system, object, storages.

    The storages come last, so the object is read twice: once to learn their types, once to build the tensors.

    Raises:
        UnsafeFileError, DamagedFileError: see :mod:`ppcls_ext.weights.files.reader`.
    """
    source = Bytes(data)
    magic, protocol, _system = (DataUnpickler(source, budget).load() for _ in range(3))
    if (magic, protocol) != (LEGACY_MAGIC, _LEGACY_PROTOCOL):
        raise DamagedFileError(f"its protocol is {protocol!r}, not {_LEGACY_PROTOCOL}")
    storages: dict = {}

    def declare(kind: _Type, key: str, count: int, view: Any) -> _Storage:
        return storages.setdefault(key, _Storage(None, kind, count))

    start = source.position
    _unpickle(source, declare, budget)
    keys = DataUnpickler(source, budget).load()
    for key in keys:
        (count,) = struct.unpack("<q", source.read(8))
        storage = storages[key]
        if count != storage.count:
            raise DamagedFileError(f"its storage {key!r} has {count} items where {storage.count} are announced")
        end = source.position + count * storage.type.numpy().itemsize
        if end > len(data):
            raise DamagedFileError("it ends in the middle of a storage")
        storage.data, source.position = data[source.position : end], end

    def find(kind: _Type, key: str, count: int, view: Any) -> _Storage:
        storage = storages[key]
        if storage.data is None:
            raise DamagedFileError(f"its storage {key!r} is missing")
        if view is None:
            return storage
        _view_key, offset, length = view
        _check_integers(offset, length)
        size = storage.type.numpy().itemsize
        return _Storage(storage.data[offset * size : (offset + length) * size], kind, length)

    return _unpickle(Bytes(data, start), find, budget)


def _unpickle(source: Bytes, find_storage: Any, budget: MemoryBudget) -> Any:
    return _TorchUnpickler(source, find_storage, budget).load()


class _TorchUnpickler(DataUnpickler):
    """Adds PyTorch's tensors to what :class:`DataUnpickler` builds."""

    def __init__(self, source: Bytes, find_storage: Any, budget: MemoryBudget):
        tensor = functools.partial(_tensor, budget)
        names = {("torch._utils", name): tensor for name in ("_rebuild_tensor", "_rebuild_tensor_v2")}
        names["torch._utils", "_rebuild_tensor_v3"] = functools.partial(_tensor_of_type, budget)
        super().__init__(source, budget, {**_NAMES, **names})
        self._find_storage = find_storage

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the storage that the file refers to."""
        if pid[0] != "storage":
            raise UnsafeFileError(
                f"it refers to a {pid[0]!r}, which is not data; save the model's state_dict() instead"
            )
        _, kind, key, _location, count, *view = pid
        _check_integers(count)
        if not isinstance(kind, _Type):
            raise DamagedFileError(f"its storage {key!r} is of the type {kind!r}")
        return self._find_storage(kind, str(key), count, view[0] if view else None)


def _tensor(
    budget: MemoryBudget, storage: Any, offset: int, sizes: tuple, strides: tuple, *_flags: Any
) -> Optional[np.ndarray]:
    """Return a view of ``storage``, checked to lie inside it."""
    if not isinstance(storage, _Storage):
        raise DamagedFileError(f"it has a tensor without a storage, but with a {type(storage).__name__}")
    _check_integers(offset, *sizes, *strides)
    check_axes(sizes, "its tensor")
    if len(sizes) != len(strides):
        raise DamagedFileError(f"it has a tensor of {len(sizes)} sizes and {len(strides)} strides")
    if storage.data is None:
        return None
    dtype = storage.type.numpy(storage.order)
    count = math.prod(sizes)
    bfloat16 = storage.type.name == "bfloat16"
    budget.spend(count * dtype.itemsize * (2 if bfloat16 else 1), f"a tensor of the sizes {tuple(sizes)}")
    if count == 0:
        return np.empty(sizes, dtype=np.float32 if bfloat16 else dtype)
    items = np.frombuffer(storage.data, dtype, count=len(storage.data) // dtype.itemsize)
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides))
    if last >= len(items):
        raise DamagedFileError(f"it has a tensor that reaches to item {last} of a storage of {len(items)}")
    in_bytes = [stride * dtype.itemsize for stride in strides]
    view = np.lib.stride_tricks.as_strided(items[offset:], sizes, in_bytes, writeable=False)
    return bfloat16_to_float32(view) if bfloat16 else view


def _tensor_of_type(budget: MemoryBudget, storage: Any, offset: int, sizes: tuple, strides: tuple, *others: Any) -> Any:
    """Return a view of an untyped storage."""
    kind = others[2]  # after requires_grad and hooks
    if not isinstance(storage, _Storage) or not isinstance(kind, _Type):
        raise DamagedFileError("it has a tensor without a storage or type")
    count = storage.count // kind.numpy().itemsize
    return _tensor(budget, _Storage(storage.data, kind, count, storage.order), offset, sizes, strides)


def _parameter(data: Any, *_flags: Any) -> Any:
    return data


def _tensor_subclass(function: Any, _cls: Any, arguments: Any, _state: Any) -> Any:
    """Return a tensor that carries Python attributes, which say nothing about the weights."""
    if not isinstance(function, Name):
        raise UnsafeFileError(f"it calls a {type(function).__name__}, which is not data")
    return function(*arguments)


def _size(sizes: Any = ()) -> tuple:
    return tuple(plain_sequence(sizes))


def _check_integers(*values: Any) -> None:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise DamagedFileError(f"it has the size, stride or offset {value!r}; expected an integer from 0")


_NAMES: dict = {
    **{("torch", name): _Type(kind) for name, kind in _STORAGES.items()},
    **{("torch", name): _Type(name) for name in _TYPES},
    ("torch.storage", "UntypedStorage"): _Type("uint8"),
    ("torch", "Size"): _size,
    ("torch", "device"): record("torch.device"),
    ("torch", "Tensor"): "torch.Tensor",
    ("torch.nn.parameter", "Parameter"): "torch.nn.Parameter",
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _tensor_subclass,
}
