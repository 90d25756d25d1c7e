"""Writing a file of predictions as they come; it takes its name when all are there."""

from __future__ import annotations

import csv
import os
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.text_files import printable
from ppcls_ext.engine.deploy.postprocess import softmax
from ppcls_ext.engine.predictions.content import COLUMNS, LOGITS, SUFFIXES, TOPK, Header, scores_name
from ppcls_ext.engine.predictions.errors import PredictionsFileError, import_pyarrow
from ppcls_ext.utils.files import flush, flush_folder


def check_suffix(path: Union[str, Path]) -> Path:
    """Return ``path`` if its suffix names a format that can be written here.

    Raises:
        PredictionsFileError: for another suffix, or Parquet without pyarrow.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise PredictionsFileError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}")
    if path.suffix.lower() == ".parquet":
        import_pyarrow()
    return path


def best_classes(probabilities: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids ``[N, k]`` and probabilities of the best classes, best first, of equal ones the lower id."""
    ids = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(probabilities, ids, axis=1)


class Rows(ABC):
    """Rows in one format, as they come."""

    def __init__(self, part: Path, header: Header):
        self.part, self.header = part, header

    @abstractmethod
    def add(self, files: Sequence[str], labels: np.ndarray, scores: np.ndarray, ids: Optional[np.ndarray]) -> None:
        """Write rows."""

    @abstractmethod
    def close(self) -> None:
        """Write what is held back, and close the file."""


class CsvRows(Rows):
    """A line an image."""

    def __init__(self, part: Path, header: Header):
        super().__init__(part, header)
        self._stream = part.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._stream, lineterminator="\n")
        self._begun = False

    def add(self, files: Sequence[str], labels: np.ndarray, scores: np.ndarray, ids: Optional[np.ndarray]) -> None:
        """Write rows, nine digits a score: float32 as it is."""
        self._begin(scores.shape[1])
        for row, (file, label) in enumerate(zip(files, labels)):
            cells: list[Any] = [f"{score:.9g}" for score in scores[row]]
            if ids is not None:
                cells = [cell for pair in zip(ids[row], cells) for cell in pair]
            self._writer.writerow([file, label, *cells])
        self._stream.flush()

    def _begin(self, width: int) -> None:
        if self._begun:
            return
        self._begun = True
        if self.header.kind == TOPK:
            columns = [name for k in range(1, width + 1) for name in (f"class_{k}", f"score_{k}")]
        else:
            prefix = next(prefix for prefix, kind in COLUMNS.items() if kind == self.header.kind)
            columns = [f"{prefix}{number}" for number in range(width)]
        self._writer.writerow(["file", "label", *columns])

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


class NpzRows(Rows):
    """Arrays in an archive, whose sizes have to be known first: rows are kept until the end."""

    def __init__(self, part: Path, header: Header):
        super().__init__(part, header)
        part.touch()
        self._rows: list[tuple] = []

    def add(self, files: Sequence[str], labels: np.ndarray, scores: np.ndarray, ids: Optional[np.ndarray]) -> None:
        """Keep rows."""
        self._rows.append((list(files), labels, scores, ids))

    def close(self) -> None:
        """Write them, if there are any."""
        if not self._rows:
            return
        header, rows = self.header, self._rows
        arrays = {
            "files": np.array([file for files, *_ in rows for file in files], dtype=str),
            "labels": np.concatenate([labels for _, labels, *_ in rows]),
            scores_name(header.kind): np.concatenate([scores for *_, scores, _ in rows]),
            "header": np.array(header.to_json()),
        }
        if header.kind == TOPK:
            arrays["class_ids"] = np.concatenate([ids for *_, ids in rows])
        with self.part.open("wb") as stream:
            np.savez(stream, **arrays)


