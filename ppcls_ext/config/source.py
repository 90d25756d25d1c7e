"""From YAML text and ``-o`` overrides to plain data, with the place that every value came from.

The dialect is PaddleClas's (PyYAML's safe subset) with two repairs: numbers follow YAML 1.2, so that ``1e-3`` is a
number everywhere, and ``None``, ``True`` and ``False`` are accepted as Python spells them, quoted or not. Nothing is
ever evaluated.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence, Union

import yaml

from ppcls_ext.utils.documents import MAX_INTEGER, DocumentError, check_yaml_bounds, read_text

#: A longer file, or one that grows beyond so many values through aliases, is no configuration.
MAX_BYTES, MAX_VALUES = 1 << 20, 10_000
#: Python keeps the bytes of a file name that is not UTF-8 as U+DC80 to U+DCFF; no text holds the other surrogates.
_NO_TEXT = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")
COMMAND_LINE = "command line"
_PYTHON_WORDS = {"None": None, "True": True, "False": False}
_NUMBER_TAGS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
_COLLECTION_TAGS = {"tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"}
_DROPPED_TAGS = {*_NUMBER_TAGS, "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value"}


class _TooLarge(ValueError):
    pass


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the numbers of YAML 1.2 (core schema, section 10.3.2) and no dates."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _DROPPED_TAGS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Return the integer; a leading zero does not make it octal."""
        text = self.construct_scalar(node)
        if len(text) > 2 * len(str(MAX_INTEGER)):
            raise _TooLarge(f"an integer of {len(text)} characters is beyond 64 bits")
        value = int(text, 0) if text[:2] in ("0x", "0o") else int(text)
        if abs(value) > MAX_INTEGER:
            raise _TooLarge(f"{text} is beyond 64 bits")
        return value


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)
Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)


#: How to train with our backbones what our engine refuses.
PADDLECLAS_COMMAND = "ppcls_ext paddleclas <checkout of PaddleClas>/tools/train.py -c <this file>"


@dataclass(frozen=True)
class Problem:
    """One mistake in a configuration.

    ``where`` is ``file:line`` or the override; ``key`` is dotted; ``kind`` is ``unsupported`` for what PaddleClas has
    and ppcls_ext has not, ``missing`` or ``wrong``.
    """

    where: str
    key: str
    message: str
    kind: str = "wrong"

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.message) if part)


class ConfigError(ValueError):
    """Everything that is wrong with a configuration, in one error.

    Attributes:
        problems: one :class:`Problem` for each mistake.
    """

    def __init__(self, problems: Sequence[Problem]):
        self.problems = list(problems)
        count = len(self.problems)
        lines = [f"  {index}. {problem}" for index, problem in enumerate(self.problems, start=1)]
        if any(problem.kind == "unsupported" for problem in self.problems):
            lines.append(f"What only PaddleClas supports, its own engine trains: {PADDLECLAS_COMMAND}")
        super().__init__("\n".join([f"{count} problem{'s' * (count > 1)} in the configuration", *lines]))


@dataclass
class Source:
    """Plain data, and for each path (a tuple of keys and indices) where it was set."""

    data: dict
    name: str
    places: dict = field(default_factory=dict)
    problems: list = field(default_factory=list)

    def where(self, path: Sequence) -> str:
        """Return the place of ``path``, or of the nearest section around it."""
        path = tuple(path)
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.name)

    def move(self, old: tuple, new: tuple) -> None:
        """Let the places below ``old`` count for ``new``."""
        for path in [path for path in self.places if path[: len(old)] == old]:
            self.places[new + path[len(old) :]] = self.places.pop(path)


