"""The resolved configuration as YAML that says where each value came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterator, Sequence, Union

import yaml

from ppcls_ext.config.source import Loader
from ppcls_ext.utils.files import write_atomically


class _Dumper(yaml.SafeDumper):
    """Quotes a string wherever PyYAML or our own loader would read something else."""

    yaml_implicit_resolvers = {
        first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *Loader.yaml_implicit_resolvers.get(first, [])]
        for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *Loader.yaml_implicit_resolvers}
    }


def write_yaml(path: Union[str, Path], data: dict, origin: Callable[..., str], header: Sequence[str] = ()) -> None:
    """Write ``data`` with ``origin(*path)``, unless that is empty, as a comment after each value.

    The file is written aside and renamed, so that a reader never sees half of it.

    Args:
        path: where to write; its folder is made.
        data: the sections.
        origin: what to say of the value at a path of keys and indices.
        header: lines of a comment before the sections, which then stand apart.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = _lines(data, (), 0, origin)
    if header:
        comments = [f"# {line}".rstrip() for line in header]
        sections = [line if line.startswith((" ", "-")) else f"\n{line}" for line in lines]
        text = "\n".join([*comments, *sections]) + "\n"
    else:
        text = "\n".join(lines) + "\n"
    write_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def summary_lines(data: Any, origin: Callable[..., str], path: tuple = ()) -> Iterator[str]:
    """Return ``section: key=value ...`` for each section that holds a value which is not the default."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    inner, own = [], []
    for key, value in items:
        if isinstance(value, dict) or _is_block(value):
            inner.append((key, value))
        elif origin(*path, key) != "default":
            own.append(f"{key}={_scalar(value)}")
    if own:
        yield f"{'.'.join(map(str, path)) or 'configuration'}: {' '.join(own)}"
    for key, value in inner:
        yield from summary_lines(value, origin, (*path, key))


def _lines(value: Any, path: tuple, depth: int, origin: Callable[..., str]) -> Iterator[str]:
    indent = "  " * depth
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _entry(f"{indent}{_scalar(key)}:", item, (*path, key), depth, origin)
        return
    for index, item in enumerate(value):
        where = (*path, index)
        if _is_block(item):
            # The first key of a list item stands on the line of the dash.
            first, *rest = _lines(item, where, depth + 1, origin)
            yield f"{indent}- {first.lstrip()}"
            yield from rest
        else:
            yield f"{indent}- {_scalar(item)}{_comment(origin(*where))}"


def _entry(head: str, item: Any, path: tuple, depth: int, origin: Callable[..., str]) -> Iterator[str]:
    if _is_block(item):
        yield head
        yield from _lines(item, path, depth + 1, origin)
    else:
        yield f"{head} {_scalar(item)}{_comment(origin(*path))}"


def _comment(text: str) -> str:
    return f"  # {text}" if text else ""


def _is_block(value: Any) -> bool:
    """Return whether ``value`` takes lines of its own: sections, and lists that hold any."""
    return bool(value) and (isinstance(value, dict) or (isinstance(value, list) and any(map(_is_block, value))))


def _scalar(value: Any) -> str:
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.strip().removesuffix("...").strip()
