"""Renaming the tensors of a file to the model's names and turning them into Paddle's orientation, and back."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Optional

import numpy as np

from ppcls_ext import registry
from ppcls_ext.utils.key_rules import OURS, OWN_SOURCE, PADDLE, TORCH, Rule, Source, Structure
from ppcls_ext.utils.spelling import nearest
from ppcls_ext.weights.errors import ConversionError, listed, short
from ppcls_ext.weights.expected import Target, TensorSpec
from ppcls_ext.weights.files.reader import NPZ, SAFETENSORS, WeightFile
from ppcls_ext.weights.files.reader import PADDLE as PADDLE_FORMAT

_ORIENTATIONS = {"pt": TORCH, "pd": PADDLE}  # by the key "format" of a safetensors file's metadata


@dataclass
class Renamed:
    """The tensors of a file under the model's names, still as published."""

    arrays: dict[str, list] = field(default_factory=dict)  # name here: the arrays that become the tensor
    keys: dict[str, list] = field(default_factory=dict)  # name here: their published names
    rules: dict[str, Rule] = field(default_factory=dict)
    dropped: list = field(default_factory=list)  # no weights, according to the source
    unknown: list = field(default_factory=list)  # matched by no rule

    def remove(self, names: list) -> None:
        """Take tensors out."""
        for name in names:
            del self.arrays[name], self.keys[name], self.rules[name]


def rename(tensors: dict[str, np.ndarray], source: Source, target: Target) -> Renamed:
    """Return the tensors of a file of ``source`` under the model's names."""
    renamed = Renamed()
    parts: dict = {}
    for key, array in tensors.items():
        if source.drops(key):
            renamed.dropped.append(key)
            continue
        found = source.our_name(key, target.structure)
        if found is None:
            renamed.unknown.append(key)
            continue
        name, rule, index = found
        name = target.aliases.get(name, name)
        parts.setdefault(name, []).append((index, key, array))
        renamed.rules[name] = rule
    for name, found in parts.items():
        found.sort(key=lambda part: part[0])
        renamed.keys[name] = [key for _, key, _ in found]
        renamed.arrays[name] = _without_copies([array for _, _, array in found], renamed.rules[name])
    return renamed


def _without_copies(arrays: list, rule: Rule) -> list:
    """Return the arrays, once each: Paddle's files list an LSTM's tensors under two names."""
    if len(rule.published) == 1 and all(np.array_equal(arrays[0], other) for other in arrays[1:]):
        return arrays[:1]
    return arrays


def sources_of(family: str) -> tuple:
    """Return the sources that a file of ``family`` may have: the publishers', then this package's own."""
    found = {source.name: source for item in registry.families() if item.name == family for source in item.sources}
    return (*found.values(), OWN_SOURCE)


def choose_source(file: WeightFile, family: str, target: Target, wanted: Optional[str] = None) -> Source:
    """Return the source of a file.

    Args:
        file: its tensors, and the format, which says whose orientation they can have.
        family: whose sources to try.
        target: what the model expects.
        wanted: the name of the source, if it is known.

    Raises:
        ConversionError: if ``wanted`` is no source of the family, or the keys fit none, or several equally well.
    """
    sources = sources_of(family)
    if wanted is not None:
        return named_source(wanted, family)
    orientation = None
    if file.format == SAFETENSORS:
        orientation = _ORIENTATIONS.get(file.metadata.get("format", ""))
    elif file.format != NPZ:
        orientation = PADDLE if file.format == PADDLE_FORMAT else TORCH
    candidates = [source for source in sources if orientation in (None, source.orientation)]
    strangers = {source.name: _strangers(file, source, target) for source in candidates}
    least = min(strangers.values(), default=len(file.tensors))
    best = [source for source in candidates if strangers[source.name] == least]
    if 2 * least >= len(file.tensors):
        names = ", ".join(source.name for source in candidates) or "none"
        keys = ", ".join(short(key, 80) for key in list(file.tensors)[:3])
        raise ConversionError(
            f"its keys ({keys}, …) fit no source of {family} in a file of the format {file.format} (tried: {names}); "
            f"--source chooses one of {', '.join(source.name for source in sources)}"
        )
    if len(best) > 1:
        raise ConversionError(
            "its keys fit several sources, which differ in the orientation of the weights: choose one by --source "
            + " or --source ".join(source.name for source in best)
        )
    return best[0]


