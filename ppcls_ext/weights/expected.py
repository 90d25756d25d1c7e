"""What a model expects of a file of weights: names, shapes, types, and which weights are those of linear layers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

import numpy as np
import paddle

from ppcls_ext import registry
from ppcls_ext.utils.key_rules import Structure
from ppcls_ext.utils.spelling import nearest
from ppcls_ext.utils.state_dict import unique_tensors

_BLOCK = re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.")


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of the model; ``linear``: the weight of a linear layer, ``[in, out]`` in Paddle."""

    shape: tuple
    dtype: np.dtype
    linear: bool


@dataclass(frozen=True)
class Target:
    """The tensors of a model, each once; ``aliases`` maps the further names of an LSTM's tensors to the first."""

    tensors: dict[str, TensorSpec]
    aliases: dict[str, str]
    structure: Structure


def describe(arch: str, arguments: dict) -> Target:
    """Return what the backbone ``arch`` expects, built with ``arguments``; random states stay as they are.

    Raises:
        KeyError: with the nearest names, if there is no such backbone.
        TypeError, ValueError: of the backbone, for wrong arguments.
    """
    factory = find_factory(arch)
    state = paddle.get_rng_state()
    try:
        with paddle.utils.unique_name.guard():
            return target_of(factory(**arguments))
    finally:
        paddle.set_rng_state(state)


def target_of(model: paddle.nn.Layer) -> Target:
    """Return what ``model`` expects."""
    linear = {f"{name}.weight" for name, layer in model.named_sublayers() if _is_linear(layer)}
    tensors, aliases = {}, {}
    for name, (tensor, names) in unique_tensors(model).items():
        dtype = np.dtype(str(tensor.dtype).replace("paddle.", ""))
        tensors[name] = TensorSpec(tuple(tensor.shape), dtype, name in linear)
        aliases.update({alias: name for alias in names[1:]})
    depths = depths_of(tensors)
    config = model.config() if hasattr(model, "config") else {}
    downsamples = tuple(any(name.startswith(f"stages.{s}.downsample.") for name in tensors) for s in range(len(depths)))
    return Target(tensors, aliases, Structure(depths, downsamples, config))


def _is_linear(layer: paddle.nn.Layer) -> bool:
    """Return whether the weight of ``layer`` is ``[in, out]``; layers of this package say so themselves."""
    return isinstance(layer, paddle.nn.Linear) or getattr(layer, "weight_is_in_out", False)


def depths_of(names) -> tuple:
    """Return the number of blocks of each stage, as the names of the model's tensors tell."""
    counts: dict = {}
    for name in names:
        if match := _BLOCK.match(name):
            stage, block = int(match[1]), int(match[2])
            counts[stage] = max(counts.get(stage, 0), block + 1)
    return tuple(counts.get(stage, 0) for stage in range(max(counts, default=-1) + 1))


def find_factory(arch: str) -> registry.Factory:
    """Return the factory of ``Name`` or ``ppcls_ext.Name``, a variant or a class of networks.

    Raises:
        KeyError: with the nearest names, if there is none.
    """
    factories = registry.factories()
    bare = registry.bare_name(arch)
    if bare not in factories:
        hint = nearest(bare, factories)
        raise KeyError(f"unknown backbone {arch!r}" + (f"; did you mean {', '.join(hint)}?" if hint else ""))
    return factories[bare]


def arch_of(model: paddle.nn.Layer) -> Optional[str]:
    """Return the name of the variant that ``model`` is, else of its class; None if the class is not registered."""
    cls = type(model)
    if cls.__name__ not in registry.factories() or not hasattr(model, "config"):
        return None
    config = _architecture(model.config())
    for spec in registry.specs():
        if spec.network == cls.__name__ and _architecture(spec.factory.arguments) == config:
            return spec.name
    return cls.__name__


def _architecture(arguments: dict) -> dict:
    """Return the arguments that make a variant, without those that users choose for a task."""
    task = ("class_num", "in_channels", "img_size", "drop_rate", "attn_drop_rate", "drop_path_rate")
    return {key: value for key, value in _plain(arguments).items() if key not in task}


def variant_with_depths(arch: str, depths: tuple) -> Optional[str]:
    """Return the variant that differs from ``arch`` in its ``depths`` alone, None if there is none."""
    wanted = {**find_factory(arch).arguments, "depths": list(depths)}
    for spec in registry.specs():
        found = getattr(spec.factory, "arguments", {})
        if spec.family == registry.family_of(arch).name and _plain(found) == _plain(wanted):
            return spec.name
    return None


def _plain(arguments: dict) -> dict:
    return {key: list(value) if isinstance(value, (list, tuple)) else value for key, value in arguments.items()}