class _Builder:
    """Turns composed nodes into data and notes lines, duplicate keys and runaway aliases."""

    def __init__(self, text: str, name: str):
        self._text = text
        self._loader = Loader(text)
        self._name = name
        self._open: list[yaml.Node] = []
        self._count = 0
        self.places: dict = {}
        self.problems: list[Problem] = []

    def build(self) -> Any:
        check_yaml_bounds(self._text, MAX_VALUES)
        node = self._loader.get_single_node()
        return None if node is None else self._value(node, ())

    def _where(self, node: yaml.Node) -> str:
        return f"{self._name}:{node.start_mark.line + 1}"

    def _report(self, node: yaml.Node, path: tuple, message: str) -> None:
        self.problems.append(Problem(self._where(node), ".".join(map(str, path)), message))

    def _value(self, node: yaml.Node, path: tuple) -> Any:
        self.places.setdefault(path, self._where(node))
        self._count += 1
        if self._count > MAX_VALUES:
            problem = f"it has more than {MAX_VALUES:,} values, or grows so far through aliases"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        if isinstance(node, yaml.ScalarNode):
            value = self._scalar(node)
            return _PYTHON_WORDS.get(value, value) if isinstance(value, str) else value
        if node.tag not in _COLLECTION_TAGS:
            raise yaml.MarkedYAMLError(problem=f"the tag {node.tag} is not allowed", problem_mark=node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        with self._inside(node):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if _NO_TEXT.search(node.value):
            raise yaml.MarkedYAMLError(problem="a null character or a lone surrogate", problem_mark=node.start_mark)
        try:
            return self._loader.construct_object(node)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            # PyYAML converts whatever an explicit tag such as !!int asks for.
            text = node.value if len(node.value) <= 40 else node.value[:40] + "…"
            unreadable = f"{text!r} cannot be read as {node.tag.rpartition(':')[2]}"
            problem = str(error) if isinstance(error, _TooLarge) else unreadable
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None

    @contextmanager
    def _inside(self, node: yaml.Node) -> Iterator[None]:
        """Note that ``node`` is being read: an alias to it from within has no end."""
        if any(node is outer for outer in self._open):
            raise yaml.MarkedYAMLError(problem="an alias that contains itself", problem_mark=node.start_mark)
        self._open.append(node)
        yield
        self._open.pop()

    def _mapping(self, node: yaml.MappingNode, path: tuple) -> dict:
        with self._inside(node):
            return self._entries(node, path)

    def _entries(self, node: yaml.MappingNode, path: tuple) -> dict:
        result: dict = {}
        own: dict = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                for merged in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                    if not isinstance(merged, yaml.MappingNode):
                        self._report(merged, path, "<<: takes a mapping or a list of mappings")
                        continue
                    for key, value in self._mapping(merged, path).items():
                        result.setdefault(key, value)
                continue
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                self._report(key_node, path, "a key must be a word")
                continue
            if key in own:
                self._report(key_node, (*path, key), f"the key is given twice, first in line {own[key]}")
                continue
            own[key] = key_node.start_mark.line + 1
            if key in result:  # merged in: what this mapping itself says wins
                for place in [place for place in self.places if place[: len(path) + 1] == (*path, key)]:
                    del self.places[place]
            place = (*path, key)
            self.places[place] = self._where(key_node)
            result[key] = self._value(value_node, (*path, key))
        return result


def read_yaml(path: Union[str, Path]) -> Source:
    """Read a YAML file.

    Raises:
        ConfigError: if there is no such file, it is no YAML, or not a mapping. Duplicate keys are collected in
            ``problems`` instead.
    """
    name = str(path)
    try:
        text = read_text(path, MAX_BYTES)
    except DocumentError as error:
        raise ConfigError([Problem("", "", str(error))]) from None
    except OSError as error:
        raise ConfigError([Problem(name, "", f"cannot be read: {error}")]) from None
    try:
        builder = _Builder(text, name)
        data = builder.build()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        reason = getattr(error, "problem", None) or error
        raise ConfigError([Problem(where, "", f"not valid YAML: {reason}")]) from None
    if not isinstance(data, dict):
        raise ConfigError([Problem(name, "", f"expected sections such as Global and Arch, got {data!r}")])
    return Source(data, name, builder.places, builder.problems)


def parse_value(text: str) -> Any:
    """Return the value that ``text`` has as YAML; text that is no YAML stands for itself."""
    try:
        builder = _Builder(text, COMMAND_LINE)
        value = builder.build()
    except yaml.YAMLError:
        return text
    return text if builder.problems else value


def apply_override(source: Source, override: str) -> None:
    """Set one ``a.b.0.c=value`` in ``source``; what cannot be applied goes to its ``problems``."""
    place = f"{COMMAND_LINE} (-o {override})"
    key, equals, text = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    dotted = ".".join(parts)
    if not equals or not all(parts):
        source.problems.append(Problem(place, "", "expected key=value with a dotted key, such as Global.epochs=10"))
        return
    value = parse_value(text.strip())
    container: Any = source.data
    path: tuple = ()
    for position, part in enumerate(parts):
        index = _step(container, part)
        if index is None:
            source.problems.append(Problem(place, dotted, _cannot_enter(container, parts[:position], part)))
            return
        path = (*path, index)
        if position + 1 == len(parts):
            break
        if isinstance(container, dict) and container.get(index) is None:
            container[index] = {}
            source.places[path] = place
        container = container[index]
    container[path[-1]] = value
    for below in [below for below in source.places if below[: len(path)] == path]:
        del source.places[below]
    source.places[path] = place


def _step(container: Any, part: str) -> Optional[Union[str, int]]:
    """Return the key or index that ``part`` means in ``container``; None if it means nothing."""
    if isinstance(container, dict):
        return part
    if isinstance(container, list) and part.isdigit() and int(part) < len(container):
        return int(part)
    return None


def _cannot_enter(container: Any, parents: Sequence[str], part: str) -> str:
    parent = ".".join(parents)
    if isinstance(container, list):
        return f"{parent} is a list of {len(container)}: expected an index from 0 to {len(container) - 1}, got {part!r}"
    return f"{parent} is {container!r}, which has no keys"
