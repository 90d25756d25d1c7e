"""The order in which shards are read: a function of seed, epoch and number of processes alone."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from ppcls_ext.data.sampler import EpochSampler


class ShardSampler(EpochSampler):
    """Batches of one rank from shards, read one after the other.

    An epoch is one line of samples: the shards in an order of their own, each from its first sample to its last. Rank r
    takes the r-th of ``world_size`` equal parts of the line, whole shards but for its ends, and draws from it through a
    buffer: the next sample is one of the ``buffer`` that are held, and the line's next one takes its place.

    No two ranks or workers read the same samples, each sample occurs once, and any batch can be named without reading
    what is before it, so any number of workers gives the same batches and a resumed run goes on exactly.

    Args:
        lengths: samples in each shard.
        batch_size: samples in a batch of one rank.
        buffer: samples among which the next one is drawn.
        fingerprint: of the samples in the shards, so that others are noticed when a run is resumed.
        shuffle: draw the shards' order and the samples; else the order of the files.
        drop_last: leave out a last global batch that is not full.
        seed: of what is drawn.
        rank: this process.
        world_size: number of processes.
        exact: evaluation: each sample exactly once over all ranks. Otherwise all ranks have the same number of samples:
            the line is continued from its start until it divides by the number of ranks.

    Raises:
        ValueError: if an argument is out of range, or no batch is left.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        *,
        buffer: int,
        fingerprint: str = "",
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        exact: bool = False,
    ):
        super().__init__(
            sum(lengths),
            batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            seed=seed,
            rank=rank,
            world_size=world_size,
            exact=exact,
        )
        if buffer < 1:
            raise ValueError(f"buffer: expected a number of at least 1, got {buffer}")
        self.lengths, self.buffer, self.fingerprint = np.asarray(lengths), buffer, fingerprint

    def _part(self) -> slice:
        """Return this rank's part of the line."""
        if self.exact:
            return slice(self.size * self.rank // self.world_size, self.size * (self.rank + 1) // self.world_size)
        if self.drop_last:
            share = self.size // (self.batch_size * self.world_size) * self.batch_size
        else:
            share = -(-self.size // self.world_size)
        return slice(share * self.rank, share * (self.rank + 1))

    def __len__(self) -> int:
        """Return the number of batches of this rank in an epoch."""
        part = self._part()
        return -(-(part.stop - part.start) // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """Return the line of ``epoch``, int64 ``[size]``."""
        if not self.shuffle:
            return np.arange(self.size)
        starts = np.cumsum(self.lengths) - self.lengths
        shards = self._random(epoch).permutation(len(self.lengths))
        return np.concatenate([np.arange(starts[shard], starts[shard] + self.lengths[shard]) for shard in shards])

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Return the sample indices of each batch of this rank in ``epoch``, each int64 ``[<= batch_size]``."""
        part = self._part()
        line = np.resize(self.order(epoch), max(self.size, part.stop))[part]
        if self.shuffle:
            line = drawn_through_buffer(line, self.buffer, self._random(epoch, self.rank + 1))
        return [line[start : start + self.batch_size] for start in range(0, len(line), self.batch_size)]

    def signature(self) -> str:
        """Return what the order within an epoch depends on besides the seed and the batch."""
        content = f", with the index {self.fingerprint}" if self.fingerprint else ""
        return f"{len(self.lengths)} shards, {self.world_size} processes, a buffer of {self.buffer}{content}"

    def _random(self, *words: int) -> np.random.RandomState:
        # RandomState's stream is frozen for good (NEP 19), so the order does not depend on NumPy's version.
        return np.random.RandomState(np.random.MT19937(np.random.SeedSequence([self.seed, *words])))


def drawn_through_buffer(line: np.ndarray, buffer: int, random: np.random.RandomState) -> np.ndarray:
    """Return ``line`` in the order in which a shuffle buffer gives it; no element comes more than ``buffer`` early."""
    held, rest = line[:buffer].tolist(), line[buffer:].tolist()
    drawn = []
    for place, item in zip(random.randint(len(held), size=len(rest), dtype=np.int64).tolist(), rest):
        drawn.append(held[place])
        held[place] = item
    return np.concatenate([np.array(drawn, np.int64), random.permutation(np.array(held, np.int64))])
