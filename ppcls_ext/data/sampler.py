"""The order of samples: a function of seed and epoch alone.

Of one permutation of the whole dataset, global batch k is the k-th run of ``world_size * batch_size`` samples, and rank
r takes the r-th slice of it. W ranks with batch size b hence see in step k what one rank with batch size W * b sees.
"""

from __future__ import annotations

from typing import Optional, Sequence, Union

import numpy as np

from ppcls_ext.utils.validate import flag, positive_int, side

#: Samples of an epoch of repeated augmentation come in multiples of this.
ROUNDED_TO = 256
MAX_REPEATS = 100


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

    def image_size(self, epoch: int, batch: int) -> Optional[tuple[int, int]]:
        """Return the (width, height) that the images of a batch get; None: what their operators say."""
        return None

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
        if not 1 <= num_repeats <= MAX_REPEATS:
            raise ValueError(f"num_repeats: expected a number from 1 to {MAX_REPEATS}, got {num_repeats}")
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


class MultiScaleSampler(EpochSampler):
    """Batches of images of several sizes (Mehta and Rastegari, MobileViT, arXiv 2110.02178, section 3.2).

    Each batch has one of the sizes, and as many images as make the same number of pixels as the first size with
    ``first_bs`` images. Sizes are drawn once for the run, with equal chances, until an epoch sees each image; each
    epoch mixes them anew. So all epochs have the same number of batches, and all ranks the same size at the same step.

    Args:
        size: samples in the dataset.
        scales: sizes, each an integer or ``[width, height]``; rounded down to multiples of ``divided_factor``.
        first_bs: images in a batch of the first size, of one rank.
        divided_factor: by what the model divides the size.
        is_training: False gives the first size alone, in the order of the list.
        seed: of what is drawn.
        rank: this process.
        world_size: number of processes.

    Raises:
        TypeError, ValueError: if an argument is wrong.
    """

    def __init__(
        self,
        size: int,
        scales: Sequence[Union[int, Sequence[int]]],
        first_bs: int,
        divided_factor: int = 32,
        is_training: bool = True,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        training = flag(is_training, "is_training")
        super().__init__(
            size, positive_int(first_bs, "first_bs"), shuffle=training, seed=seed, rank=rank, world_size=world_size
        )
        self.scales = checked_scales(scales, divided_factor, training)
        width, height = first_scale(scales)
        pixels = width * height * first_bs
        choices = [(scale, max(1, pixels // (scale[0] * scale[1]))) for scale in self.scales]
        random = self._random(0)
        self._own = -(-size // world_size)  # samples of one rank
        self._plan, planned = [], 0
        while planned < self._own:
            self._plan.append(choices[random.randint(len(choices))])
            planned += self._plan[-1][1]

    def __len__(self) -> int:
        """Return the number of batches of this rank in an epoch."""
        return len(self._plan)

    def signature(self) -> str:
        """Return what the order within an epoch depends on besides the seed and the samples of a step."""
        sizes = ", ".join(f"{width}x{height}" for width, height in self.scales)
        return f"{len(self)} batches of the sizes {sizes}"

    def image_size(self, epoch: int, batch: int) -> tuple[int, int]:
        """Return the (width, height) that the images of a batch get."""
        return self._planned(epoch)[batch][0]

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Return the sample indices of each batch of this rank in ``epoch``; the last one begins its share again."""
        own = np.resize(self.order(epoch), self._own * self.world_size)[self.rank :: self.world_size]
        counts = [count for _, count in self._planned(epoch)]
        return np.split(np.resize(own, sum(counts)), np.cumsum(counts)[:-1])

    def _planned(self, epoch: int) -> list[tuple[tuple[int, int], int]]:
        if not self.shuffle:
            return self._plan
        return [self._plan[place] for place in self._random(epoch + 1).permutation(len(self._plan))]

    def _random(self, number: int) -> np.random.RandomState:
        # Not the stream of the order of images; the same on all ranks.
        return np.random.RandomState(np.random.MT19937(np.random.SeedSequence([self.seed, number, len(self.scales)])))


def first_scale(scales: Sequence[Union[int, Sequence[int]]]) -> tuple[int, int]:
    """Return the (width, height) of the first size as it is given."""
    first = scales[0]
    return tuple(first) if isinstance(first, (list, tuple)) else (first, first)


def checked_scales(
    scales: Sequence[Union[int, Sequence[int]]], divided_factor: int, training: bool = True
) -> list[tuple[int, int]]:
    """Return the sizes of MultiScaleSampler as (width, height), rounded down.

    Raises:
        TypeError, ValueError: if a size is none, or smaller than ``divided_factor``.
    """
    positive_int(divided_factor, "divided_factor")
    if not isinstance(scales, (list, tuple)) or not scales:
        raise ValueError(f"scales: expected a list of sizes such as [256, 160, 320], got {scales!r}")
    sizes = []
    for position, scale in enumerate(scales if training else scales[:1]):
        pair = scale if isinstance(scale, (list, tuple)) else [scale, scale]
        if len(pair) != 2:
            raise ValueError(f"scales[{position}]: expected an integer or [width, height], got {scale!r}")
        if min(side(number, f"scales[{position}]") for number in pair) < divided_factor:
            raise ValueError(f"scales[{position}]: expected at least divided_factor = {divided_factor}, got {scale!r}")
        factor = divided_factor if training else 1
        sizes.append((pair[0] // factor * factor, pair[1] // factor * factor))
    return sizes
