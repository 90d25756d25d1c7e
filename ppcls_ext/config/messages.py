"""From pydantic's errors to sentences that name file, line, key, what arrived and what was expected."""

from __future__ import annotations

import difflib
from typing import Any, Iterator, Optional, Type, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ppcls_ext.config.schema import Sections
from ppcls_ext.config.schema.base import Ignored, Section, Unsupported, markers
from ppcls_ext.config.schema.training import SCHEDULES_OF_PADDLECLAS
from ppcls_ext.config.source import Problem, Source
from ppcls_ext.utils.spelling import nearest

#: Keys of PaddleClas 1.x and of common habit, and where the same thing is said now.
RENAMED = {
    "ARCHITECTURE": "Arch",
    "OPTIMIZER": "Optimizer",
    "LEARNING_RATE": "Optimizer.lr",
    "TRAIN": "DataLoader.Train",
    "VALID": "DataLoader.Eval",
    "classes_num": "Arch.class_num",
    "num_classes": "Arch.class_num",
    "model_save_dir": "Global.output_dir",
    "valid_interval": "Global.eval_interval",
}
#: More are counted but not explained.
MAX_PROBLEMS = 100
_EXPECTED = {
    "bool_type": "True or False",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_type": "an integer",
    "list_type": "a list",
    "model_attributes_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "string_type": "a string",
}
_BOUNDS = {
    "greater_than": "a value above {gt}",
    "greater_than_equal": "a value of at least {ge}",
    "less_than": "a value below {lt}",
    "less_than_equal": "a value of at most {le}",
    "too_long": "at most {max_length} items",
    "too_short": "at least {min_length} items",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "a name",
    "union_tag_invalid": "{expected_tags}",
}


def problems_of(error: ValidationError, source: Source) -> list[Problem]:
    """Return one :class:`Problem` for each place that ``error`` complains about."""
    wrong: dict[tuple, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        wrong.setdefault(_path(detail, source.data), []).append(detail)
    shown = dict(list(wrong.items())[:MAX_PROBLEMS])
    problems = [_problem(path, details, source) for path, details in shown.items()]
    if len(wrong) > len(shown):
        problems.append(Problem(source.name, "", f"{len(wrong) - len(shown):,} more problems are not shown"))
    refused = {tuple(problem.key.split(".")[:-1]) for problem in problems if problem.kind == "unsupported"}
    # What is missing beside something refused is missing because of it.
    return [p for p in problems if p.kind != "missing" or tuple(p.key.split(".")[:-1]) not in refused]


def _path(detail: ErrorDetails, data: Any) -> tuple:
    """Return the keys and indices of ``detail``; pydantic's own marks for branches of a union are left out."""
    path: list = []
    location = detail["loc"]
    for position, step in enumerate(location):
        last = position + 1 == len(location)
        if isinstance(data, dict) and (step in data or (last and detail["type"] in ("missing", "extra_forbidden"))):
            path.append(step)
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int):
            path.append(step)
            data = data[step]
    if detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
        path.append("name")
    return tuple(path)


def _problem(path: tuple, details: list, source: Source) -> Problem:
    detail, where, key = details[0], source.where(path), ".".join(map(str, path))
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return Problem(where, key, _unknown_key(path, detail["input"], source.data))
    if kind == "missing":
        return Problem(where, key, "the key is missing", "missing")
    if kind == "union_tag_not_found":
        # pydantic looks no further without the name, so a typo in it is found here.
        typo = nearest("name", map(str, detail["input"]), count=1)
        return Problem(
            where, key, "the key is missing" + (f"; is {typo[0]} meant to be it?" if typo else ""), "missing"
        )
    if kind in ("unsupported", "unknown_name", "one_key"):
        return Problem(where, key, detail["msg"], "unsupported" if kind == "unsupported" else "wrong")
    if kind == "union_tag_invalid":
        name = context["tag"]
        expected = context["expected_tags"].replace("'", "")
        if name in SCHEDULES_OF_PADDLECLAS:
            return Problem(where, key, f"{name} of PaddleClas is not supported; supported: {expected}", "unsupported")
        hint = nearest(name, expected.split(", "), count=1)
        return Problem(where, key, f"got {name!r}; " + (f"did you mean {hint[0]}?" if hint else f"expected {expected}"))
    got = detail["input"]
    expected = " or ".join(dict.fromkeys(_expected(detail) for detail in details))
    kind_of = "" if got is None or isinstance(got, (dict, list)) else f" ({type(got).__name__})"
    return Problem(where, key, f"got {_short(got)}{kind_of}; expected {expected}")


