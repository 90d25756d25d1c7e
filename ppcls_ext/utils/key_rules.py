"""Rules that rename tensors between a publisher's checkpoint and this package's model, in both directions.

A family lists its publishers, each a :class:`Source`; the first is the one to write when PyTorch's names are wanted. A
source is a list of rules, ``Rule(published name, name here)``; the first that matches applies, in either direction.

The names are templates. ``{s}`` and ``{i}`` stand for a stage and a block in it, both counted from 0, ``{s+1}`` for the
next stage, ``{block}`` for a block counted over all stages (the name here then has ``{s}`` and ``{i}``), ``{rest}`` for
any tail, any other word for a number. :data:`NUMBERINGS` holds other ways to count stages, :data:`LABELS` other names
of blocks. Renaming PyTorch's batch norm buffers and transposing the weights of linear layers needs no rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, Optional, Sequence, Union

import numpy as np

OURS = "ppcls_ext"  # the source of files with this package's own names
TORCH, PADDLE = "torch", "paddle"  # orientations: a linear layer's weight is [out, in] or [in, out]

_TOKEN = re.compile(r"\{(\w+)([+-]\d+)?\}")
_BATCH_NORM = {"running_mean": "_mean", "running_var": "_variance"}  # PyTorch's buffers: Paddle's
_COUNTER = re.compile(r"(.+\.)?num_batches_tracked")  # PyTorch's alone; inference never reads it


@dataclass(frozen=True)
class Structure:
    """What decides how publishers number the tensors of a model.

    Attributes:
        depths: Blocks of each stage.
        downsamples: For each stage, whether it begins with a layer that has weights.
        config: The constructor's arguments.
    """

    depths: tuple
    downsamples: tuple
    config: dict

    def slots(self) -> tuple[dict, dict]:
        """Return the places of stages and of downsampling layers in one flat list of both."""
        stages, downsamples, slot = {}, {}, 0
        for s, downsample in enumerate(self.downsamples):
            if downsample:
                downsamples[s] = slot
                slot += 1
            stages[s] = slot
            slot += 1
        return stages, downsamples

    def place(self, block: int) -> Optional[tuple[int, int]]:
        """Return the stage and the place in it of a block counted over all stages, None if there are fewer."""
        for s, depth in enumerate(self.depths):
            if block < depth:
                return s, block
            block -= depth
        return None


#: Ways to number a stage besides ``{s}``: from the structure to number by stage.
NUMBERINGS: dict[str, Callable[[Structure], dict]] = {
    "depth": lambda structure: dict(enumerate(structure.depths)),
    "slot": lambda structure: structure.slots()[0],
    "downsample_slot": lambda structure: structure.slots()[1],
}


def _letters(structure: Structure, s: int, i: int) -> str:
    """Return PaddleClas's name of a block: a, b, c, … but a, b1, b2, … in the third stage of deep networks."""
    if s == 2 and structure.depths[s] > 6:
        return f"b{i}" if i else "a"
    return chr(ord("a") + i)


#: Names of a block that a template has besides ``{s}`` and ``{i}``: from the structure, stage and place in it.
LABELS: dict[str, Callable[[Structure, int, int], str]] = {"letters": _letters}


@dataclass(frozen=True)
class Transform:
    """How the tensors of a rule become one of this package's and back, where renaming and transposing do not suffice.

    A source that is only read needs no way back.
    """

    to_ours: Callable[[Sequence[np.ndarray]], np.ndarray]
    to_theirs: Optional[Callable[[np.ndarray], Sequence[np.ndarray]]] = None


@dataclass(frozen=True)
class Rule:
    """One line of a source.

    Attributes:
        theirs: Template of the published name, or of several tensors that become one here.
        ours: Template of the name here.
        transform: Applied to the arrays in the published orientation.
        stages: If given, the stages (from the structure) that the rule is for.
    """

    theirs: Union[str, tuple]
    ours: str
    transform: Optional[Transform] = None
    stages: Optional[Callable[[Structure], Sequence[int]]] = None

    @property
    def published(self) -> tuple:
        """The templates of the published names."""
        return (self.theirs,) if isinstance(self.theirs, str) else self.theirs

    def covers(self, values: dict, structure: Structure) -> bool:
        """Return whether the rule is for the stage in ``values``."""
        return self.stages is None or values.get("s") in self.stages(structure)


