"""The order of samples: a function of seed and epoch alone.

Of one permutation of the whole dataset, global batch k is the k-th run of ``world_size * batch_size`` samples, and rank
r takes the r-th slice of it. W ranks with batch size b hence see in step k what one rank with batch size W * b sees.
"""

from __future__ import annotations

import numpy as np

#: Samples of an epoch of repeated augmentation come in multiples of this.
ROUNDED_TO = 256


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

    def signature(self) -> str:
        """Return what the order within an epoch depends on besides the seed and the samples of a step."""
        return ""

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


class RASampler(EpochSampler):
    """Repeated augmentation (Hoffer et al., arXiv 1901.09335): each image several times, augmented differently.

    Of the order with its repeats, rank r takes every W-th place from r on, so the repeats of an image meet in one step
    on different ranks. As in DeiT and PaddleClas an epoch has as many samples as the dataset, in whole multiples of
    256, so only a part of the images is seen in it; a dataset of fewer than 256 images counts whole.

    Args:
        size: samples in the dataset.
        batch_size: samples in a batch of one rank.
        shuffle: a new permutation each epoch; else the order of the list.
        drop_last: leave out a last batch that is not full.
        seed: of the permutations.
        rank: this process.
        world_size: number of processes.
        num_repeats: times that an image occurs in a row.

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
        num_repeats: int = 3,
    ):
        super().__init__(size, batch_size, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size)
        if num_repeats < 1:
            raise ValueError(f"num_repeats: expected a number of at least 1, got {num_repeats}")
        self.drop_last, self.num_repeats = drop_last, num_repeats
        self.selected = (size // ROUNDED_TO * ROUNDED_TO or size) // world_size
        if len(self) == 0:
            raise ValueError(f"no batch is left: {self.selected} samples for each of {world_size} ranks")

    def __len__(self) -> int:
        """Return the number of batches of this rank in an epoch."""
        full, rest = divmod(self.selected, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Return the draws of each batch of this rank in ``epoch``: sample i in its repeat r is ``i + r * size``."""
        repeats = np.arange(self.num_repeats) * self.size
        draws = (self.order(epoch)[:, None] + repeats).ravel()
        draws = draws[: self.selected * self.world_size][self.rank :: self.world_size]
        return [draws[number * self.batch_size :][: self.batch_size] for number in range(len(self))]
