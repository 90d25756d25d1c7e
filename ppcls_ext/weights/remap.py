"""Bringing the tensors of a file under our names and into Paddle's orientation, and back."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Optional

import numpy as np

from ppcls_ext.utils.spelling import nearest
from ppcls_ext.weights.errors import ConversionError, listed
from ppcls_ext.weights.expected import Target, TensorSpec
from ppcls_ext.weights.files.reader import NPZ, SAFETENSORS, WeightFile
from ppcls_ext.weights.files.reader import PADDLE as PADDLE_FORMAT
from ppcls_ext.weights.key_rules import OURS, PADDLE, TORCH, Layout, Rule, Structure
from ppcls_ext.weights.sources import layouts_of

_ORIENTATIONS = {"pt": TORCH, "pd": PADDLE}  # by the key "format" of a safetensors file's metadata


@dataclass
class Source:
    """The tensors of a file under our names, still as published."""

    arrays: dict[str, list] = field(default_factory=dict)  # our name: the arrays that become it
    keys: dict[str, list] = field(default_factory=dict)  # our name: their names
    rules: dict[str, Rule] = field(default_factory=dict)
    dropped: list = field(default_factory=list)  # no weights, by the layout
    unknown: list = field(default_factory=list)  # matched by no rule

    def remove(self, names: list) -> None:
        """Take tensors out."""
        for name in names:
            del self.arrays[name], self.keys[name], self.rules[name]


def rename(tensors: dict[str, np.ndarray], layout: Layout, target: Target) -> Source:
    """Bring the published names of ``layout`` to ours."""
    source = Source()
    parts: dict = {}
    for key, array in tensors.items():
        if layout.drops(key):
            source.dropped.append(key)
            continue
        found = layout.our_name(key, target.structure)
        if found is None:
            source.unknown.append(key)
            continue
        name, rule, index = found
        name = target.aliases.get(name, name)
        parts.setdefault(name, []).append((index, key, array))
        source.rules[name] = rule
    for name, found in parts.items():
        found.sort(key=lambda part: part[0])
        source.keys[name] = [key for _, key, _ in found]
        source.arrays[name] = _without_copies([array for _, _, array in found], source.rules[name])
    return source


def _without_copies(arrays: list, rule: Rule) -> list:
    """Return the arrays, once each: our own files list an LSTM's tensors under two names."""
    if len(rule.sources) == 1 and all(np.array_equal(arrays[0], other) for other in arrays[1:]):
        return arrays[:1]
    return arrays


def choose_layout(file: WeightFile, family: str, target: Target, wanted: Optional[str] = None) -> Layout:
    """Return the layout of a file.

    Args:
        file: its tensors, and the format that tells whose orientation they can have.
        family: whose layouts to try.
        target: what the model expects.
        wanted: the name of a layout, which is then not looked for.

    Raises:
        ConversionError: if ``wanted`` is no layout of the family, or the keys fit none, or several equally well.
    """
    layouts = layouts_of(family)
    if wanted is not None:
        return named_layout(wanted, family, layouts)
    orientation = None
    if file.format == SAFETENSORS:
        orientation = _ORIENTATIONS.get(file.metadata.get("format"))
    elif file.format != NPZ:
        orientation = PADDLE if file.format == PADDLE_FORMAT else TORCH
    candidates = [layout for layout in layouts if orientation in (None, layout.orientation)]
    strangers = {layout.name: _strangers(file, layout, target) for layout in candidates}
    least = min(strangers.values(), default=len(file.tensors))
    best = [layout for layout in candidates if strangers[layout.name] == least]
    if 2 * least >= len(file.tensors):
        names = ", ".join(layout.name for layout in candidates) or "none"
        raise ConversionError(
            f"its keys ({', '.join(list(file.tensors)[:3])}, …) fit no layout of {family} in a file of the format "
            f"{file.format} (tried: {names}); --layout chooses one of {', '.join(layout.name for layout in layouts)}"
        )
    if len(best) > 1:
        raise ConversionError(
            "its keys fit several layouts, which differ in the orientation of the weights: choose one by --layout "
            + " or --layout ".join(layout.name for layout in best)
        )
    return best[0]


