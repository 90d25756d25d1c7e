"""The schema as tables: what the documentation prints and the tests compare it with."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Annotated, Any, Iterator, Literal, Optional, Type, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ppcls_ext.config.schema import Sections
from ppcls_ext.config.schema.base import Ignored, OneKey, OneOf, Section, Unsupported, markers

REQUIRED = "required"
UNSET = "–"
#: Sections whose keys are the same under Train and Eval.
SPLIT_SECTIONS = ("Loss", "DataLoader", "Metric")
_BOUNDS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))


@dataclass(frozen=True)
class Row:
    """One key: its default and what it may be, as text, and what it means.

    ``variants`` names the optimizers or schedules that have the key; it is empty where all have it.
    """

    key: str
    default: str
    values: str
    meaning: str
    variants: tuple = ()


def rows(section: Type[Section], prefix: str) -> list[Row]:
    """Return the keys of a section and of what it holds, in the order of the schema."""
    result: list[Row] = []
    for name, info in section.model_fields.items():
        if markers(section, name, (Unsupported, Ignored)):
            continue
        inner = list(_sections(info.annotation))
        if len(inner) > 1:
            result.extend(_variant_rows(inner, f"{prefix}{name}."))
        elif inner:
            result.extend(rows(inner[0], f"{prefix}{name}."))
        else:
            result.append(Row(prefix + name, default_text(info), values_text(info), info.description or ""))
    return result


def _variant_rows(branches: list, prefix: str) -> list[Row]:
    """Return the keys of a choice by ``name``, each once; where the branches differ, they are named."""
    names = {branch: "/".join(get_args(branch.model_fields["name"].annotation)) for branch in branches}
    every_name = ", ".join(name for names_of in names.values() for name in names_of.split("/"))
    defaults = [default_text(branch.model_fields["name"]) for branch in branches]
    merged: dict[str, dict] = {}
    for branch in branches:
        for row in rows(branch, prefix):
            merged.setdefault(row.key, {})[names[branch]] = row
    result: list[Row] = []
    for key, by_name in merged.items():
        first = next(iter(by_name.values()))
        if key == f"{prefix}name":
            default = next((text for text in defaults if text != REQUIRED), REQUIRED)
            result.insert(0, Row(key, default, every_name, "which one to use"))
            continue
        usual = Counter(row.default for row in by_name.values()).most_common(1)[0][0]
        others = [f"{name}: {row.default}" for name, row in by_name.items() if row.default != usual]
        default = f"{usual} ({', '.join(others)})" if others else usual
        variants = first.variants if len(by_name) == len(branches) else tuple(by_name)
        result.append(Row(key, default, first.values, first.meaning, variants))
    return result


def documented_rows() -> list[Row]:
    """Return the keys of the whole schema; what Train and Eval have in common is one row, ``Loss.*.CELoss.weight``."""
    merged: dict[str, Row] = {}
    for row in rows(Sections, ""):
        section, *inner = row.key.split(".")
        if section in SPLIT_SECTIONS:
            row = replace(row, key=".".join([section, "*", *inner[1:]]))
        merged.setdefault(row.key, row)
    return list(merged.values())


def unsupported_keys() -> list[str]:
    """Return the dotted keys of PaddleClas that are refused, without list items such as losses."""
    found: list[str] = []

    def visit(section: Type[Section], prefix: str) -> None:
        for name, info in section.model_fields.items():
            if markers(section, name, (Unsupported,)) and not issubclass(section, OneKey):
                found.append(prefix + name)
            for inner in _sections(info.annotation):
                visit(inner, f"{prefix}{name}.")

    visit(Sections, "")
    return list(dict.fromkeys(re.sub(r"^(Loss|DataLoader|Metric)\.(Train|Eval)", r"\1.*", key) for key in found))


def default_text(info: FieldInfo) -> str:
    """Return the default of a field as a YAML file would say it."""
    if info.default_factory is not None:
        return UNSET
    if info.default is PydanticUndefined:
        return REQUIRED
    if info.default is None:
        return UNSET
    if isinstance(info.default, list):
        return f"[{', '.join(map(str, info.default))}]"
    return f"{info.default:g}" if isinstance(info.default, float) else str(info.default)


def values_text(info: FieldInfo) -> str:
    """Return what a field may be, such as ``int ≥ 1`` or ``O1 | O2``."""
    return _text(info.annotation, info.metadata)


def _text(annotation: Any, metadata: Any) -> str:
    for marker in metadata:
        if isinstance(marker, OneOf):
            return ", ".join(marker.names)
    if get_origin(annotation) is Annotated:
        base, *inner = get_args(annotation)
        return _text(base, [*inner, *metadata])
    if get_origin(annotation) is Union:
        return ", ".join(_text(item, metadata) for item in get_args(annotation) if item is not type(None))
    if get_origin(annotation) is Literal:
        return ", ".join(map(str, get_args(annotation)))
    if get_origin(annotation) is list:
        (item,) = get_args(annotation)
        return f"list[{_text(item, [])}]"
    if get_origin(annotation) is dict:
        return "{Name: {arguments}}"
    return " ".join([annotation.__name__, ", ".join(_bounds(metadata))]).strip()


def _bounds(metadata: Any) -> Iterator[str]:
    constraints = [part for item in metadata for part in getattr(item, "metadata", [item])]
    for name, sign in _BOUNDS:
        for constraint in constraints:
            bound: Optional[float] = getattr(constraint, name, None)
            if bound is not None:
                yield f"{sign} {bound}"


def _sections(annotation: Any) -> Iterator[Type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections(argument)
