"""The index of a shard: where each image is and what its label is."""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import dataclass
from typing import Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.errors import DataFileError
from ppcls_ext.data.image_files import IMAGE_SUFFIXES
from ppcls_ext.data.shards.pattern import shard_files

SUFFIX = ".index"
FORMAT = "ppcls_ext shard index 1"
COLUMNS = ("names", "offsets", "sizes", "labels")


@dataclass(frozen=True)
class ShardIndex:
    """The samples of one shard, in the order of the file.

    ``names`` are the images' member names, ``offsets`` and ``sizes`` where their bytes are, ``tar_bytes`` is the size
    of the whole file.
    """

    tar_bytes: int
    names: list[str]
    offsets: list[int]
    sizes: list[int]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.names)

    def save(self, shard: str) -> None:
        """Write the index of ``shard`` beside it; an interrupted call leaves no half file."""
        content = {"format": FORMAT, "tar_bytes": self.tar_bytes, **{name: getattr(self, name) for name in COLUMNS}}
        aside = f"{shard}{SUFFIX}.{os.getpid()}"
        with open(aside, "w", encoding="utf-8") as stream:
            json.dump(content, stream, separators=(",", ":"))
        os.replace(aside, shard + SUFFIX)

    @classmethod
    def load(cls, shard: str) -> ShardIndex:
        """Read the index of ``shard``.

        Raises:
            FileNotFoundError: if it has none.
            DataFileError: if the file is no index.
        """
        path = shard + SUFFIX
        if not os.path.isfile(path):
            raise FileNotFoundError(f"shards: {shard} has no index; `ppcls_ext index-shards '{shard}'` writes {path}")
        try:
            with open(path, encoding="utf-8") as stream:
                content = json.load(stream)
            if content.get("format") != FORMAT:
                raise ValueError(f"expected the format {FORMAT!r}, got {content.get('format')!r}")
            columns = [content[name] for name in COLUMNS]
            if len({len(column) for column in columns}) != 1 or not columns[0]:
                raise ValueError("its columns differ in length or are empty")
            for name, kind in zip(COLUMNS, (str, int, int, int)):
                if not all(type(value) is kind for value in content[name]):
                    raise ValueError(f"{name} holds something else than {kind.__name__}")
            return cls(int(content["tar_bytes"]), *columns)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataFileError(f"shards: {path} is no index of a shard: {error}") from error


def scan(shard: str, label_key: str = "label") -> ShardIndex:
    """Read a shard from end to end, headers and labels only.

    Args:
        shard: the tar file.
        label_key: where the class is in ``<key>.json``.

    Raises:
        DataFileError: if the file is no plain tar, is cut off, or a sample lacks its image or its label.
    """
    rows: dict[str, list] = {column: [] for column in COLUMNS}
    key, image, label = None, None, None

    def finish() -> None:
        if key is None:
            return
        if image is None or label is None:
            raise DataFileError(f"{shard}: sample {key!r} has no {'image' if image is None else 'label (.cls, .json)'}")
        for column, value in zip(COLUMNS, (image.name, image.offset_data, image.size, label)):
            rows[column].append(value)

    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                found, suffix = split_name(member.name)
                if found != key:
                    finish()
                    key, image, label = found, None, None
                if f".{suffix}" in IMAGE_SUFFIXES:
                    if image is not None:
                        raise DataFileError(f"{shard}: sample {key!r} has two images")
                    image = member
                elif suffix in ("cls", "json"):
                    label = _label(archive.extractfile(member).read(), suffix, label_key, f"{shard}:{member.name}")
            finish()
    except (tarfile.TarError, EOFError) as error:
        raise DataFileError(f"{shard}: not a whole, uncompressed tar file: {error}") from error
    if not rows["names"]:
        raise DataFileError(f"{shard}: holds no sample")
    return ShardIndex(os.path.getsize(shard), **rows)


def split_name(name: str) -> tuple[str, str]:
    """Return a member's key and suffix, by WebDataset's rule: what follows the first point of the file name."""
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return folder + slash + stem, suffix.lower()


def _label(content: bytes, suffix: str, label_key: str, where: str) -> int:
    try:
        value = json.loads(content)[label_key] if suffix == "json" else int(content)
    except (ValueError, KeyError, TypeError) as error:
        raise DataFileError(
            f"{where}: expected {f'a key {label_key!r}' if suffix == 'json' else 'an integer'}"
        ) from error
    if type(value) is not int:
        raise DataFileError(f"{where}: expected an integer as {label_key!r}, got {value!r}")
    return value


def index_shards(shards: Union[str, Sequence[str]], label_key: str = "label", progress: bool = True) -> int:
    """Write the index of each shard that another tool made.

    Args:
        shards: pattern or patterns.
        label_key: where the class is in ``<key>.json``.
        progress: whether to show a progress bar.

    Returns:
        The number of samples.
    """
    from tqdm import tqdm

    files, count = shard_files(shards), 0
    for shard in tqdm(files, desc="index", unit="shard", disable=not progress):
        index = scan(shard, label_key)
        index.save(shard)
        count += len(index)
    return count


def joined(indices: Sequence[ShardIndex], column: str, dtype: Optional[type] = np.int64) -> np.ndarray:
    """Return one column of all indices."""
    return np.array([value for index in indices for value in getattr(index, column)], dtype)
