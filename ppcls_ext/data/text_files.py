"""Text that users write by hand or export from other programs: lists of images, label files.

One rule for all of them: UTF-8 with or without a byte order mark, UTF-16, or GBK, as Chinese Windows writes it; lines
that end in LF, CR LF or CR. An encoding other than UTF-8 is named in the log.
"""

from __future__ import annotations

import codecs
import functools
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional, Union

from ppcls_ext.data.errors import LabelFileError
from ppcls_ext.utils.files import open_regular

logger = logging.getLogger("ppcls_ext")

SHOWN_LETTERS = 120
_LINE_END = re.compile(rb"\r\n|\n|\r")
_UTF_16 = {codecs.BOM_UTF16_LE: "UTF-16LE", codecs.BOM_UTF16_BE: "UTF-16BE"}


class Line(NamedTuple):
    """A line that is not blank: its number from 1 on, its text without outer blanks, and its bytes in the file.

    ``text`` is None where the bytes cannot be decoded; ``raw`` is empty where they are the text in UTF-8.
    """

    number: int
    text: Optional[str]
    raw: bytes


@dataclass(frozen=True)
class TextFile:
    """The lines of a text file that are not blank, and its encoding: "UTF-8", "GBK", "UTF-16LE" or "UTF-16BE"."""

    path: Path
    lines: list[Line]
    encoding: str

    def where(self, line: Line) -> str:
        """Return how a message names a line: ``file:line``."""
        return f"{printable(self.path.name)}:{line.number}"

    def undecodable(self, line: Line) -> str:
        """Return the message for a line without text."""
        return f"{self.where(line)}: expected UTF-8 text, got {line.raw.strip()[:SHOWN_LETTERS]!r}"


def read_text_file(path: Union[str, Path], kind: str, max_bytes: Optional[int] = None) -> TextFile:
    """Read a text file.

    Args:
        path: the file.
        kind: what it should be, for the messages: "label list".
        max_bytes: the most that it may hold.

    Raises:
        FileNotFoundError: if there is no such file.
        LabelFileError: if it is not a regular file, not text, or larger than ``max_bytes``.
    """
    path = Path(path)
    name = f"{kind} {printable(path)!r}"
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if max_bytes is not None and size > max_bytes:
                raise LabelFileError(f"{name} has {size:,} bytes; expected a text file of at most {max_bytes:,}")
            raw = stream.read()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{name} does not exist") from None
    except OSError as error:
        raise LabelFileError(f"{kind} {error if error.strerror is None else f'{name}: {error.strerror}'}") from error
    lines, encoding = _decoded(raw)
    if any("\0" in line.text if line.text is not None else b"\0" in line.raw for line in lines):
        raise LabelFileError(f"{name} is not a text file: it holds null characters")
    if encoding != "UTF-8":
        _tell_once(f"{printable(path)} is read as {encoding}")
    return TextFile(path, lines, encoding)


def printable(text: Union[str, Path]) -> str:
    r"""Return a path as any stream can print it: bytes that are not UTF-8 become ``\xe9``."""
    return str(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def shown(text: str) -> str:
    """Return a line as a message quotes it."""
    text = printable(text).replace("\t", "\\t")
    return text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}..."


def _decoded(raw: bytes) -> tuple[list[Line], str]:
    encoding = _UTF_16.get(raw[:2]) or _utf_16_without_mark(raw)
    if encoding:
        return _lines_of(raw.decode(encoding, "replace").lstrip("\ufeff")), encoding
    if raw.startswith(codecs.BOM_UTF8):
        raw = raw[len(codecs.BOM_UTF8) :]
    try:
        return _lines_of(raw.decode("utf-8")), "UTF-8"
    except UnicodeDecodeError:
        pass
    pieces = [(number, piece) for number, piece in enumerate(_LINE_END.split(raw), start=1) if piece.strip()]
    lines = [Line(number, _as(piece, "utf-8"), piece) for number, piece in pieces]
    # A short word in GBK may be UTF-8 by chance, of characters that take two bytes there (Greek, Hebrew, ...); a file
    # in which whole lines are Chinese in UTF-8 is not GBK because others are broken.
    broken = sum(line.text is None for line in lines)
    chinese = sum(line.text is not None and max(line.text) >= "\u0800" for line in lines)
    in_gbk = [Line(number, _as(piece, "gbk"), piece) for number, piece in pieces]
    if broken > chinese and all(line.text is not None for line in in_gbk):
        return in_gbk, "GBK"
    return lines, "UTF-8"


def _lines_of(text: str) -> list[Line]:
    # Not str.splitlines, which also splits at characters that a file name may hold.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [
        Line(number, line.strip(), b"") for number, line in enumerate(lines, start=1) if line and not line.isspace()
    ]


def _as(piece: bytes, encoding: str) -> Optional[str]:
    try:
        return piece.decode(encoding).strip()
    except UnicodeDecodeError:
        return None


def _utf_16_without_mark(raw: bytes) -> Optional[str]:
    """Recognise UTF-16 by its line ends and digits, which every list has: each second byte of them is 0."""
    if len(raw) % 2 or b"\0" not in raw[:1024]:
        return None
    head = raw[:1024]
    for encoding, zeros, letters in (("UTF-16LE", head[1::2], head[::2]), ("UTF-16BE", head[::2], head[1::2])):
        if zeros.count(0) * 3 >= len(zeros) and 0 not in letters:
            return encoding
    return None


@functools.lru_cache(maxsize=1024)
def _tell_once(message: str) -> None:
    logger.info("%s", message)