@dataclass(frozen=True)
class Source:
    """How a publisher names and orients the tensors of a family.

    Attributes:
        name: As users write it, such as ``timm``.
        publisher: Repository and framework, for messages.
        rules: The first that matches a name applies.
        orientation: ``torch`` or ``paddle``.
        dropped: Regular expressions of names that hold no weights, or none that a forward pass uses.
        needs: From the constructor's arguments of a model to those of them that the weights need.
    """

    name: str
    publisher: str
    rules: tuple
    orientation: str = TORCH
    dropped: tuple = ()
    needs: Callable[[dict], dict] = lambda config: {}

    def drops(self, name: str) -> bool:
        """Return whether a published tensor has no counterpart on purpose."""
        patterns = (*self.dropped, _COUNTER) if self.orientation == TORCH else self.dropped
        return any(re.fullmatch(pattern, name) for pattern in patterns)

    def our_name(self, name: str, structure: Structure) -> Optional[tuple[str, Rule, int]]:
        """Return the name here, the rule, and the position among the rule's published names; None if unknown."""
        name = self._buffer(name, _BATCH_NORM)
        for rule in self.rules:
            for index, template in enumerate(rule.published):
                values = _parse(template, name, structure)
                if values is not None and rule.covers(values, structure):
                    return _format(rule.ours, values, structure), rule, index
        return None

    def their_names(self, name: str, structure: Structure) -> Optional[tuple[list[str], Rule]]:
        """Return the published names of this package's tensor ``name``, and the rule; None if there is none."""
        for rule in self.rules:
            values = _parse(rule.ours, name, structure)
            if values is not None and rule.covers(values, structure):
                buffers = {ours: theirs for theirs, ours in _BATCH_NORM.items()}
                names = [_format(template, values, structure) for template in rule.published]
                return [self._buffer(theirs, buffers) for theirs in names], rule
        return None

    def _buffer(self, name: str, renamed: dict) -> str:
        if self.orientation != TORCH:
            return name
        layer, dot, last = name.rpartition(".")
        return layer + dot + renamed.get(last, last)


def _parse(template: str, name: str, structure: Structure) -> Optional[dict]:
    """Return what the placeholders of ``template`` stand for in ``name``, None if it does not match."""
    pattern, at = "", 0
    tokens = list(_TOKEN.finditer(template))
    for token in tokens:
        kind = r"(.+)" if token[1] == "rest" else r"([a-z]\d*)" if token[1] in LABELS else r"(\d+)"
        pattern += re.escape(template[at : token.start()]) + kind
        at = token.end()
    match = re.fullmatch(pattern + re.escape(template[at:]), name)
    if match is None:
        return None
    values: dict = {}
    for token, text in zip(tokens, match.groups()):
        placeholder, offset = token[1], int(token[2] or 0)
        if placeholder == "rest":
            values["rest"] = text
        elif placeholder in LABELS:
            continue  # the name holds the stage and the block besides
        elif placeholder in NUMBERINGS:
            if placeholder == "depth":
                continue  # the file's depths may differ from the model's, and the name holds the stage besides
            stages = [s for s, number in NUMBERINGS[placeholder](structure).items() if number == int(text)]
            if not stages:
                return None
            values["s"] = stages[0]
        elif placeholder == "block":
            place = structure.place(int(text))
            if place is None:
                return None
            values["s"], values["i"] = place
        elif int(text) < offset:
            return None
        else:
            values[placeholder] = int(text) - offset
    return values


def _format(template: str, values: dict, structure: Structure) -> str:
    def fill(token: re.Match) -> str:
        placeholder, offset = token[1], int(token[2] or 0)
        if placeholder in NUMBERINGS:
            return str(NUMBERINGS[placeholder](structure)[values["s"]])
        if placeholder in LABELS:
            return LABELS[placeholder](structure, values["s"], values["i"])
        if placeholder == "block":
            return str(sum(structure.depths[: values["s"]]) + values["i"])
        value = values[placeholder]
        return value if placeholder == "rest" else str(value + offset)

    return _TOKEN.sub(fill, template)


def unchanged(*layers: str) -> tuple:
    """Return the rules of top-level layers that have the same name in both places."""
    return tuple(Rule(f"{layer}.{{rest}}", f"{layer}.{{rest}}") for layer in layers)


#: This package's own names, which every family has.
OWN_SOURCE = Source(OURS, "ppcls_ext, Paddle", (Rule("{rest}", "{rest}"),), PADDLE)