def named_layout(name: str, family: str, layouts: tuple) -> Layout:
    """Return the layout ``name``.

    Raises:
        ConversionError: with the family's layouts, if it is none of them.
    """
    found = {layout.name: layout for layout in layouts}
    if name not in found:
        hint = nearest(name, found, count=1)
        raise ConversionError(
            f"{family} has no layout {name!r}; it has {', '.join(found)}"
            + (f"; did you mean {hint[0]}?" if hint else "")
        )
    return found[name]


def _strangers(file: WeightFile, layout: Layout, target: Target) -> int:
    """Return how many tensors of the file the layout does not lead to a tensor of the model, in whatever block."""

    def kind(name: str) -> str:
        return re.sub(r"^stages\.\d+\.(blocks\.\d+\.)?", r"stages.", name)

    known = {kind(name) for name in target.tensors}
    source = rename(file.tensors, layout, target)
    return len(source.unknown) + sum(len(source.keys[name]) for name in source.keys if kind(name) not in known)


def fill(source: Source, target: Target, layout: Layout) -> tuple[dict[str, np.ndarray], dict]:
    """Return our arrays by name, and how many tensors came in which type.

    Raises:
        ConversionError: listing every tensor that is left over, missing, of another shape or of another kind.
    """
    problems = [f"unknown in the {layout.name} layout: {key}" for key in source.unknown]
    problems += [
        f"unexpected in the file: {' and '.join(source.keys[name])} (here {name})"
        for name in source.arrays
        if name not in target.tensors
    ]
    arrays: dict = {}
    types: Counter = Counter()
    for name, spec in target.tensors.items():
        if name not in source.arrays:
            problems.append(f"missing in the file: {_published(name, layout, target.structure)}")
            continue
        keys, rule, found = " and ".join(source.keys[name]), source.rules[name], source.arrays[name]
        if len(found) != len(rule.sources):
            problems.append(f"{keys}: {len(found)} tensors for {name}, which takes {len(rule.sources)}")
            continue
        array = rule.transform.to_ours(found) if rule.transform else found[0]
        array = _to_paddle(array, spec, layout.orientation)
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


def publish(arrays: dict[str, np.ndarray], target: Target, layout: Layout) -> dict[str, np.ndarray]:
    """Return our arrays under the names and in the orientation of ``layout``.

    Raises:
        ConversionError: listing the tensors that the layout has no name for, or no way back to.
    """
    published: dict = {}
    nameless = []
    for name, array in arrays.items():
        found = layout.their_names(name, target.structure)
        if found is None or (found[1].transform and found[1].transform.to_theirs is None):
            nameless.append(f"no way back to the {layout.name} layout: {name}")
            continue
        names, rule = found
        turned = _turned(array) if layout.orientation == TORCH and target.tensors[name].linear else array
        values = rule.transform.to_theirs(turned) if rule.transform else [turned]
        published.update({theirs: np.asarray(value, order="C") for theirs, value in zip(names, values)})
    if nameless:
        raise ConversionError(f"{len(nameless)} tensors differ{listed(nameless)}")
    return published


def _to_paddle(array: np.ndarray, spec: TensorSpec, orientation: str) -> np.ndarray:
    """Turn the weight of a linear layer, as the model's layer (never the shape) says, and no other.

    A linear layer and a 1 x 1 convolution, ``[out, in, 1, 1]`` everywhere, are one thing; the model's layer says which
    it is here.
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


def _published(name: str, layout: Layout, structure: Structure) -> str:
    found = layout.their_names(name, structure)
    return name if found is None or layout.name == OURS else f"{' and '.join(found[0])} (here {name})"
