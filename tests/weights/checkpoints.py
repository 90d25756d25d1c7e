"""Checkpoints as others publish them: keys, shapes and types are those of the real modules (``tests/golden/keys``)."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import rule
import torch_writer as writer

GOLDEN = Path(__file__).parents[1] / "golden"


#: Code that was ported to Paddle under the same names: the list of its keys in PyTorch.
PORTS = {"dilateformer_paddle": "dilateformer"}


def keys(name: str) -> dict:
    """Return ``{our name of a backbone: {key: [our name of the tensor, shape, type]}}`` of a key list."""
    if name in PORTS:
        return {arch: _ported(entries) for arch, entries in keys(PORTS[name]).items()}
    return json.loads(gzip.decompress((GOLDEN / "keys" / f"{name}.json.gz").read_bytes()))


def _ported(entries: dict) -> dict:
    """Return the entries as Paddle has them: its names of BatchNorm's buffers, linear weights as ``[in, out]``."""
    ported = {}
    for key, (name, shape, kind) in entries.items():
        if not key.endswith("num_batches_tracked"):
            key = key.replace("running_mean", "_mean").replace("running_var", "_variance")
            ported[key] = [name, shape[::-1] if len(shape) == 2 else shape, kind]
    return ported


def checkpoint(entries: dict, in_out: bool = False) -> dict:
    """Return a state dict with the values of ``rule``, in PyTorch's orientation unless ``in_out``."""
    return {key: _value(name, tuple(shape), kind, in_out) for key, (name, shape, kind) in entries.items()}


def _value(name: str, shape: tuple, kind: str, in_out: bool) -> np.ndarray:
    if kind != "float32":
        return np.zeros(shape, dtype=kind)
    if in_out and len(shape) == 2 and name.endswith(".weight"):
        return np.ascontiguousarray(rule.parameter(name, shape[::-1]).T)
    return rule.parameter(name, shape)


def write_torch(path: Path, state: dict, wrapper: str = "", prefix: str = "", legacy: bool = False) -> None:
    """Write ``state`` as ``torch.save`` does."""
    tensors, storages = writer.state({prefix + key: array for key, array in state.items()})
    (writer.write_legacy if legacy else writer.write_zip)(path, {wrapper: tensors} if wrapper else tensors, storages)
