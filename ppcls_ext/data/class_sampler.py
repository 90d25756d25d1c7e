"""Samplers that draw by class: rare classes more often.

Both are functions of seed and epoch alone, and every rank computes the whole order, as of
:class:`~ppcls_ext.data.sampler.EpochSampler`. An image that occurs again in an epoch is augmented differently: its
r-th repeat is ``i + r * images``.
"""

from __future__ import annotations

import zlib
from typing import Optional

import numpy as np

from ppcls_ext.data.sampler import EpochSampler


class _ClassSampler(EpochSampler):
    """What both share.

    Args:
        labels: class of each image, int64 ``[images]``.
        length: samples of an epoch; None means one for each image.
        batch_size: samples in a batch of one rank.
        drop_last: leave out a last global batch that is not full.
        seed: of the draws.
        rank: this process.
        world_size: number of processes.

    Raises:
        ValueError: if an argument is out of range, or no batch is left.
    """

    def __init__(
        self,
        labels: np.ndarray,
        batch_size: int,
        length: Optional[int] = None,
        *,
        drop_last: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.labels = np.asarray(labels, np.int64)
        self.images = len(self.labels)
        length = self.images if length is None else length
        super().__init__(
            length, batch_size, shuffle=True, drop_last=drop_last, seed=seed, rank=rank, world_size=world_size
        )

    def signature(self) -> str:
        """Return what the order within an epoch depends on besides the seed and the samples of a step."""
        return f"{self.images} single files by class ({zlib.crc32(self.labels.tobytes()):08x}), {self._rule()}"

    def _rule(self) -> str:
        raise NotImplementedError

    def _random(self, epoch: int) -> np.random.RandomState:
        # RandomState's stream is frozen for good (NEP 19); the last word keeps it apart from other samplers' streams.
        return np.random.RandomState(np.random.MT19937(np.random.SeedSequence([self.seed, epoch, 2])))

    def _numbered(self, draws: np.ndarray) -> np.ndarray:
        """Return draws with the number of each repeat: the r-th one of image i becomes ``i + r * images``."""
        order = np.argsort(draws, kind="stable")
        ordered = draws[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        repeats = np.arange(len(draws)) - np.repeat(starts, np.diff(np.r_[starts, len(draws)]))
        numbered = np.empty(len(draws), np.int64)
        numbered[order] = ordered + repeats * self.images
        return numbered


class ClassBalancedSampler(_ClassSampler):
    """Draws with replacement: each class that occurs with the same chance, and each of its images alike.

    An epoch has as many draws as there are images, so images of large classes are left out of some epochs.
    """

    def order(self, epoch: int) -> np.ndarray:
        """Return the draws of ``epoch``, int64 ``[images]``."""
        random = self._random(epoch)
        classes, counts = np.unique(self.labels, return_counts=True)
        by_class = np.argsort(self.labels, kind="stable")
        starts = np.cumsum(counts) - counts
        drawn = random.randint(len(classes), size=self.size)
        places = (random.random_sample(self.size) * counts[drawn]).astype(np.int64)
        return self._numbered(by_class[starts[drawn] + np.minimum(places, counts[drawn] - 1)])

    def _rule(self) -> str:
        return "classes drawn alike"


class RepeatFactorSampler(_ClassSampler):
    """Repeats images of rare classes (Gupta et al., LVIS, arXiv 1908.03195, section 5.2).

    An image of class c has the repeat factor ``max(1, sqrt(threshold / f_c))``, with the share ``f_c`` of the class. It
    occurs that many times in an epoch, a fraction by chance, and at least once; so an epoch is longer than the data
    set: by the sum of the factors, rounded up, the same number in every epoch.

    Args:
        repeat_threshold: share of the images below which a class is repeated, in (0, 1].
    """

    def __init__(self, labels: np.ndarray, batch_size: int, repeat_threshold: float, **options):
        if not 0 < repeat_threshold <= 1:
            raise ValueError(f"repeat_threshold: expected a share in (0, 1], got {repeat_threshold!r}")
        self.repeat_threshold = repeat_threshold
        labels = np.asarray(labels, np.int64)
        shares = np.bincount(labels) / len(labels)
        factors = np.maximum(1.0, np.sqrt(repeat_threshold / shares[labels]))
        length = int(np.ceil(factors.sum() - 1e-6))  # not one more for the last digits of a sum
        self.factors = factors * (length / factors.sum())
        super().__init__(labels, batch_size, length, **options)

    def order(self, epoch: int) -> np.ndarray:
        """Return the draws of ``epoch`` in a random order, int64 ``[size]``."""
        random = self._random(epoch)
        places = random.permutation(self.images)
        # Systematic sampling: one offset for all fractions, so that their number is the same in every epoch.
        ends = np.floor(np.cumsum(self.factors[places]) + random.random_sample()).astype(np.int64)
        ends[-1] = self.size  # the offset and the last digits of the sum do not count
        draws = np.repeat(places, np.diff(np.r_[0, np.minimum(ends, self.size)]))
        return self._numbered(draws)[random.permutation(self.size)]

    def _rule(self) -> str:
        return f"repeated below a share of {self.repeat_threshold:g}"
