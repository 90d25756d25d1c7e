"""Small text files that people and programs write: read with bounds, so that none hangs or exhausts the process.

Sizes, depths and numbers beyond what any sensible file holds are errors, and so is everything that is not UTF-8, JSON
or YAML; the error names the file.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Union

import yaml

from ppcls_ext.utils.files import open_regular

MAX_BYTES = 16 << 20
MAX_DEPTH = 64
#: Integers beyond 64 bits fit no field of any of our files.
MAX_INTEGER = 2**63 - 1


class DocumentError(ValueError):
    """A text file is not what it should be; the message names it."""


def read_text(path: Union[str, Path], max_bytes: int = MAX_BYTES) -> str:
    """Return the text of a UTF-8 file; a byte order mark is left out.

    Raises:
        OSError: if it cannot be read, or is no regular file.
        DocumentError: if it is longer than ``max_bytes``, not UTF-8, or holds null characters.
    """
    with open_regular(path) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise DocumentError(f"{path} has more than {max_bytes:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path} is not UTF-8 (byte {error.start}: {data[error.start]:#04x})") from None
    if "\0" in text:
        raise DocumentError(f"{path} holds null characters; it is no text file")
    return text


def read_json(path: Union[str, Path], max_bytes: int = MAX_BYTES) -> Any:
    """Return what a JSON file holds.

    Raises:
        OSError: if it cannot be read, or is no regular file.
        DocumentError: if it is not JSON, or too long or too deep, or holds a number that is not finite or an integer
            beyond 64 bits.
    """
    text = read_text(path, max_bytes)
    _check_depth(text, path)
    try:
        return json.loads(text, parse_constant=_refuse, parse_int=_integer, parse_float=_finite)
    except ValueError as error:
        raise DocumentError(f"{path} is not valid JSON: {error}") from None


def check_yaml_bounds(text: str, max_values: int) -> None:
    """Check the size and depth of YAML before it is composed, which would exhaust Python's stack or its user.

    Raises:
        yaml.YAMLError: if it nests deeper than ``MAX_DEPTH``, has more than ``max_values`` values, or is no YAML.
    """
    try:
        _count_events(text, max_values, yaml.CSafeLoader)
    except (AttributeError, yaml.scanner.ScannerError):  # PyYAML without libyaml; or what libyaml alone refuses
        _count_events(text, max_values, yaml.SafeLoader)


def _count_events(text: str, max_values: int, loader: type) -> None:
    depth = count = 0
    for event in yaml.parse(text, Loader=loader):
        problem = None
        if isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
            if depth > MAX_DEPTH:
                problem = f"it nests deeper than {MAX_DEPTH} levels"
        elif isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent)):
            count += 1
            if count > 2 * max_values:  # keys and values
                problem = f"it has more than {max_values:,} values"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _check_depth(text: str, path: Union[str, Path]) -> None:
    depth, quoted, escaped = 0, False, False
    for character in text:
        if quoted:
            quoted = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            quoted = True
        elif character in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise DocumentError(f"{path} nests deeper than {MAX_DEPTH} levels")
        elif character in "]}":
            depth -= 1


def _refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}")


def _integer(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > MAX_INTEGER:
        raise ValueError(f"the integer {text[:20]}{'…' if len(text) > 20 else ''} is beyond 64 bits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is out of range")
    return value
