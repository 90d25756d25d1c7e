"""The order of samples: a function of seed and epoch alone.

Of one permutation of the whole dataset, global batch k is the k-th run of ``world_size * batch_size`` samples, and rank
r takes the r-th slice of it. W ranks with batch size b hence see in step k what one rank with batch size W * b sees.
"""

from __future__ import annotations

import numpy as np


class EpochSampler:
    """Batches of sample indices for one rank.

    Args:
        size: samples in the dataset.
        batch_size: samples in a batch of one rank.
        shuffle: a new permutation each epoch; else the order of the list.
        drop_last: leave out a last global batch that is not full.
        seed: of the permutations.
        rank: this process.
        world_size: number of processes.
        exact: evaluation: each sample exactly once over all ranks, without padding, so ranks may have different
            numbers of batches. Otherwise all ranks have the same number of samples: the order is continued from its
            start until it divides by the number of ranks (at most world_size - 1 samples occur twice in an epoch).

    Raises:
        ValueError: if an argument is out of range, or no batch is left.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        exact: bool = False,
    ):
        if size < 1 or batch_size < 1:
            raise ValueError(
                f"expected at least one sample and a batch_size of at least 1, got {size} and {batch_size}"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank: expected 0 <= rank < world_size = {world_size}, got {rank}")
        if seed < 0:
            raise ValueError(f"seed: expected a number of at least 0, got {seed}")
        if exact and drop_last:
            raise ValueError("drop_last: expected False, evaluation counts every sample once")
        if drop_last and size < batch_size * world_size:
            raise ValueError(
                f"drop_last leaves no batch: {size} samples, but a full batch has {batch_size} x {world_size} ranks"
            )
        self.size, self.batch_size = size, batch_size
        self.shuffle, self.drop_last, self.exact = shuffle, drop_last, exact
        self.seed, self.rank, self.world_size = seed, rank, world_size

    def __len__(self) -> int:
        """Return the number of batches of this rank in an epoch."""
        full, rest = divmod(self.size, self.batch_size * self.world_size)
        if self.drop_last or not rest:
            return full
        return full + 1 if not self.exact or self.rank < rest else full

    def order(self, epoch: int) -> np.ndarray:
        """Return the permutation of the whole dataset in ``epoch``, int64 ``[size]``."""
        if not self.shuffle:
            return np.arange(self.size)
        # RandomState's stream is frozen for good (NEP 19), so the order does not depend on NumPy's version.
        bits = np.random.MT19937(np.random.SeedSequence([self.seed, epoch]))
        return np.random.RandomState(bits).permutation(self.size)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Return the sample indices of each batch of this rank in ``epoch``, each int64 ``[<= batch_size]``."""
        order = self.order(epoch)
        whole = self.batch_size * self.world_size
        if not self.exact and not self.drop_last:
            order = np.resize(order, -(-self.size // self.world_size) * self.world_size)
        batches = []
        for start in range(0, len(self) * whole, whole):
            count = min(whole, len(order) - start)
            share, extra = divmod(count, self.world_size)  # the last batch: nearly equal shares, the first ones larger
            begin = start + self.rank * share + min(self.rank, extra)
            batches.append(order[begin : begin + share + (self.rank < extra)])
        return batches
