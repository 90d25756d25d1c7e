"""Reading ``paddle.save`` files as data, never as code.

A ``.pdparams`` file is a pickle, and a pickle may call any function it names. :func:`read_pickle` builds arrays,
numbers, strings and containers, and refuses every other name, so that a file from anywhere can be opened safely.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, Union

import numpy as np


class UnsafeFileError(ValueError):
    """The file names something that is not data."""


class DamagedFileError(ValueError):
    """The file ends early or is not a pickle."""


def _tensor_from_parts(parts: tuple = ()) -> np.ndarray:
    """Rebuild a nested Tensor: Paddle reduces it to ``tuple((name, array))``."""
    items = tuple(parts)
    if len(items) == 2 and isinstance(items[0], str) and isinstance(items[1], np.ndarray):
        return items[1]
    return items


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """Rebuild bytes, which pickle protocol 2 (PaddleClas's published weights) writes as Latin-1 text."""
    if encoding != "latin1":
        raise UnsafeFileError(f"it asks for the codec {encoding!r}, which is not data")
    return text.encode("latin1")


# NumPy 2 moved its private modules; a file written by either NumPy is read by either.
_multiarray = getattr(np, "_core", None) or np.core
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("builtins", "tuple"): _tensor_from_parts,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin1_bytes,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED[_module, "_reconstruct"] = _multiarray.multiarray._reconstruct
    _ALLOWED[_module, "scalar"] = _multiarray.multiarray.scalar


class _DataUnpickler(pickle.Unpickler):
    """An unpickler that knows arrays and containers, and nothing that runs."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise UnsafeFileError(f"it asks for {module}.{name}, which is not data") from None


def read_pickle(path: Union[str, Path]) -> Any:
    """Return what ``paddle.save`` wrote, with every Tensor as a NumPy array.

    Raises:
        FileNotFoundError: if there is no such file.
        UnsafeFileError: if the file asks for anything but data; the message names what it asked for.
        DamagedFileError: if the file is cut off or is no pickle.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            return _DataUnpickler(file).load()
        except UnsafeFileError as error:
            raise UnsafeFileError(f"{path} is refused: {error}") from None
        # Damage shows as any of these, depending on the byte where the file breaks.
        except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise DamagedFileError(f"{path} is damaged or was not written by paddle.save: {error}") from error


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
    tensors = {}
    for name, value in state.items():
        if not isinstance(value, (np.ndarray, np.generic)) or value.dtype == object:
            raise ValueError(f"{path}: {name!r} is a {type(value).__name__}; expected a tensor")
        tensors[name] = bfloat16_to_float32(value) if value.dtype == np.uint16 else np.asarray(value)
    return tensors


def pdparams_path(path: Union[str, Path]) -> Path:
    """Return ``path`` with ``.pdparams`` added where it is missing.

    Raises:
        FileNotFoundError: if neither spelling exists.
    """
    path = Path(path)
    if path.is_file():
        return path
    with_suffix = path.with_name(path.name + ".pdparams")
    if with_suffix.is_file():
        return with_suffix
    raise FileNotFoundError(f"no weights at {path} (nor at {with_suffix})")


def bfloat16_to_float32(bits: np.ndarray) -> np.ndarray:
    """Return the values of bfloat16 numbers given as ``uint16`` bit patterns: the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
