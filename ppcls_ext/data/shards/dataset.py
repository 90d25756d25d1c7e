"""ShardDataset: the images of tar shards."""

from __future__ import annotations

import hashlib
import logging
import os
import tarfile
from collections import OrderedDict
from collections.abc import Sequence as AbstractSequence
from typing import BinaryIO, Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.datasets import ClassificationDataset
from ppcls_ext.data.errors import DataFileError, DecodeError
from ppcls_ext.data.shards.index import ShardIndex, joined
from ppcls_ext.data.shards.pattern import shard_files
from ppcls_ext.utils.files import open_regular
from ppcls_ext.utils.validate import positive_int

logger = logging.getLogger("ppcls_ext")

OPEN_SHARDS = 64  # of one process at a time


class ShardDataset(ClassificationDataset):
    """Images with labels in tar shards, read by place.

    Which samples are read when is the business of :class:`ppcls_ext.data.shards.ShardSampler`: shard after shard, mixed
    by a buffer. A shard is announced to the system when its first image is due (``posix_fadvise``, where there is one),
    which then reads it from end to end; the buffer is the system's page cache, common to all workers.

    Args:
        shards: tar files, as a pattern such as ``train-{000000..000639}.tar`` or a list of patterns.
        transform_ops: operators as in YAML.
        num_samples: how many samples there have to be; unset: as many as there are.
        shuffle_buffer: number of samples among which the next one is drawn, where the sampler shuffles.
        skip_bad: see :class:`ClassificationDataset`.
        seed: see :class:`ClassificationDataset`.

    Raises:
        FileNotFoundError: if a shard or its index does not exist.
        DataFileError: if an index is malformed, or the number of samples differs.
        ValueError: if a pattern or the operators are wrong.
    """

    paths: MemberPaths

    def __init__(
        self,
        shards: Union[str, Sequence[str]],
        transform_ops: Optional[Sequence[dict]] = None,
        num_samples: Optional[int] = None,
        shuffle_buffer: int = 10_000,
        *,
        skip_bad: bool = False,
        seed: int = 0,
    ):
        self.shards = shard_files(shards)
        self.shuffle_buffer = positive_int(shuffle_buffer, "shuffle_buffer")
        indices = [ShardIndex.load(shard) for shard in self.shards]
        self.shard_lengths = [len(index) for index in indices]
        found = sum(self.shard_lengths)
        if num_samples is not None and positive_int(num_samples, "num_samples") != found:
            raise DataFileError(f"num_samples: expected {num_samples} samples, the {len(indices)} shards hold {found}")
        self.shard_sizes = [index.tar_bytes for index in indices]
        self._shard_of = np.repeat(np.arange(len(indices)), self.shard_lengths)
        self._offsets, self._sizes = joined(indices, "offsets"), joined(indices, "sizes")
        names = Names([name for index in indices for name in index.names])
        self.fingerprint = _fingerprint(indices)
        labels = joined(indices, "labels")
        self.original_classes = tuple(int(label) for label in np.unique(labels))
        self._open: OrderedDict[int, BinaryIO] = OrderedDict()
        self._process = os.getpid()
        paths = MemberPaths(self.shards, self._shard_of, names)
        super().__init__(paths, labels, transform_ops, skip_bad=skip_bad, seed=seed)

    def read(self, index: int) -> bytes:
        """Return the bytes of an image.

        Raises:
            OSError: if the shard cannot be read.
            DecodeError: if it ends before the image does, or holds something else at that place.
        """
        shard, offset, size = int(self._shard_of[index]), int(self._offsets[index]), int(self._sizes[index])
        stream = self._stream(shard)
        stream.seek(offset - tarfile.BLOCKSIZE)
        there = os.fstat(stream.fileno()).st_size - stream.tell()
        data = stream.read(min(tarfile.BLOCKSIZE + size, max(0, there)))
        if len(data) < tarfile.BLOCKSIZE + size:
            whole, rest = self.shard_sizes[shard], max(0, len(data) - tarfile.BLOCKSIZE)
            raise DecodeError(
                f"the shard is cut off: {rest} of the image's {size} bytes are there; it had {whole} bytes"
            )
        try:
            header = tarfile.TarInfo.frombuf(data[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            raise DecodeError(
                f"the shard is damaged before this image, or its index belongs to a different file: {error}"
            ) from error
        name = self.paths.names[index]
        # A long name stands in full before this header.
        long = len(name.encode("utf-8", "surrogateescape")) > tarfile.LENGTH_NAME
        if header.size != size or (header.name != name and not long):
            raise DecodeError(
                f"the index belongs to a different file: {header.name} of {header.size} bytes is at its place"
            )
        return data[tarfile.BLOCKSIZE :]

    def _stream(self, shard: int) -> BinaryIO:
        """Return the open file of a shard; a process has its own, for a forked one would share their positions."""
        if self._process != os.getpid():
            self._open, self._process = OrderedDict(), os.getpid()
        stream = self._open.get(shard)
        if stream is None:
            if len(self._open) >= OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
            stream = self._open[shard] = open_regular(self.shards[shard])
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        self._open.move_to_end(shard)
        return stream

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_open": OrderedDict()}

    def missing_files(self) -> list[str]:
        """Return []: the constructor has checked the shards."""
        return []

    def check_files(self) -> None:
        """Compare the shards' sizes with their indices'.

        A shard that was cut off costs its last images: training leaves them out and counts them.

        Raises:
            DataFileError: if a shard is not the one that was indexed; in evaluation also if it was cut off.
        """
        for path, size in zip(self.shards, self.shard_sizes):
            found = os.path.getsize(path)
            message = f"{path}: has {found} bytes, its index says {size}"
            if found > size:
                raise DataFileError(f"{message}; `ppcls_ext index-shards '{path}'` writes a new index")
            if found < size:
                if not self.skip_bad:
                    raise DataFileError(f"{message}: it is cut off")
                logger.warning("%s: it is cut off, the lost images will be left out", message)


class Names:
    """Strings end to end: an array of NumPy would give each the room of the longest, a list some 100 bytes."""

    def __init__(self, names: Sequence[str]):
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        self._ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
        self._bytes = b"".join(encoded)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        start = self._ends[index - 1] if index % len(self) else 0
        return self._bytes[start : self._ends[index]].decode("utf-8", "surrogateescape")


def _fingerprint(indices: Sequence[ShardIndex]) -> str:
    """Return a short hash of what all shards hold, in their order."""
    together = "".join(index.fingerprint() for index in indices)
    return hashlib.sha256(together.encode()).hexdigest()[:16]


class MemberPaths(AbstractSequence):
    """``<shard>:<member>`` of each sample, joined on demand: a million of them would fill the memory."""

    def __init__(self, shards: Sequence[str], shard_of: np.ndarray, names: Names):
        self.shards, self.shard_of, self.names = shards, shard_of, names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # nobody asks for a slice
        return f"{self.shards[self.shard_of[index]]}:{self.names[index]}"
