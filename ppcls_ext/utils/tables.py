"""Tables as CSV files that spreadsheets open as they are."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Iterable, Sequence

from ppcls_ext.utils.files import write_atomically

#: With the mark by which spreadsheets recognise UTF-8; without it they show Chinese names as something else.
ENCODING = "utf-8-sig"


def write_table(path: Path, rows: Iterable[Sequence]) -> Path:
    """Write a CSV file, durably and as a whole.

    Args:
        path: where to write; its folder is made.
        rows: the header, and the rows.

    Returns:
        ``path``.

    Raises:
        OSError: if it cannot be written.
    """

    def write(aside: Path) -> None:
        with aside.open("w", encoding=ENCODING, errors="backslashreplace", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows)

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, write)
    return path