def named_source(name: str, family: str) -> Source:
    """Return the source ``name`` of a family.

    Raises:
        ConversionError: with the family's sources, if it is not among them.
    """
    found = {source.name: source for source in sources_of(family)}
    if name not in found:
        hint = nearest(name, found, count=1)
        raise ConversionError(
            f"{family} has no source {name!r}; it has {', '.join(found)}"
            + (f"; did you mean {hint[0]}?" if hint else "")
        )
    return found[name]


def _strangers(file: WeightFile, source: Source, target: Target) -> int:
    """Return how many tensors of the file the source does not lead to a tensor of the model, in whatever block."""

    def kind(name: str) -> str:
        return re.sub(r"^stages\.\d+\.(blocks\.\d+\.)?", r"stages.", name)

    known = {kind(name) for name in target.tensors}
    renamed = rename(file.tensors, source, target)
    return len(renamed.unknown) + sum(len(renamed.keys[name]) for name in renamed.keys if kind(name) not in known)


def fill(renamed: Renamed, target: Target, source: Source) -> tuple[dict[str, np.ndarray], dict]:
    """Return the model's arrays by name, and how many tensors came in which type.

    Raises:
        ConversionError: listing every tensor that is left over, missing, or has a different shape or kind of number.
    """
    problems = [f"unknown in the {source.name} source: {key}" for key in renamed.unknown]
    problems += [
        f"unexpected in the file: {' and '.join(renamed.keys[name])} (here {name})"
        for name in renamed.arrays
        if name not in target.tensors
    ]
    arrays: dict = {}
    types: Counter = Counter()
    for name, spec in target.tensors.items():
        if name not in renamed.arrays:
            problems.append(f"missing in the file: {_published(name, source, target.structure)}")
            continue
        keys, rule, found = " and ".join(renamed.keys[name]), renamed.rules[name], renamed.arrays[name]
        if len(found) != len(rule.published):
            problems.append(f"{keys}: {len(found)} tensors for {name}, which takes {len(rule.published)}")
            continue
        array = rule.transform.to_ours(found) if rule.transform else found[0]
        array = _to_paddle(array, spec, source.orientation)
        if array.shape != spec.shape:
            problems.append(f"{keys}: file has shape {list(found[0].shape)}, which does not give {list(spec.shape)}")
        elif array.dtype.kind != spec.dtype.kind:
            problems.append(f"{keys}: file has {array.dtype}, model has {spec.dtype}")
        else:
            types[str(found[0].dtype)] += 1
            arrays[name] = np.asarray(array, dtype=spec.dtype, order="C")
    if problems:
        raise ConversionError(f"{len(problems)} tensors differ{listed(problems)}")
    return arrays, dict(types)


def publish(arrays: dict[str, np.ndarray], target: Target, source: Source) -> dict[str, np.ndarray]:
    """Return the model's arrays under the names and in the orientation of ``source``.

    Raises:
        ConversionError: listing the tensors that the source has no name for, or no way back to.
    """
    published: dict = {}
    nameless = []
    for name, array in arrays.items():
        found = source.their_names(name, target.structure)
        transform = found[1].transform if found else None
        if found is None or (transform and transform.to_theirs is None):
            nameless.append(f"no way back to the {source.name} source: {name}")
            continue
        names, _ = found
        turned = _turned(array) if source.orientation == TORCH and target.tensors[name].linear else array
        values = transform.to_theirs(turned) if transform and transform.to_theirs else [turned]
        published.update({theirs: np.asarray(value, order="C") for theirs, value in zip(names, values)})
    if nameless:
        raise ConversionError(f"{len(nameless)} tensors differ{listed(nameless)}")
    return published


def _to_paddle(array: np.ndarray, spec: TensorSpec, orientation: str) -> np.ndarray:
    """Turn the weight of a linear layer, as the model's layer (never the shape) says, and no other.

    A linear layer and a 1 x 1 convolution, ``[out, in, 1, 1]`` everywhere, are interchangeable; the model's layer says
    which it is here.
    """
    if spec.linear and array.ndim == 4 and array.shape[2:] == (1, 1):
        return array[:, :, 0, 0].T
    if spec.linear and orientation == TORCH:
        return _turned(array)
    if len(spec.shape) == 4 and spec.shape[2:] == (1, 1) and array.ndim == 2:
        return (array if orientation == TORCH else array.T)[:, :, None, None]
    return array


def _turned(array: np.ndarray) -> np.ndarray:
    return array.T if array.ndim == 2 else array


def _published(name: str, source: Source, structure: Structure) -> str:
    found = source.their_names(name, structure)
    return name if found is None or source.name == OURS else f"{' and '.join(found[0])} (here {name})"
