"""Strategies: what a hand, an editor or a disk can do to a file or an option.

A mutation keeps most of its input as it was, so that what reads it gets far enough to meet the rest.
"""

from __future__ import annotations

import inspect
from typing import Iterator

import yaml
from hypothesis import strategies as st

from ppcls_ext import factory
from ppcls_ext.config.messages import all_keys
from ppcls_ext.data.batch_ops import BATCH_OPERATORS
from ppcls_ext.data.preprocess import OPERATORS

#: Values as they may stand in YAML: of each type, at each end of its range, and what is no value.
ODD_VALUES = (
    *("", "null", "~", "true", "False", "'True'", "0", "-0", "-1", "1", "2", "3", "7", "0.5", "-0.5", "1.0", "1e-3"),
    *("'1'", "'x'", "x", "[]", "{}", "[0]", "[-1]", "[1, 2]", "[1, 2, 3]", "[3, 16, 16]", "[1.5]", "['a', 'b']"),
    *("[null]", "[[1], [2]]", "[[[]]]", "{a: 1}", "{1: 2}", "{null: null}", "{[1]: 2}", "[{a: 1}, 2]", "{a: {b: [1]}}"),
    *("[1, a, null, {}]", "[true]", "{name: x}", "{name: AdamW}", "name", "...", "---", "- x", "x: y", "[", "}", "'"),
    *(
        ".nan",
        ".inf",
        "-.inf",
        "1e400",
        "-1e308",
        "1e-320",
        "4294967296",
        "9223372036854775807",
        "-9223372036854775809",
    ),
    *("1180591620717411303424", "9" * 400, "1" + "0" * 20, "1000000000", "100000", "2147483648", "0x7fffffff", "0o17"),
    *("!!int abc", "!!float x", "!!timestamp x", "!!timestamp 2026-01-01", "!!binary x", "!!null x", "!!bool 7"),
    *("!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]", "!!python/object/apply:os.getcwd []", "!x y", "!<tag:x> 1"),
    *("2026-01-01", "12:30:45", "1_000", "=", "<<", "&a [*a]", "&b {b: *b}", "*nowhere", "{<<: {a: 1}}", "{<<: 1}"),
    *(
        "|",
        ">",
        "'\\0'",
        '"\\0"',
        '"\\ud800"',
        '"\\udc80"',
        "x" * 300,
        "a/" * 200,
        "深度",
        "'%s'",
        "{0}",
        "$HOME",
        "~root",
    ),
    *("1.0/255.0", "1/0", "__import__('os')", "/dev/zero", "/dev/random", "pipe", "no/such/file", "/", ".", "list.txt"),
    *("[" * 100 + "]" * 100, "[" + "1, " * 2000 + "1]", "[0.485, 0.456, 0.406]", "[nan, nan, nan]", "[0, 0, 0]"),
)
#: What an editor, a copied page or a merge leaves in a text.
ODD_LINES = (
    "\t",
    "\t- x",
    "  ",
    "#",
    "%YAML 9.9",
    "---",
    "...",
    "<<<<<<< HEAD",
    "? x",
    ": y",
    "- - -",
    "a: b: c",
    "\x07",
)
ODD_ENCODINGS = ("utf-8-sig", "utf-16", "utf-32", "gbk", "latin-1", "utf-7")


def odd_values() -> st.SearchStrategy[str]:
    """Values as YAML text."""
    return st.one_of(st.sampled_from(ODD_VALUES), st.integers(-(2**70), 2**70).map(str), st.floats().map(repr))


def _paths(data: object, path: tuple = ()) -> Iterator[tuple]:
    if path:
        yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from _paths(value, (*path, key))


def _at(data: object, path: tuple) -> object:
    for step in path:
        data = data[step]
    return data


def _enter(data: dict, dotted: str) -> tuple:
    """Return the mapping that the key belongs to and its last name; sections that are not there are made."""
    *parents, last = dotted.split(".")
    for step in parents:
        if isinstance(data, list):
            data = next((item for item in data if isinstance(item, dict) and step in item), None) or _appended(data)
        if not isinstance(data.get(step), (dict, list)):
            data[step] = {}
        data = data[step]
    return (data, last) if isinstance(data, dict) else (_appended(data), last)