class ParquetRows(Rows):
    """Row groups of about ``GROUP`` numbers."""

    GROUP = 1 << 20

    def __init__(self, part: Path, header: Header):
        super().__init__(part, header)
        self._writer: Any = None
        self._waiting: list[tuple] = []
        part.touch()

    def add(self, files: Sequence[str], labels: np.ndarray, scores: np.ndarray, ids: Optional[np.ndarray]) -> None:
        """Keep rows until they fill a group."""
        self._waiting.append((list(files), labels, scores, ids))
        if sum(scores.size for *_, scores, _ in self._waiting) >= self.GROUP:
            self._write_group()

    def _write_group(self) -> None:
        pa = import_pyarrow()
        rows, self._waiting = self._waiting, []
        scores = np.concatenate([scores for *_, scores, _ in rows])
        columns = {
            "file": pa.array([file for files, *_ in rows for file in files], pa.string()),
            "label": pa.array(np.concatenate([labels for _, labels, *_ in rows]), pa.int64()),
        }
        if self.header.kind == TOPK:
            columns["class_ids"] = _lists(np.concatenate([ids for *_, ids in rows]))
        columns[scores_name(self.header.kind)] = _lists(scores)
        table = pa.table(columns)
        if self._writer is None:
            schema = table.schema.with_metadata({"ppcls_ext": self.header.to_json()})
            self._writer = pa.parquet.ParquetWriter(self.part, schema)
        self._writer.write_table(table.cast(self._writer.schema))

    def close(self) -> None:
        """Write the rest, and the footer without which there is no Parquet file."""
        if self._waiting:
            self._write_group()
        if self._writer is not None:
            self._writer.close()


ROWS: dict[str, Callable[[Path, Header], Rows]] = {".csv": CsvRows, ".npz": NpzRows, ".parquet": ParquetRows}


def _lists(values: np.ndarray) -> Any:
    pa = import_pyarrow()
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1])


class PredictionsWriter:
    """A file of predictions that is being written.

    Rows go into ``<name>.part``, which takes the name at the end; an earlier file stays until then. What a run that
    fails has computed is left in ``<name>.part``, as far as the format allows: a CSV or Parquet file that can be read.

    Args:
        path: where to write, see :func:`check_suffix`; its folder is made.
        header: what holds for all rows; with ``topk`` its kind becomes ``topk``.
        topk: how many of the best classes to keep; None keeps a score of each class.

    Raises:
        PredictionsFileError: for another suffix, Parquet without pyarrow, or a folder in the file's place.
        ValueError: if ``topk`` is not from 1 to the number of classes.
        OSError: if the file cannot be written there.
    """

    def __init__(self, path: Union[str, Path], header: Header, topk: Optional[int] = None):
        self.path = check_suffix(path)
        if topk is not None and not 1 <= topk <= header.class_num:
            raise ValueError(f"topk is {topk}; expected 1 to the number of classes, {header.class_num}")
        self.topk = topk
        self._given = header.kind
        self.header = header if topk is None else replace(header, kind=TOPK)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.is_dir():
            raise PredictionsFileError(f"{self.path} is a folder; expected a name for a file")
        self.part = self.path.with_name(self.path.name + ".part")
        self._rows = ROWS[self.path.suffix.lower()](self.part, self.header)
        self.count = 0

    def add(self, files: Sequence[str], labels: np.ndarray, scores: np.ndarray) -> None:
        """Write the predictions of a batch.

        Args:
            files: N names of images.
            labels: int ``[N]``; -1 where the label is not known.
            scores: ``[N, class_num]``, of the kind that the header was given.

        Raises:
            PredictionsFileError: if a score is NaN or infinite.
            ValueError: if shapes do not fit.
        """
        scores = np.asarray(scores, np.float32)
        labels = np.asarray(labels, np.int64)
        if scores.shape != (len(files), self.header.class_num) or labels.shape != (len(files),):
            raise ValueError(
                f"expected {len(files)} labels and scores [{len(files)}, {self.header.class_num}], got "
                f"{list(labels.shape)} and {list(scores.shape)}"
            )
        if not len(files):
            return
        finite = np.isfinite(scores).all(axis=1)
        if not finite.all():
            raise PredictionsFileError(f"the model's scores of {files[int(finite.argmin())]} are NaN or infinite")
        ids = None
        if self.topk is not None:
            ids, scores = best_classes(softmax(scores) if self._given == LOGITS else scores, self.topk)
        self._rows.add([printable(file) for file in files], labels, scores, ids)
        self.count += len(files)

    def finish(self) -> None:
        """Give the file its name.

        Raises:
            PredictionsFileError: if it holds no image.
        """
        if not self.count:
            self.abandon()
            self.part.unlink(missing_ok=True)
            raise PredictionsFileError(f"{self.path}: there is no prediction to write")
        self._rows.close()
        flush(self.part)
        os.replace(self.part, self.path)
        flush_folder(self.path.parent)

    def abandon(self) -> None:
        """Close the file, and leave what there is in ``<name>.part``."""
        self._rows.close()
