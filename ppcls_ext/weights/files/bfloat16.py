"""bfloat16, which NumPy does not have."""

from __future__ import annotations

import numpy as np


def bfloat16_to_float32(bits: np.ndarray) -> np.ndarray:
    """Return the values of bfloat16 numbers given as ``uint16`` bit patterns: the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
