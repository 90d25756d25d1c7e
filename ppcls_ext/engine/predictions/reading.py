"""Reading a file of predictions, and what can be wrong with it."""

from __future__ import annotations

import csv
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, Iterator, Sequence, Union

import numpy as np

from ppcls_ext.engine.predictions.content import COLUMNS, SUFFIXES, TOPK, UNKNOWN, Header, Predictions, scores_name
from ppcls_ext.engine.predictions.errors import PredictionsFileError, import_pyarrow
from ppcls_ext.utils.files import check_regular


def read_predictions(path: Union[str, Path]) -> Predictions:
    """Read a file of predictions.

    Raises:
        FileNotFoundError: if it is not there.
        PredictionsFileError: if it is no such file, holds no image, an image twice, or a score that is NaN or infinite.
    """
    path = Path(path)
    reader = {".csv": _read_csv, ".npz": _read_npz, ".parquet": _read_parquet}.get(path.suffix.lower())
    if reader is None:
        raise PredictionsFileError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
    predictions = reader(check_regular(path))
    _check(predictions, path)
    return predictions


def _check(predictions: Predictions, path: Path) -> None:
    header, count, ids = predictions.header, len(predictions), predictions.class_ids
    if not count:
        raise PredictionsFileError(f"{path} holds no image")
    expected = (count, header.class_num) if ids is None else ids.shape
    shapes = predictions.labels.shape, predictions.scores.shape
    if shapes != ((count,), expected) or len(expected) != 2 or expected[0] != count or not expected[1]:
        raise PredictionsFileError(
            f"{path} is damaged: {count} images, {header.class_num} classes, labels {list(shapes[0])}, scores "
            f"{list(shapes[1])}"
        )
    if ids is not None and not (0 <= ids.min() and ids.max() < header.class_num):
        raise PredictionsFileError(f"{path} holds class ids that are not from 0 to {header.class_num - 1}")
    if header.class_names is not None and len(header.class_names) != header.class_num:
        raise PredictionsFileError(f"{path} names {len(header.class_names)} of {header.class_num} classes")
    finite = np.isfinite(predictions.scores).all(axis=1)
    if not finite.all():
        first = predictions.files[int(finite.argmin())]
        raise PredictionsFileError(
            f"{path}: {int((~finite).sum())} of {count} images have NaN or infinite scores, the first is {first}"
        )
    wrong = (predictions.labels < UNKNOWN) | (predictions.labels >= header.class_num)
    if wrong.any():
        row = int(wrong.argmax())
        raise PredictionsFileError(
            f"{path}: the label of {predictions.files[row]} is {predictions.labels[row]}; expected 0 to "
            f"{header.class_num - 1}"
        )
    if len(set(predictions.files)) != count:
        seen: set[str] = set()
        twice = next(file for file in predictions.files if file in seen or seen.add(file))  # type: ignore[func-returns-value]
        raise PredictionsFileError(f"{path} holds {twice} more than once")


def _read_npz(path: Path) -> Predictions:
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("it is no archive")
        with np.load(path, allow_pickle=False) as archive:
            header = Header.from_json(str(archive["header"]), path)
            ids = archive["class_ids"].astype(np.int64) if header.kind == TOPK else None
            scores = archive[scores_name(header.kind)].astype(np.float32)
            return Predictions(archive["files"].tolist(), archive["labels"].astype(np.int64), scores, header, ids)
    except PredictionsFileError:
        raise
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, OSError, EOFError) as error:
        raise PredictionsFileError(f"{path} is no file of predictions: {error}") from None


def _read_parquet(path: Path) -> Predictions:
    pa = import_pyarrow()
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        header = Header.from_json((table.schema.metadata or {})[b"ppcls_ext"].decode("utf-8"), path)
        ids = _array(table.column("class_ids"), np.int64) if header.kind == TOPK else None
        scores = _array(table.column(scores_name(header.kind)), np.float32)
        labels = table.column("label").to_numpy().astype(np.int64)
        return Predictions(table.column("file").to_pylist(), labels, scores, header, ids)
    except PredictionsFileError:
        raise
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise PredictionsFileError(f"{path} is no file of predictions: {error}") from None


def _array(column: Any, dtype: type) -> np.ndarray:
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    flat = np.concatenate([np.zeros(0, dtype), *chunks]).astype(dtype)
    return flat.reshape(len(column), -1) if len(column) else flat.reshape(0, column.type.list_size)


def _read_csv(path: Path) -> Predictions:
    with path.open("rb") as content:
        content.seek(-min(1, path.stat().st_size), os.SEEK_END)
        if content.read() not in (b"", b"\n"):  # a number that is cut off is a number still
            raise PredictionsFileError(f"{path} is cut off: its last line has no end")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        lines = csv.reader(stream)
        try:
            columns = next(lines, [])
            kind = _kind_of(columns, path)
            rows = list(_cells(lines, len(columns), path))
        except (csv.Error, UnicodeDecodeError) as error:
            raise PredictionsFileError(f"{path} is no file of predictions: {error}") from None
    files = [file for file, *_ in rows]
    try:
        labels = np.array([int(label) if label else UNKNOWN for _, label, *_ in rows], np.int64)
        values = np.array([cells for *_, cells in rows], dtype=np.float64).reshape(len(rows), len(columns) - 2)
    except ValueError as error:
        raise PredictionsFileError(f"{path}: {error}") from None
    if kind != TOPK:
        return Predictions(files, labels, values.astype(np.float32), Header(kind, len(columns) - 2))
    ids = values[:, ::2].astype(np.int64)
    class_num = int(max(ids.max(initial=0), labels.max(initial=0))) + 1
    return Predictions(files, labels, values[:, 1::2].astype(np.float32), Header(TOPK, class_num), ids)


def _kind_of(columns: Sequence[str], path: Path) -> str:
    if list(columns[:2]) == ["file", "label"]:
        for prefix, kind in COLUMNS.items():
            if columns[2:] == [f"{prefix}{number}" for number in range(len(columns) - 2)]:
                return kind
        if columns[2:] == [name for k in range(1, len(columns) // 2) for name in (f"class_{k}", f"score_{k}")]:
            return TOPK
    shown = ", ".join(columns[:4])
    raise PredictionsFileError(f"{path}: expected the columns file, label, logit_0, logit_1, ..., got {shown[:120]}")


def _cells(lines: Iterator[list[str]], width: int, path: Path) -> Iterator[tuple[str, str, list[str]]]:
    for number, line in enumerate(lines, start=2):
        if len(line) != width:
            raise PredictionsFileError(f"{path}:{number}: expected {width} columns, got {len(line)}")
        yield line[0], line[1], line[2:]
