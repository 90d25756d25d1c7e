"""Label files: the names of classes by their ids."""

from __future__ import annotations

import logging
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Optional, Union

from ppcls_ext.data.errors import LabelFileError
from ppcls_ext.data.text_files import Line, TextFile, read_text_file, shown

logger = logging.getLogger("ppcls_ext")

#: Label files that come with the package, by the word that stands for one in place of a path.
BUNDLED = {name: Path(__file__).with_name("labels") / f"{name}.txt" for name in ("imagenet1k", "imagenet1k_wnids")}
MAX_BYTES = 64 << 20
SHOWN_IDS = 10
#: ``0 cat``, ``0<tab>cat``, ``0,cat``, ``0: cat``
_ID_AND_NAME = re.compile(r"(\d{1,9})(?:\s*[,:\uff0c\uff1a]\s*|\s+)(\S.*)")


def label_file(path: Union[str, Path]) -> Path:
    """Return the file that ``path`` means: a word such as ``imagenet1k`` stands for one that comes with the package."""
    return Path(path) if os.path.exists(path) else BUNDLED.get(str(path), Path(path))


def read_class_id_map(path: Union[str, Path], delimiter: Optional[str] = None) -> list[str]:
    """Read a label file: one ``<id> <name>`` a line, ids ``0 … n-1`` in any order, each once; names may hold spaces.

    A file of names alone is read too, the first line being class 0; the log says so.

    Args:
        path: the file, see :mod:`ppcls_ext.data.text_files` for its encoding; or ``imagenet1k`` for the names of
            ImageNet-1k's classes (WordNet's, in the order of ILSVRC 2012), which come with the package.
        delimiter: between id and name; ``None`` is blanks, a comma or a colon.

    Returns:
        The names by id.

    Raises:
        FileNotFoundError: there is no such file.
        LabelFileError: a line has no id or no name, an id is there twice or is missing.
    """
    names = read_class_names(path, delimiter)
    # Not over all ids up to the greatest, which may be a date or a telephone number.
    missing: list[int] = []
    expected = 0
    for class_id in sorted(names):
        missing.extend(range(expected, min(class_id, expected + SHOWN_IDS + 1)))
        expected = class_id + 1
        if len(missing) > SHOWN_IDS:
            break
    if missing:
        listed = ", ".join(map(str, missing[:SHOWN_IDS])) + (", ..." if len(missing) > SHOWN_IDS else "")
        raise LabelFileError(f"{path}: no name for class id {listed}; ids start at 0")
    return [names[class_id] for class_id in range(len(names))]


def read_class_names(path: Union[str, Path], delimiter: Optional[str] = None) -> dict[int, str]:
    """Read a label file whose ids may have gaps, as ``{id: name}``; otherwise as :func:`read_class_id_map`.

    Raises:
        FileNotFoundError: there is no such file.
        LabelFileError: a line has no id or no name, or an id is there twice.
    """
    file = read_text_file(label_file(path), "label file", MAX_BYTES)
    if not file.lines:
        raise LabelFileError(f"{path} holds no label")
    undecodable = next((line for line in file.lines if line.text is None), None)
    if undecodable is not None:
        raise LabelFileError(f"{path}: {file.undecodable(undecodable)}")
    texts = [line.text for line in file.lines if line.text is not None]
    pairs = [_split(text, delimiter) for text in texts]
    if delimiter is None and not any(pairs) and _are_names(texts):
        _tell_names_alone(str(path), len(file.lines))
        return dict(enumerate(texts))
    names: dict[int, str] = {}
    for line, text, pair in zip(file.lines, texts, pairs):
        if pair is None:
            raise LabelFileError(f'{_where(file, line)}: expected "<id>{delimiter or " "}<name>", got {shown(text)!r}')
        class_id, name = pair
        if class_id in names:
            raise LabelFileError(f"{_where(file, line)}: class id {class_id} is there twice")
        names[class_id] = name
    return names


def _split(text: str, delimiter: Optional[str]) -> Optional[tuple[int, str]]:
    if delimiter is None:
        found = _ID_AND_NAME.fullmatch(text)
        return (int(found[1]), found[2].strip()) if found else None
    class_id, _, name = (part.strip() for part in text.partition(delimiter))
    return (int(class_id), name) if re.fullmatch(r"[0-9]{1,9}", class_id) and name else None


def _are_names(texts: list[str]) -> bool:
    """Whether lines without an id can be names: not where a name is missing after an id, or stands before it."""
    digits = [text for text in texts if text.isdecimal()]
    if digits:  # the classes may be called 0, 1, 2; then each is on its place
        return len(digits) == len(texts) and all(text == str(place) for place, text in enumerate(texts))
    return not any(re.search(r"[\s,:]\d+$", text) for text in texts)


def _where(file: TextFile, line: Line) -> str:
    return f"{file.path}:{line.number}"


@lru_cache(maxsize=1024)
def _tell_names_alone(path: str, count: int) -> None:
    logger.info("%s holds names without ids: its %d lines are the classes 0 to %d", path, count, count - 1)
