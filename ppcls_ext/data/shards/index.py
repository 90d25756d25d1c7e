"""The index of a shard: where each image is and what its label is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from dataclasses import dataclass
from typing import Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.errors import DataFileError
from ppcls_ext.data.image_files import IMAGE_SUFFIXES
from ppcls_ext.data.shards.pattern import shard_files
from ppcls_ext.utils.files import check_regular, open_regular

SUFFIX = ".index"
FORMAT = "ppcls_ext shard index 1"
COLUMNS = ("names", "offsets", "sizes", "labels")
#: About a million samples in one shard.
MAX_INDEX_BYTES = 64 << 20
MAX_NAME_LENGTH = 4096
MAX_LABEL = 10**18 - 1
MAX_LABEL_BYTES = 16 << 20  # of <key>.json, which may hold more than the label
_INTEGER = re.compile(rb"\s*([+-]?[0-9]{1,18})\s*")


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

    def fingerprint(self) -> str:
        """Return a hash of the samples' names, places and labels."""
        columns = [self.tar_bytes, *(getattr(self, name) for name in COLUMNS)]
        return hashlib.sha256(json.dumps(columns).encode()).hexdigest()

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
            DataFileError: if the file is not an index.
        """
        path = shard + SUFFIX
        if not os.path.exists(path):
            raise FileNotFoundError(f"shards: {shard} has no index; `ppcls_ext index-shards '{shard}'` writes {path}")
        try:
            with open_regular(path) as stream:
                data = stream.read(MAX_INDEX_BYTES + 1)
            if len(data) > MAX_INDEX_BYTES:
                raise ValueError(f"it has more than {MAX_INDEX_BYTES:,} bytes")
            content = json.loads(data.decode("utf-8"), parse_constant=_no_number)
            return cls._checked(content)
        except RecursionError:
            raise DataFileError(f"shards: {path} is not a shard's index: it is nested too deeply") from None
        except (ValueError, OSError) as error:
            raise DataFileError(f"shards: {path} is not a shard's index: {error}") from error

    @classmethod
    def _checked(cls, content: object) -> ShardIndex:
        """Return the index that a file holds; raise a ValueError that says what is wrong with it."""
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = content.get("format") if isinstance(content, dict) else content
            raise ValueError(f"expected the format {FORMAT!r}, got {str(found)[:40]!r}")
        for name, kind in zip(COLUMNS, (str, int, int, int)):
            column = content.get(name)
            if not isinstance(column, list) or not column or not all(type(value) is kind for value in column):
                raise ValueError(f"{name}: expected a list of {kind.__name__}")
        names, offsets, sizes, labels = (content[name] for name in COLUMNS)
        if len({len(content[name]) for name in COLUMNS}) != 1:
            raise ValueError("its columns differ in length")
        tar_bytes = content.get("tar_bytes")
        if type(tar_bytes) is not int or not 0 <= tar_bytes < 2**63:
            raise ValueError(f"tar_bytes: expected the size of the shard, got {str(tar_bytes)[:40]}")
        for name, offset, size, label in zip(names, offsets, sizes, labels):
            if len(name) > MAX_NAME_LENGTH:
                raise ValueError(f"a name has {len(name):,} letters; expected at most {MAX_NAME_LENGTH:,}")
            if offset < tarfile.BLOCKSIZE or size < 0 or offset + size > tar_bytes:
                raise ValueError(f"{name}: its place is not within the {tar_bytes} bytes of the shard")
            if abs(label) > MAX_LABEL:
                raise ValueError(f"{name}: the label has more than 18 digits")
        return cls(tar_bytes, names, offsets, sizes, labels)


def scan(shard: str, label_key: str = "label") -> ShardIndex:
    """Read a shard from end to end, headers and labels only.

    Args:
        shard: the tar file.
        label_key: where the class is in ``<key>.json``.

    Raises:
        DataFileError: if the file is no plain tar, is cut off, or a sample lacks its image or its label.
    """
    check_regular(shard)
    rows: dict[str, list] = {column: [] for column in COLUMNS}
    known: set[str] = set()
    key, image, label = None, None, _Label(shard, label_key)

    def finish() -> None:
        if key is None:
            return
        if image is None:
            raise DataFileError(f"{shard}: sample {key!r} has no image")
        for column, value in zip(COLUMNS, (image.name, image.offset_data, image.size, label.required(key))):
            rows[column].append(value)

    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                found, suffix = split_name(member.name)
                if found != key:
                    finish()
                    if found in known:
                        raise DataFileError(
                            f"{shard}: the members of sample {found!r} do not stand together, or it is there twice"
                        )
                    known.add(found)
                    key, image, label = found, None, _Label(shard, label_key)
                if f".{suffix}" in IMAGE_SUFFIXES:
                    if image is not None:
                        raise DataFileError(f"{shard}: sample {key!r} has two images")
                    image = member
                elif suffix in ("cls", "json"):
                    label.read(archive, member, suffix)
            finish()
            end = archive.offset
    except (tarfile.TarError, EOFError) as error:
        raise DataFileError(f"{shard}: not a whole, uncompressed tar file: {error}") from error
    # A file that was cut between two members looks whole but for its end.
    with open_regular(shard) as stream:
        stream.seek(end)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise DataFileError(
                f"{shard}: not a whole, uncompressed tar file: it has no end-of-archive block, so members after byte "
                f"{end} may be missing"
            )
    if not rows["names"]:
        raise DataFileError(f"{shard}: holds no sample")
    return ShardIndex(os.path.getsize(shard), **rows)


class _Label:
    """The label of one sample while its members are read: from ``.cls``, from ``.json``, or from both if they agree."""

    def __init__(self, shard: str, key: str):
        self.shard, self.key = shard, key
        self.value: Optional[int] = None
        self._suffixes: set[str] = set()
        self._keyless = ""

    def read(self, archive: tarfile.TarFile, member: tarfile.TarInfo, suffix: str) -> None:
        """Take the label of a member.

        Raises:
            DataFileError: if it holds none, or is a second one.
        """
        where = f"{self.shard}:{member.name}"
        if suffix in self._suffixes:
            raise DataFileError(f"{where}: the sample has two labels in .{suffix}")
        self._suffixes.add(suffix)
        if member.size > MAX_LABEL_BYTES:
            raise DataFileError(f"{where}: expected a label, got {member.size} bytes")
        stream = archive.extractfile(member)
        if stream is None:
            raise DataFileError(f"{where}: expected a label, got something that is no file")
        content = stream.read()
        value = self._in_json(content, where) if suffix == "json" else self._in_cls(content, where)
        if self.value is not None and value is not None and value != self.value:
            raise DataFileError(f"{where}: the sample has two labels, {self.value} and {value}")
        self.value = self.value if value is None else value
        self._keyless = where if suffix == "json" and value is None else self._keyless

    def required(self, sample: str) -> int:
        """Return the label.

        Raises:
            DataFileError: if no member held it.
        """
        if self.value is not None:
            return self.value
        if self._keyless:
            raise DataFileError(f"{self._keyless}: expected a key {self.key!r}")
        raise DataFileError(f"{self.shard}: sample {sample!r} has no label (.cls, .json)")

    @staticmethod
    def _in_cls(content: bytes, where: str) -> int:
        found = _INTEGER.fullmatch(content)
        if not found:
            raise DataFileError(f"{where}: expected an integer, got {content[:40]!r}")
        return int(found[1])

    def _in_json(self, content: bytes, where: str) -> Optional[int]:
        try:
            content = json.loads(content, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise DataFileError(f"{where}: expected JSON: {error}") from error
        value = content.get(self.key) if isinstance(content, dict) else None
        if value is not None and (type(value) is not int or abs(value) > MAX_LABEL):
            raise DataFileError(f"{where}: expected an integer as {self.key!r}, got {str(value)[:40]!r}")
        return value


def _no_number(constant: str) -> None:
    raise ValueError(f"it holds {constant}")


def split_name(name: str) -> tuple[str, str]:
    """Return a member's key and suffix, by WebDataset's rule: the suffix follows the first dot of the file name."""
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return folder + slash + stem, suffix.lower()


def index_shards(shards: Union[str, Sequence[str]], label_key: str = "label", progress: bool = True) -> int:
    """Write the index of each shard that a different tool made.

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
