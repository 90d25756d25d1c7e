"""The rule by which golden tests fill a model: the same numbers in every framework, from a tensor's name alone.

NumPy only. Names and layouts are canonical: our name of the parameter, PyTorch's layout (a Linear weight is
``[out, in]``). ``PCG64.random_raw`` is used because NumPy promises its stream; the values are uniform.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

SEED = 2205_01972
LOSS = "loss weights"


def unit(name: str, shape: tuple) -> np.ndarray:
    """Return float32 values, uniform with mean 0 and variance 1, that depend on ``name`` and the number of values."""
    digest = hashlib.sha256(f"{SEED}:{name}".encode()).digest()
    raw = np.random.PCG64(int.from_bytes(digest[:8], "little")).random_raw(math.prod(shape))
    values = (raw >> np.uint64(40)).astype(np.float64) * 2.0**-24  # in [0, 1)
    return ((values - 0.5) * math.sqrt(12)).astype(np.float32).reshape(shape)


def parameter(name: str, shape: tuple) -> np.ndarray:
    """Return the value of a parameter or a running statistic: scaled so that features and logits are of order one."""
    values = unit(name, shape)
    kind = name.rsplit(".", 1)[-1]
    if "bias" in kind or kind == "_mean":  # BatchNorm's running mean
        return 0.1 * values
    if kind == "_variance":
        return 1 + 0.3 * values
    if len(shape) == 1:  # LayerNorm, BatchNorm
        # Residual branches of ResNets end with BatchNorm: fifty of order one would add up to hundreds.
        ends_branch = ".blocks." in name and name.endswith((".conv2.norm.weight", ".conv3.norm.weight"))
        return (0.4 if ends_branch else 1.0) * (1 + 0.1 * values)
    if name == "pos_embed.weight" or name.endswith((".pos_embed", ".cls_token")):
        return 0.5 * values
    gain = 1.5 if name == "head.weight" else 0.25 if name.endswith(".cpe.weight") else 1.0
    return (values * (gain / math.sqrt(math.prod(shape[1:])))).astype(np.float32)


def images(size: int, batch: int = 1) -> np.ndarray:
    """Return ``[batch, 3, size, size]``."""
    return unit(f"images {size}", (batch, 3, size, size))


def photographs(count: int, size: int) -> np.ndarray:
    """Return ``[count, size, size, 3]`` bytes: soft patterns, so that the pictures differ in more than noise."""
    coarse = unit(f"photographs {count}", (count, 4, 4, 3)).repeat(size // 4, axis=1).repeat(size // 4, axis=2)
    fine = unit(f"photographs {count} {size}", (count, size, size, 3))
    return np.clip(128 + 50 * coarse + 20 * fine, 0, 255).astype(np.uint8)


def sample(array: np.ndarray, count: int = 64) -> np.ndarray:
    """Return ``count`` elements spread evenly over the flattened array (all, if it has fewer)."""
    flat = array.reshape(-1)
    return flat[np.linspace(0, flat.size - 1, min(count, flat.size)).astype(np.int64)]


def summary(array: np.ndarray) -> np.ndarray:
    """Return mean, standard deviation and a sample: what is stored of a feature map ``[N, C, H, W]``."""
    wide = array.astype(np.float64)
    return np.concatenate([[wide.mean(), wide.std()], sample(wide)]).astype(np.float32)


def gradient_summary(array: np.ndarray) -> np.ndarray:
    """Return the Euclidean norm and four elements of a gradient in canonical layout."""
    wide = array.astype(np.float64)
    return np.concatenate([[np.sqrt((wide**2).sum())], sample(wide, 4)]).astype(np.float32)
