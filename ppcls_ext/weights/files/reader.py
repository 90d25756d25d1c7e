"""Reading files of weights as data, never as code: the front door.

``.pdparams`` and ``.pth`` files are pickles, and a pickle may call any function it names; here it is read by a machine
that builds arrays, numbers, strings and containers, and refuses every other name. Zip members, headers, sizes and
strides are held against the file before memory is taken. So a file from anywhere can be opened safely.

The format is told by the content, never by the suffix.
"""

from __future__ import annotations

import contextlib
import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Optional, Union

import numpy as np

from ppcls_ext.utils.safe_pickle import DAMAGE, DamagedFileError, MemoryBudget, UnsafeFileError
from ppcls_ext.weights.files import array_files, torch_file
from ppcls_ext.weights.files.archive import Archive
from ppcls_ext.weights.files.paddle_file import as_numbers, read_paddle
from ppcls_ext.weights.files.unwrap import unwrap

__all__ = [
    "DamagedFileError",
    "UnsafeFileError",
    "WeightFile",
    "find_weights",
    "pdparams_path",
    "read_pdparams",
    "read_pickle",
    "read_tensor",
    "read_weights",
]

#: Formats, as they are recorded.
TORCH_ZIP, TORCH_LEGACY, SAFETENSORS, NPZ, PADDLE = "torch (zip)", "torch (legacy)", "safetensors", "npz", "paddle"

_NOT_WEIGHTS = {  # first bytes of what is often downloaded instead
    b"<": "a web page",
    b"version https://git-lfs": "a pointer of Git LFS, not the file that it points to",
    b"\x1f\x8b": "compressed by gzip; unpack it first",
}


@dataclass
class WeightFile:
    """Named tensors of a file, as arrays (those of PyTorch and safetensors files are views of the file)."""

    tensors: dict[str, np.ndarray]
    format: str
    wrapper: str = ""  # the key under which they lie
    prefix: str = ""  # what was taken off every name
    skipped: list[str] = field(default_factory=list)  # what lies beside them
    metadata: dict = field(default_factory=dict)  # of a safetensors file


def read_weights(path: Union[str, Path], ema: Optional[bool] = None) -> WeightFile:
    """Return the tensors of a file of PyTorch (zip or legacy), safetensors, NumPy (``.npz``) or Paddle.

    Args:
        path: the file.
        ema: which weights of a training checkpoint that holds two sets: True the moving average, False the others.

    Raises:
        FileNotFoundError: if there is no such file.
        UnsafeFileError: if it asks for anything but data; the message names what it asked for.
        DamagedFileError: if it is cut off, contradicts itself or is in none of these formats.
        ValueError: if it holds something else than named tensors, or two sets and ``ema`` does not say which.
    """
    path = Path(path)
    metadata: dict = {}
    with _opened(path, "is in no known format") as data:
        format, tree = _read(path, data, metadata)
    try:
        found = unwrap(tree, ema)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None
    if format == PADDLE:
        found.tensors = {name: as_numbers(array) for name, array in found.tensors.items()}
    return WeightFile(found.tensors, format, found.wrapper, found.prefix, found.skipped, metadata)


def read_tensor(path: Union[str, Path]) -> np.ndarray:
    """Return the tensor that a file of PyTorch (zip or legacy) holds alone.

    Raises:
        FileNotFoundError, UnsafeFileError, DamagedFileError: see :func:`read_weights`.
        ValueError: if it holds something else.
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
    return PADDLE, read_paddle(data)


@contextlib.contextmanager
def _opened(path: Path, otherwise: str) -> Iterator[memoryview]:
    """Map ``path`` into memory, and turn what goes wrong into an error that names it."""
    with path.open("rb") as file:
        try:
            # An empty file cannot be mapped. Arrays that are views of the mapping keep it alive.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
            yield memoryview(mapped)
        except UnsafeFileError as error:
            raise UnsafeFileError(f"{path} is refused: {error}") from None
        except DAMAGE as error:
            raise DamagedFileError(f"{path} is damaged or {otherwise}: {error}") from error


def read_pickle(path: Union[str, Path]) -> Any:
    """Return what ``paddle.save`` wrote, with every Tensor as a NumPy array.

    Raises:
        FileNotFoundError: if there is no such file.
        UnsafeFileError: if the file asks for anything but data; the message names what it asked for.
        DamagedFileError: if the file is cut off or is no pickle.
    """
    with _opened(Path(path), "was not written by paddle.save") as data:
        return read_paddle(data)


def read_pdparams(path: Union[str, Path]) -> dict[str, np.ndarray]:
    """Return the tensors of a ``.pdparams`` file by name.

    The suffix may be left out, as everywhere in PaddleClas. bfloat16 tensors, which Paddle stores as ``uint16``, come
    back as ``float32``.

    Raises:
        FileNotFoundError: naming the path.
        UnsafeFileError, DamagedFileError: see :func:`read_pickle`.
        ValueError: if the file holds something else than named tensors.
    """
    path = pdparams_path(path)
    state = read_pickle(path)
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}; expected a mapping of names to tensors")
    # Files of old Paddle versions carry a second naming under this key.
    state.pop("StructuredToParameterName@@", None)
    for name, value in state.items():
        if not isinstance(value, (np.ndarray, np.generic)):
            raise ValueError(f"{path}: {name!r} is a {type(value).__name__}; expected a tensor")
    return {name: as_numbers(value) for name, value in state.items()}


def pdparams_path(path: Union[str, Path]) -> Path:
    """Return ``path`` with ``.pdparams`` added where it is missing.

    Raises:
        FileNotFoundError: if neither spelling exists.
    """
    return find_weights(path, (".pdparams",))


def find_weights(path: Union[str, Path], suffixes: tuple = (".pdparams", ".safetensors")) -> Path:
    """Return ``path``, with the first of ``suffixes`` added that makes it a file if it is none itself.

    Raises:
        FileNotFoundError: if no spelling exists.
    """
    path = Path(path)
    candidates = [path, *(path.with_name(path.name + suffix) for suffix in suffixes)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"no weights at {path} (nor at {' or '.join(map(str, candidates[1:]))})")
