"""Embeddings: the features of images with their files and labels, in one file."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppcls_ext.utils.files import open_regular, write_atomically

#: The label of an image whose class is not known.
UNKNOWN = -1
SUFFIXES = (".npz", ".parquet")


class EmbeddingsError(ValueError):
    """A file that holds no embeddings, or images that cannot be compared; the message says why."""


@dataclass(frozen=True)
class Embeddings:
    """Features of images.

    Attributes:
        files: N names, as the images were given.
        labels: int64 ``[N]``; ``UNKNOWN`` where the class is not known.
        features: float32 ``[N, D]``.
    """

    files: list[str]
    labels: np.ndarray
    features: np.ndarray

    @property
    def labelled(self) -> bool:
        """Whether the class of every image is known."""
        return bool(len(self.labels)) and bool((self.labels != UNKNOWN).all())


def check_suffix(path: Path) -> None:
    """Check the name of a file to write.

    Raises:
        EmbeddingsError: it ends in none of ``SUFFIXES``, or what writes it is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise EmbeddingsError(f"{path}: expected a name that ends in {' or '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        _pyarrow()


def write_embeddings(path: Path, embeddings: Embeddings) -> None:
    """Write ``files``, ``labels`` and ``features``: arrays of an .npz, columns of a .parquet."""
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda aside: (_write_npz if path.suffix == ".npz" else _write_parquet)(aside, embeddings))


def read_embeddings(path: Path) -> Embeddings:
    """Read what :func:`write_embeddings` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        EmbeddingsError: it holds something else.
    """
    check_suffix(path)
    try:
        arrays = (_read_npz if path.suffix == ".npz" else _read_parquet)(path)
    except (ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise EmbeddingsError(f"{path} holds no embeddings: {error}") from None
    files, labels, features = arrays
    if features.ndim != 2 or not len(files) == len(labels) == len(features):
        raise EmbeddingsError(
            f"{path} holds no embeddings: {len(files)} files, {len(labels)} labels, features {list(features.shape)}"
        )
    return Embeddings([str(file) for file in files], labels.astype(np.int64), features.astype(np.float32))


def _write_npz(path: Path, embeddings: Embeddings) -> None:
    with path.open("wb") as stream:
        np.savez(stream, files=np.array(embeddings.files), labels=embeddings.labels, features=embeddings.features)


def _read_npz(path: Path) -> tuple:
    with open_regular(path) as stream, np.load(stream, allow_pickle=False) as content:
        return content["files"].tolist(), content["labels"], content["features"]


def _write_parquet(path: Path, embeddings: Embeddings) -> None:
    pyarrow, parquet = _pyarrow()
    width = embeddings.features.shape[1]
    flat = pyarrow.array(np.ascontiguousarray(embeddings.features).reshape(-1), pyarrow.float32())
    columns = {
        "files": pyarrow.array(embeddings.files, pyarrow.string()),
        "labels": pyarrow.array(embeddings.labels, pyarrow.int64()),
        "features": pyarrow.FixedSizeListArray.from_arrays(flat, width),
    }
    parquet.write_table(pyarrow.table(columns), path)


def _read_parquet(path: Path) -> tuple:
    _, parquet = _pyarrow()
    with open_regular(path) as stream:
        table = parquet.read_table(stream).combine_chunks()
    features = np.array(table["features"].to_pylist(), np.float32)
    return table["files"].to_pylist(), table["labels"].to_numpy(), features


def _pyarrow() -> tuple:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        message = '.parquet needs pyarrow: pip install "ppcls_ext[parquet]" with the extras you have, or choose .npz'
        raise EmbeddingsError(message) from None
    return pyarrow, parquet
