"""Reading files of weights as data, never as code: the front door.

``.pdparams`` and ``.pth`` files are pickles, and a pickle may call any function it names. The unpickler here builds
arrays, numbers, strings and containers, and refuses every other name. Zip members, headers, sizes and strides are
checked against the file before memory is allocated. So a file from anywhere can be opened safely.

The content tells the format, never the suffix.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Optional, Union

import numpy as np

from ppcls_ext.utils.files import NotRegularFileError, check_regular, open_regular
from ppcls_ext.utils.safe_pickle import (
    DAMAGE,
    Bytes,
    DamagedFileError,
    DataUnpickler,
    MemoryBudget,
    UnsafeFileError,
)
from ppcls_ext.weights.files import array_files, torch_file
from ppcls_ext.weights.files.archive import Archive
from ppcls_ext.weights.files.unwrap import AmbiguousWeightsError, unwrap

__all__ = [
    "AmbiguousWeightsError",
    "DamagedFileError",
    "UnsafeFileError",
    "WeightFile",
    "find_weights",
    "read_pickle",
    "read_tensor",
    "read_weights",
]

#: Formats, as they are recorded.
TORCH_ZIP, TORCH_LEGACY, SAFETENSORS, NPZ, PADDLE = "torch (zip)", "torch (legacy)", "safetensors", "npz", "paddle"

#: Suffixes that a path of weights may lack.
SUFFIXES = (".pdparams", ".safetensors")

_MESSAGE = 1000  # characters of an error that quotes the file

_NOT_WEIGHTS = {  # first bytes of what is often downloaded instead
    b"<": "a web page",
    b"version https://git-lfs": "a Git LFS pointer, not the file that it points to",
    b"\x1f\x8b": "compressed by gzip; unpack it first",
}


@dataclass
class WeightFile:
    """The named tensors of a file as arrays; those of PyTorch and safetensors files are views of the file."""

    tensors: dict[str, np.ndarray]
    format: str
    wrapper: str = ""  # the key that holds them
    prefix: str = ""  # removed from every name
    skipped: list[str] = field(default_factory=list)  # what the file holds besides
    metadata: dict = field(default_factory=dict)  # of a safetensors file


def read_weights(path: Union[str, Path], ema: Optional[bool] = None) -> WeightFile:
    """Return the tensors of a file of PyTorch (zip or legacy), safetensors, NumPy (``.npz``) or Paddle.

    Args:
        path: the file.
        ema: which weights of a training checkpoint that holds two sets: True the moving average, False the others.

    Raises:
        OSError: if there is no such file, or it is no regular file.
        UnsafeFileError: if it asks for anything but data; the message names what it asked for.
        DamagedFileError: if it is cut off, contradicts itself or is in none of these formats.
        AmbiguousWeightsError: if it holds two sets of weights and ``ema`` does not say which.
        ValueError: if it holds anything but named tensors.
    """
    path = Path(path)
    metadata: dict = {}
    with _opened(path, "is in no known format") as data:
        format, tree = _read(path, data, metadata)
    try:
        found = unwrap(tree, ema)
    except ValueError as error:
        raise type(error)(f"{path} {_short(error)}") from None
    if format == PADDLE:
        found.tensors = {name: _as_numbers(array) for name, array in found.tensors.items()}
    return WeightFile(found.tensors, format, found.wrapper, found.prefix, found.skipped, metadata)


def read_tensor(path: Union[str, Path]) -> np.ndarray:
    """Return the only tensor in a file of PyTorch (zip or legacy).

    Raises:
        OSError, UnsafeFileError, DamagedFileError: see :func:`read_weights`.
        ValueError: if it holds anything else.
    """
    path = Path(path)
    with _opened(path, "is in no known format") as data:
        _, content = _read(path, data, {})
    if not isinstance(content, np.ndarray):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected one tensor")
    return content


def _read(path: Path, data: memoryview, metadata: dict) -> tuple[str, Any]:
    """Return the format and content of a file; ``metadata`` is filled."""
    start = bytes(data[:32])
    budget = MemoryBudget(len(data))
    if start.startswith(b"PK"):
        archive = Archive(path, data)
        if any(map(torch_file.is_main_pickle, archive)):
            return TORCH_ZIP, torch_file.read_zip(archive, budget)
        names = list(archive)
        if names and all(name.endswith(".npy") for name in names):
            return NPZ, array_files.read_npz(archive, budget)
        raise DamagedFileError(f"its members are {', '.join(names[:4]) or 'none'}: neither PyTorch's nor NumPy's")
    if start.startswith(torch_file.LEGACY_START):
        return TORCH_LEGACY, torch_file.read_legacy(data, budget)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000:
        tensors, found = array_files.read_safetensors(path, data)
        metadata.update(found)
        return SAFETENSORS, tensors
    for signature, what in _NOT_WEIGHTS.items():
        if start.lstrip().startswith(signature):
            raise DamagedFileError(f"it is {what}")
    return PADDLE, _read_paddle(data)


def _read_paddle(data: memoryview) -> Any:
    """Return what ``paddle.save`` wrote, its tensors as arrays of their own."""
    return DataUnpickler(Bytes(data), MemoryBudget(len(data))).load()


def _as_numbers(array: np.ndarray) -> np.ndarray:
    """Return the numbers of a tensor of Paddle, which stores bfloat16 as ``uint16``."""
    return array_files.bfloat16_to_float32(array) if array.dtype == np.uint16 else np.asarray(array)


@contextlib.contextmanager
def _opened(path: Path, otherwise: str) -> Iterator[memoryview]:
    """Map ``path`` into memory, and turn what goes wrong into an error that names it."""
    with open_regular(path) as file:
        try:
            # An empty file cannot be mapped. Arrays that are views of the mapping keep it alive.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if os.fstat(file.fileno()).st_size else b""
            yield memoryview(mapped)
        except UnsafeFileError as error:
            raise UnsafeFileError(f"{path} is refused: {_short(error)}") from None
        except DAMAGE as error:
            raise DamagedFileError(f"{path} is damaged or {otherwise}: {_short(error)}") from error


def _short(error: Exception) -> str:
    """Return the message, which may quote what the file holds, at a length that a person reads."""
    text = str(error)
    return text if len(text) <= _MESSAGE else f"{text[:_MESSAGE]}…"


def read_pickle(path: Union[str, Path]) -> Any:
    """Return what ``paddle.save`` wrote, with every Tensor as a NumPy array.

    Raises:
        OSError: if there is no such file, or it is no regular file.
        UnsafeFileError: if the file asks for anything but data; the message names what it asked for.
        DamagedFileError: if the file is cut off or is no pickle.
    """
    with _opened(Path(path), "was not written by paddle.save") as data:
        return _read_paddle(data)


def find_weights(path: Union[str, Path], suffixes: tuple = SUFFIXES) -> Path:
    """Return the file that ``path`` means: itself, or with the first of ``suffixes`` that makes it a file.

    Raises:
        FileNotFoundError: naming every spelling, if there is no such file.
        NotRegularFileError: if there is something else of that name.
    """
    path = Path(path)
    candidates = [path, *(path.with_name(path.name + suffix) for suffix in suffixes if path.name)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    for candidate in candidates:
        if candidate.exists():
            try:
                check_regular(candidate)
            except NotRegularFileError as error:
                inside = sorted(file.stem for file in candidate.glob("*.pdparams")) if candidate.is_dir() else []
                hint = f"; it holds {', '.join(inside[:5])}" if inside else ""
                raise NotRegularFileError(f"{error}{hint}") from None
    raise FileNotFoundError(f"no weights at {path} (nor at {' or '.join(map(str, candidates[1:]))})")