def _appended(items: list) -> dict:
    items.append({})
    return items[-1]


class _Raw(dict):
    """Texts that stand in YAML under placeholders until all changes are made."""

    def hold(self, text: str) -> str:
        """Return the placeholder of ``text``."""
        placeholder = f"@@{len(self)}@@"
        self[placeholder] = text
        return placeholder


def _change_data(draw, data: dict, raw: _Raw) -> None:
    """Make one change to what the YAML says."""
    paths = list(_paths(data))
    kind = draw(st.sampled_from(("value", "value", "delete", "rename", "schema", "schema", "arch", "operator", "swap")))
    if kind == "schema":
        mapping, name = _enter(data, draw(st.sampled_from(all_keys())))
        mapping[name] = raw.hold(draw(odd_values()))
        return
    if kind == "arch" and isinstance(data.get("Arch"), dict):
        name = data["Arch"].get("name")
        names = getattr(factory.registry.factories().get(str(name).rpartition(".")[2]), "arguments", {"class_num": 1})
        data["Arch"][draw(st.sampled_from(sorted(names)))] = raw.hold(draw(odd_values()))
        return
    if kind == "operator":
        lists = [path for path in paths if path[-1] in ("transform_ops", "transforms", "batch_transform_ops")]
        table = {**OPERATORS, **BATCH_OPERATORS}
        name = draw(st.sampled_from(sorted(table)))
        names = [parameter for parameter in inspect.signature(table[name].__init__).parameters if parameter != "self"]
        chosen = draw(st.lists(st.sampled_from(names), max_size=2, unique=True)) if names else []
        arguments = {argument: raw.hold(draw(odd_values())) for argument in chosen}
        operators = _at(data, draw(st.sampled_from(lists))) if lists else None
        if isinstance(operators, list):
            operators.insert(draw(st.integers(0, len(operators))), {name: arguments or None})
        return
    if not paths:
        return
    path = draw(st.sampled_from(paths))
    container, last = _at(data, path[:-1]), path[-1]
    if kind == "delete":
        del container[last]
    elif kind == "rename" and isinstance(container, dict):
        value = container.pop(last)
        container[draw(st.sampled_from((f"{last}s", str(last)[:-1], str(last).upper(), f" {last}", "x")))] = value
    elif kind == "swap":
        other = draw(st.sampled_from(paths))
        container[last] = yaml.safe_load(yaml.safe_dump(_at(data, other)))
    else:
        container[last] = raw.hold(draw(odd_values()))


def _change_text(draw, text: str) -> str:
    """Make one change to the text, whatever it says."""
    lines = text.split("\n")
    kind = draw(st.sampled_from(("delete", "duplicate", "move", "indent", "insert", "cut", "token", "repeat")))
    index = draw(st.integers(0, len(lines) - 1))
    if kind == "delete":
        del lines[index]
    elif kind == "duplicate":
        lines.insert(index, lines[index])
    elif kind == "move":
        lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(index))
    elif kind == "indent":
        lines[index] = draw(st.sampled_from((" ", "  ", "\t", ""))) + lines[index].lstrip()
    elif kind == "insert":
        lines.insert(index, draw(st.sampled_from(ODD_LINES)))
    elif kind == "cut":
        return text[: draw(st.integers(0, len(text)))]
    elif kind == "token":
        name, colon, _ = lines[index].partition(":")
        lines[index] = f"{name}{colon or ': '} {draw(odd_values())}"
    else:
        return text + text
    return "\n".join(lines)


@st.composite
def yaml_files(draw, text: str) -> bytes:
    """The YAML ``text`` with one to three changes, as the bytes of a file."""
    if draw(st.integers(0, 3)):
        data, raw = yaml.safe_load(text), _Raw()
        for _ in range(draw(st.integers(1, 3))):
            _change_data(draw, data, raw)
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
        for placeholder, value in reversed(raw.items()):
            text = text.replace(f"'{placeholder}'", value)
    else:
        for _ in range(draw(st.integers(1, 2))):
            text = _change_text(draw, text)
    if draw(st.integers(0, 19)) == 0:
        return text.encode(draw(st.sampled_from(ODD_ENCODINGS)), "replace")
    data = text.encode("utf-8", "surrogatepass")
    return draw(damaged(data)) if draw(st.integers(0, 19)) == 0 else data


