"""Reading what ``paddle.save`` wrote, without running anything."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppcls_ext.utils.safe_pickle import Bytes, DataUnpickler, MemoryBudget
from ppcls_ext.weights.files.bfloat16 import bfloat16_to_float32


def read_paddle(data: memoryview) -> Any:
    """Return the object in a file of ``paddle.save``, its tensors as arrays of their own.

    Raises:
        UnsafeFileError, DamagedFileError: see :mod:`ppcls_ext.weights.files.reader`.
    """
    return DataUnpickler(Bytes(data), MemoryBudget(len(data))).load()


def as_numbers(array: np.ndarray) -> np.ndarray:
    """Return the numbers of a stored tensor: bfloat16 is stored as ``uint16``, and comes back as ``float32``."""
    return bfloat16_to_float32(array) if array.dtype == np.uint16 else np.asarray(array)
