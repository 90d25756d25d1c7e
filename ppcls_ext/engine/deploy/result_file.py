"""Results of a prediction as a file, written as they come: nothing that was computed is lost."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Iterable, Iterator, Optional, TextIO, Union

from ppcls_ext.utils.files import flush, flush_folder

LINES = ".jsonl"


class ResultFile:
    """A JSON list, or where the name ends in ``.jsonl`` a result a line.

    Results go into ``<name>.part``, which takes the name when all are there; an earlier file stays until then. What a
    run that fails has computed is left in ``<name>.part``.

    Args:
        path: where to write; folders are made.

    Raises:
        OSError: if the file cannot be written there.
    """

    def __init__(self, path: Union[str, Path]):
        self.path = Path(path)
        self.part = self.path.with_name(self.path.name + ".part")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.is_dir():
            raise IsADirectoryError(f"{self.path} is a folder; expected a name for a file")
        # A name that is not UTF-8 becomes an escape, which every JSON reader turns back into the name.
        self._file: Optional[TextIO] = self.part.open("w", encoding="utf-8", errors="backslashreplace")
        self._count = 0

    def close(self) -> None:
        """Leave what there is in ``<name>.part``; after the last result there is nothing to leave."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def through(self, results: Iterable[dict]) -> Iterator[dict]:
        """Write each result and hand it on; the file takes its name after the last one."""
        try:
            for result in results:
                self._write(self._open_file(), result)
                yield result
            self._finish(self._open_file())
        finally:
            self.close()

    def _open_file(self) -> TextIO:
        if self._file is None:
            raise ValueError(f"{self.part} is closed")
        return self._file

    def _write(self, file: TextIO, result: dict) -> None:
        text = json.dumps(result, ensure_ascii=False)
        if self.path.suffix == LINES:
            file.write(text + "\n")
        else:
            file.write((",\n" if self._count else "[\n") + text)
        file.flush()
        self._count += 1

    def _finish(self, file: TextIO) -> None:
        if self.path.suffix != LINES:
            file.write("\n]\n" if self._count else "[]\n")
        file.close()
        self._file = None
        flush(self.part)
        os.replace(self.part, self.path)
        flush_folder(self.path.parent)
