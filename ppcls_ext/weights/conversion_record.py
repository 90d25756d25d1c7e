"""What lies beside weights: the record of a conversion, and what the manifest of a checkpoint says of its model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from ppcls_ext.utils.documents import DocumentError, read_json
from ppcls_ext.utils.files import sha256_of, write_atomically
from ppcls_ext.weights.errors import RecordError

_LIMIT = 1 << 20  # bytes of a record or manifest; real ones have some kilobytes


@dataclass
class ConversionRecord:
    """What a conversion did; written beside the result as ``<result>.json``."""

    arch: str
    family: str
    arguments: dict  # constructor arguments, besides the name's own, of the model that the result is for
    needs: dict  # constructor arguments without which the same tensors would be a different model's
    to: str  # "paddle" or "torch"
    source: dict  # file, bytes, sha256, format, wrapper, prefix, skipped
    layout: str  # name of the publisher's form: of the source, or for to="torch" of the result
    depths: list
    class_num: int
    tensors: int  # in the result
    types: dict  # number of tensors of the source by type
    dropped: list  # tensors of the source without a counterpart: counters, index tables
    adaptation: list  # sentences: what the result lacks or has otherwise than the source
    licence: str
    result: dict  # file, bytes, sha256
    versions: dict

    def write(self, path: Path) -> None:
        """Write the record as JSON."""
        write_atomically(path, lambda aside: aside.write_text(self.text(), encoding="utf-8"))

    def text(self) -> str:
        """Return the record as JSON text."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n"


@dataclass(frozen=True)
class RecordedFacts:
    """What the file beside weights says of them.

    Attributes:
        file: That file; None if there is none.
        arguments: Constructor arguments that the weights are bound to.
        class_num: Number of classes; None if it is not recorded, 0 if there is no classifier.
        licence: Of the weights; "" if it is not recorded.
    """

    file: Optional[Path] = None
    arguments: dict = field(default_factory=dict)
    class_num: Optional[int] = None
    licence: str = ""


def record_path(dst: Union[str, Path]) -> Path:
    """Return the path of the record of ``dst``."""
    dst = Path(dst)
    return dst.with_name(dst.name + ".json")


def manifest_path(path: Union[str, Path]) -> Path:
    """Return the path of the manifest of the training checkpoint that ``path``, a file of weights, may belong to."""
    path = Path(path)
    return path.with_name(f"{path.stem}.manifest.json")


def read_record(path: Union[str, Path]) -> RecordedFacts:
    """Return what is known of the weights at ``path``: from the record of a conversion, or a checkpoint's manifest.

    JSON without the keys of a record, which some other program wrote, says nothing.

    Raises:
        RecordError: naming the file beside the weights, if it is damaged or has values of wrong types.
    """
    for file, key in ((record_path(path), "needs"), (manifest_path(path), "arguments")):
        content = _content(file)
        if key in content:
            return RecordedFacts(
                file,
                _typed(file, content, key, dict, "constructor arguments by name"),
                _typed(file, content, "class_num", int, "a number of classes"),
                _typed(file, content, "licence", str, "text") or "",
            )
    return RecordedFacts()


def _content(file: Path) -> dict:
    if not file.exists():
        return {}
    try:
        content = read_json(file, _LIMIT)
    except (OSError, DocumentError) as error:
        raise RecordError(f"{error}; it says which model the weights beside it belong to") from None
    return content if isinstance(content, dict) else {}


def _typed(file: Path, content: dict, key: str, kind: type, expected: str) -> Any:
    value = content.get(key)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise RecordError(f"{file}: {key} is a {type(value).__name__}; expected {expected}")
    return value


def file_facts(path: Path) -> dict:
    """Return name, size and SHA-256 of a file."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