@st.composite
def overrides(draw) -> str:
    """``key=value`` for ``-o``."""
    steps = draw(st.sampled_from(all_keys())).split(".")
    if draw(st.integers(0, 4)) == 0:
        steps.insert(draw(st.integers(0, len(steps))), draw(st.sampled_from(("0", "-1", "99", "", "x", " ", "9" * 30))))
    return f"{'.'.join(steps)}{draw(st.sampled_from(('=', '=', '=', '=', '', '==')))}{draw(odd_values())}"


@st.composite
def damaged(draw, data: bytes) -> bytes:
    """``data`` with one to three faults: cut off, bits flipped, runs of zeros, blocks lost, doubled or exchanged."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        if not data:
            break
        kind = draw(st.sampled_from(("cut", "flip", "zeros", "lose", "double", "byte", "head", "append", "ones")))
        start = draw(st.one_of(st.integers(0, min(len(data), 64) - 1), st.integers(0, len(data) - 1)))
        length = draw(st.one_of(st.integers(1, 16), st.integers(1, len(data))))
        if kind == "cut":
            del data[start:]
        elif kind == "flip":
            data[start] ^= 1 << draw(st.integers(0, 7))
        elif kind in ("zeros", "ones"):
            end = min(start + length, len(data))
            data[start:end] = (b"\0" if kind == "zeros" else b"\xff") * (end - start)
        elif kind == "lose":
            del data[start : start + length]
        elif kind == "double":
            data[start:start] = data[start : start + length]
        elif kind == "byte":
            data[start] = draw(st.integers(0, 255))
        elif kind == "head":
            head = draw(st.binary(max_size=16))
            data[: len(head)] = head
        else:
            data += draw(st.binary(max_size=64))
    return bytes(data)


@st.composite
def text_lists(draw, lines: list) -> bytes:
    """A list or label file of ``lines`` with odd lines, separators, ends of line and encodings."""
    odd = st.one_of(
        st.sampled_from(
            (
                *("", " ", "\t", "0.png", "0.png ", "0.png x", "0.png -1", "0.png 1.0", "0.png 99", "0.png 0 extra"),
                *("0.png " + "9" * 30, "0.png ١", "0.png,0", "0: a", "0,a", "a b c", "# x", "../0.png 0", "/ 0", ". 0"),
                *(
                    "pipe 0",
                    "/dev/zero 0",
                    "no.png 0",
                    "x" * 5000 + " 0",
                    "花 1.png 0",
                    "\x00 0",
                    "0.png 0\r",
                    "\ufeff0.png 0",
                ),
                *(
                    "0",
                    "1 a",
                    "-1 a",
                    "99 a",
                    "1000000000000 a",
                    "1 a\t",
                    "1\ta",
                    "0.png 0.png 0",
                    "\u2028",
                    "\x85 0",
                    "[x] 0",
                ),
            )
        ),
        st.text(max_size=20),
    )
    lines = list(lines)
    for _ in range(draw(st.integers(1, 3))):
        index = draw(st.integers(0, len(lines)))
        kind = draw(st.sampled_from(("insert", "replace", "delete", "double")))
        if kind == "insert" or index == len(lines):
            lines.insert(index, draw(odd))
        elif kind == "replace":
            lines[index] = draw(odd)
        elif kind == "delete":
            del lines[index]
        else:
            lines.insert(index, lines[index])
    text = draw(st.sampled_from(("\n", "\n", "\n", "\r\n", "\r", "\n\n"))).join(lines) + draw(
        st.sampled_from(("\n", ""))
    )
    encoding = draw(st.sampled_from(("utf-8", "utf-8", "utf-8", "utf-8", *ODD_ENCODINGS)))
    data = text.encode(encoding, "surrogatepass" if encoding == "utf-8" else "replace")
    return draw(damaged(data)) if draw(st.integers(0, 9)) == 0 else data
