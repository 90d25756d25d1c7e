"""Finding the weights among what a training script saved with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np

#: Keys under which training scripts keep the weights, and their moving average.
RAW_KEYS = ("state_dict", "model", "model_state", "model_state_dict", "net", "network", "module", "params", "weights")
EMA_KEYS = ("state_dict_ema", "model_ema", "ema", "ema_state_dict", "model_ema_state_dict", "params_ema")
_PREFIXES = ("module.", "_layers.", "_orig_mod.")  # of PyTorch's and Paddle's DataParallel, of torch.compile
_OLD_PADDLE_KEY = "StructuredToParameterName@@"  # a second naming in files of old Paddle versions


class AmbiguousWeightsError(ValueError):
    """The file holds weights and their moving average, and the caller did not say which are wanted."""


@dataclass
class Unwrapped:
    """Named tensors, and how they were found."""

    tensors: dict[str, np.ndarray]
    wrapper: str = ""  # "state_dict_ema", or "checkpoint.model" for a wrapper in a wrapper
    prefix: str = ""  # "module."
    skipped: list[str] = field(default_factory=list)  # what else the file holds: "optimizer", "epoch", …


def unwrap(tree: Any, ema: Optional[bool] = None) -> Unwrapped:
    """Return the tensors of a checkpoint by name.

    Args:
        tree: what the file holds.
        ema: True takes the moving average, False the weights themselves, None whichever the file holds.

    Raises:
        ValueError: if there are no tensors, or the choice is ambiguous.
    """
    path: list[str] = []
    skipped: list[str] = []
    while True:
        if not isinstance(tree, dict):
            raise ValueError(f"holds a {type(tree).__name__}; expected a mapping of names to tensors")
        chosen = _choose(tree, ema)
        if chosen is None:
            break
        path.append(chosen)
        skipped += [".".join([*path[:-1], str(key)]) for key in tree if key != chosen]
        tree = tree[chosen]
    if ema and not (path and path[-1] in EMA_KEYS):
        raise ValueError(f"holds no averaged weights ({', '.join(EMA_KEYS)}); leave out --ema")
    tensors = {key: np.asarray(value) for key, value in tree.items() if isinstance(key, str) and _is_tensor(value)}
    others = [key for key in tree if key not in tensors and key != _OLD_PADDLE_KEY]
    if not tensors:
        raise ValueError(f"holds no tensors; its keys are {', '.join(map(str, others[:8])) or 'none'}")
    prefix = ""
    while True:
        found = next((p for p in _PREFIXES if all(name.startswith(prefix + p) for name in tensors)), None)
        if found is None:
            break
        prefix += found
    return Unwrapped(
        {name[len(prefix) :]: array for name, array in tensors.items()},
        ".".join(path),
        prefix,
        skipped + [".".join([*path, str(key)]) for key in others],
    )


def _choose(tree: dict, ema: Optional[bool]) -> Optional[str]:
    """Return the key that holds the weights, None if ``tree`` itself does."""
    raw, averaged = ([key for key in keys if _holds_tensors(tree.get(key))] for keys in (RAW_KEYS, EMA_KEYS))
    if ema is None and raw and averaged:
        raise AmbiguousWeightsError(
            f"holds weights ({raw[0]}) and their moving average ({averaged[0]}): choose with --ema or --no-ema"
        )
    candidates = averaged if ema and averaged else raw if raw or ema is False else averaged
    if len(candidates) > 1:
        raise ValueError(f"holds tensors under {' and '.join(candidates)}; expected one of them")
    if not candidates and ema is False and averaged:
        raise ValueError(f"holds only a moving average of the weights ({averaged[0]}); leave out --no-ema")
    return candidates[0] if candidates else None


def _holds_tensors(value: Any, depth: int = 2) -> bool:
    if not isinstance(value, dict):
        return False
    return any(_is_tensor(item) or (depth > 1 and _holds_tensors(item, depth - 1)) for item in value.values())


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic))
