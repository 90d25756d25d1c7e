"""Reading ``.safetensors`` and ``.npz``: formats without code, whose headers still cannot be trusted."""

from __future__ import annotations

import io
import json
import math
import struct
import tokenize
from pathlib import Path
from typing import Sequence

import numpy as np
from numpy.lib import format as npy
from safetensors import SafetensorError, safe_open

from ppcls_ext.utils.safe_pickle import DamagedFileError, MemoryBudget, UnsafeFileError
from ppcls_ext.weights.files.archive import Archive

_SAFETENSORS_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}

_AXES = 32  # the most that every NumPy takes


def bfloat16_to_float32(bits: np.ndarray) -> np.ndarray:
    """Return the values of bfloat16 numbers, which NumPy lacks, given as ``uint16``: the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def read_safetensors(path: Path, data: memoryview) -> tuple[dict[str, np.ndarray], dict]:
    """Return the tensors by name and the file's metadata; bfloat16 becomes float32, all others are views of the file.

    Raises:
        DamagedFileError: if the header does not describe the file.
        UnsafeFileError: if NumPy has no counterpart of a tensor's type.
    """
    try:
        with safe_open(str(path), framework="numpy") as file:  # checks every offset and size against the file
            metadata = dict(file.metadata() or {})
    except SafetensorError as error:
        raise DamagedFileError(str(error)) from error
    (header_length,) = struct.unpack("<Q", data[:8])
    header = json.loads(bytes(data[8 : 8 + header_length]))
    content = data[8 + header_length :]
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _SAFETENSORS_TYPES:
            raise UnsafeFileError(f"its tensor {name!r} is of the type {entry['dtype']}, which cannot be read")
        check_axes(entry["shape"], f"its tensor {name!r}")
        start, end = entry["data_offsets"]
        array = np.frombuffer(content[start:end], _SAFETENSORS_TYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = bfloat16_to_float32(array) if entry["dtype"] == "BF16" else array
    return tensors, metadata


def check_axes(shape: Sequence, what: str) -> None:
    """Check the number of axes.

    Raises:
        DamagedFileError: if NumPy cannot hold ``what``.
    """
    if len(shape) > _AXES:
        raise DamagedFileError(f"{what} has {len(shape)} axes; expected at most {_AXES}")


def read_npz(archive: Archive, budget: MemoryBudget) -> dict[str, np.ndarray]:
    """Return the arrays of a ``.npz`` archive by name.

    Raises:
        UnsafeFileError: if one holds objects, which would be a pickle, or inflates to far more than the file.
        DamagedFileError: if a header does not describe its member.
    """
    arrays = {}
    for member in archive:
        name = member[: -len(".npy")]
        content = archive.read(member, budget)
        head = io.BytesIO(bytes(content[:65536]))
        version = npy.read_magic(head)
        if version not in ((1, 0), (2, 0)):
            raise DamagedFileError(f"its array {name!r} has the format version {version}, which cannot be read")
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        try:
            shape, fortran, dtype = read_header(head)
        except (SyntaxError, RecursionError, tokenize.TokenError) as error:  # NumPy's, besides ValueError
            raise DamagedFileError(f"its array {name!r} has no readable header: {error}") from error
        if dtype.hasobject or dtype.kind not in "biufc":
            raise UnsafeFileError(f"its array {name!r} is of the type {dtype}, which holds no numbers")
        check_axes(shape, f"its array {name!r}")
        values = content[head.tell() :]
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(values):
            raise DamagedFileError(f"its array {name!r} has {len(values)} bytes, which do not fill its shape {shape}")
        arrays[name] = np.frombuffer(values, dtype).reshape(shape, order="F" if fortran else "C")
    return arrays