def _expected(detail: ErrorDetails) -> str:
    kind = detail["type"]
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(**detail["ctx"])
    return _EXPECTED.get(kind, detail["msg"])


def _short(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _unknown_key(path: tuple, value: Any, data: dict) -> str:
    """Return "unknown key" with the nearest valid one."""
    name = str(path[-1])
    beginning = f"unknown key (got {_short(value)})"
    if name in RENAMED:
        target, inner = RENAMED[name], value
        tail = ""
        while isinstance(inner, dict) and len(inner) == 1:
            ((step, inner),) = inner.items()
            tail += f".{step}"
        keys = set(all_keys())
        return f"{beginning}; did you mean {target + tail if target + tail in keys else target}?"
    owners = _other_branches(path, data)
    if owners:
        return f"{beginning}; it belongs to {', '.join(owners)}"
    elsewhere = [key for key in all_keys() if key.split(".")[-1] == name]
    if 1 <= len(elsewhere) <= 3:
        return f"{beginning}; did you mean {' or '.join(elsewhere)}?"
    section = section_at(path[:-1], data)
    siblings = keys_of(section) if section else []
    prefix = "".join(f"{step}." for step in path[:-1])
    hint = nearest(name, siblings, count=1) if len(name) > 2 else []
    if hint:
        return f"{beginning}; did you mean {prefix}{hint[0]}?"
    # Across sections only a near miss is worth a suggestion.
    leaves = {key.split(".")[-1]: key for key in all_keys()}
    hint = difflib.get_close_matches(name, leaves, n=1, cutoff=0.8)
    if hint:
        return f"{beginning}; did you mean {leaves[hint[0]]}?"
    return f"{beginning}; {prefix.rstrip('.') or 'the configuration'} has {', '.join(siblings)}"


def _other_branches(path: tuple, data: dict) -> list[str]:
    """Return the optimizers or schedules that have the key which the chosen one has not."""
    outer = section_at(path[:-2], data) if len(path) > 1 else None
    info = outer.model_fields.get(path[-2]) if outer else None
    branches = list(sections_in(info.annotation)) if info else []
    owners = [branch for branch in branches if path[-1] in keys_of(branch)]
    return [name for branch in owners for name in get_args(branch.model_fields["name"].annotation)]


# ---- what the schema knows -------------------------------------------------------------------------------------


def keys_of(section: Type[Section]) -> list[str]:
    """Return the keys of a section that have an effect."""
    return [name for name in section.model_fields if not markers(section, name, (Unsupported, Ignored))]


def sections_in(annotation: Any) -> Iterator[Type[Section]]:
    """Return the sections that a type annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in get_args(annotation):
        yield from sections_in(argument)


def section_at(path: tuple, data: Any) -> Optional[Type[Section]]:
    """Return the schema of the mapping at ``path`` of ``data``, or None."""
    section: Type[Section] = Sections
    for step in path:
        data = data.get(step) if isinstance(data, dict) else data[step]
        if isinstance(step, int):
            continue
        info = section.model_fields.get(step)
        branches = list(sections_in(info.annotation)) if info else []
        if not branches:
            return None
        section = next((branch for branch in branches if _accepts(branch, data)), branches[0])
    return section


def _accepts(section: Type[Section], data: Any) -> bool:
    """Return whether ``section`` is the branch that the key ``name`` selects."""
    info = section.model_fields.get("name")
    return info is not None and isinstance(data, dict) and data.get("name") in get_args(info.annotation)


def all_keys(section: Type[Section] = Sections, prefix: str = "") -> list[str]:
    """Return every dotted key of the schema, without list indices."""
    keys = []
    for name in keys_of(section):
        keys.append(prefix + name)
        for branch in sections_in(section.model_fields[name].annotation):
            keys.extend(key for key in all_keys(branch, f"{prefix}{name}.") if key not in keys)
    return list(dict.fromkeys(keys))
