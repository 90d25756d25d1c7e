"""What a conversion did, kept beside its result."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Iterable, Union

from ppcls_ext.utils.files import sha256_of, write_atomically


@dataclass
class ConversionRecord:
    """What a conversion did; written beside the result as ``<result>.json``."""

    arch: str
    family: str
    arguments: dict  # constructor arguments, besides the name's own, of the model that the result is for
    needs: dict  # constructor arguments without which the same tensors would be another model's
    to: str  # "paddle" or "torch"
    source: dict  # file, bytes, sha256, format, wrapper, prefix, skipped
    layout: str  # of the source, or for to="torch" of the result
    depths: list
    class_num: int
    tensors: int  # in the result
    types: dict  # how many tensors of the source were of which type
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


#: The constructor argument that chooses between forms of one network: its tensors are the same, or nearly, and what is
#: computed with them is not. If it is not given, it follows the weights.
FORM = "form"


def record_path(dst: Union[str, Path]) -> Path:
    """Return where the record of ``dst`` lies."""
    dst = Path(dst)
    return dst.with_name(dst.name + ".json")


def manifest_path(path: Union[str, Path]) -> Path:
    """Return where the manifest of the training checkpoint lies that ``path``, a file of weights, is part of."""
    path = Path(path)
    return path.with_name(f"{path.stem}.manifest.json")


def recorded_arguments(path: Union[str, Path]) -> dict:
    """Return the constructor arguments that weights are bound to, as the file beside them says; {} without one.

    It is the record of a conversion or the manifest of a training checkpoint.
    """
    for found in (_recorded(record_path(path), "needs"), _recorded(manifest_path(path), "arguments")):
        if isinstance(found, dict):
            return found
    return {}


def form_in(recorded: dict, arguments: Iterable[str]) -> dict:
    """Return the recorded form of the network as an argument, if there is one and it is among ``arguments``."""
    return {FORM: recorded[FORM]} if FORM in recorded and FORM in arguments else {}


def recorded_licence(path: Union[str, Path]) -> str:
    """Return the licence of converted weights, as the record beside them says; "" without one."""
    licence = _recorded(record_path(path), "licence")
    return licence if isinstance(licence, str) else ""


def as_arguments(values: dict) -> str:
    """Return ``values`` as they are written in a call: ``form='official', depths=[2, 2]``."""
    return ", ".join(f"{key}={value!r}" for key, value in values.items())


def _recorded(path: Path, key: str) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))[key]
    except (KeyError, TypeError, ValueError):  # another program's file
        return None


def file_facts(path: Path) -> dict:
    """Return name, size and SHA-256 of a file."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
