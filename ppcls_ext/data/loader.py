"""The loader: batches on the device, the same for any number of workers."""

from __future__ import annotations

import logging
from typing import Generator, Optional

import numpy as np

from ppcls_ext.data.batch_ops import BatchTransforms
from ppcls_ext.data.collate import ArrayBatch, load_batch
from ppcls_ext.data.datasets import ClassificationDataset
from ppcls_ext.data.preprocess import NormalizeImage
from ppcls_ext.data.sample import Batch
from ppcls_ext.data.sampler import EpochSampler
from ppcls_ext.data.workers import WorkerPool

logger = logging.getLogger(__name__)


def device_normalization_problem(normalization: Optional[NormalizeImage], mixes: bool) -> Optional[str]:
    """Return why NormalizeImage cannot be left to the device, or None.

    Args:
        normalization: the last operator, if it is NormalizeImage.
        mixes: whether there are operators on batches.
    """
    if mixes:
        return "batch_transform_ops mix normalised images; remove one of the two"
    if normalization is None:
        return "the last operator must be NormalizeImage, the only one, with channel_num: 3"
    return None


class Loader:
    """Yields the batches of one rank.

    Args:
        dataset: where samples come from.
        sampler: which samples belong to which batch.
        num_workers: processes that load; 0 loads in this one.
        use_shared_memory: let images travel through shared memory where the system has it.
        places: device for ``Batch.images`` and ``Batch.labels``, default Paddle's current one.
        batch_transforms: operators on a whole batch.
        normalize_on_device: leave NormalizeImage, the last operator, to the device. Images then are bytes up to there:
            a quarter of what workers hand over and the device is sent. It computes in the order of the host.

    Raises:
        ValueError: if ``normalize_on_device`` is not possible with these operators.
    """

    def __init__(
        self,
        dataset: ClassificationDataset,
        sampler: EpochSampler,
        num_workers: int = 0,
        use_shared_memory: bool = True,
        places=None,
        batch_transforms: Optional[BatchTransforms] = None,
        normalize_on_device: bool = False,
    ):
        self.dataset, self.sampler = dataset, sampler
        self.num_workers = num_workers
        self.use_shared_memory = use_shared_memory
        self.places = places
        self.batch_transforms = batch_transforms
        self.normalize_on_device = normalize_on_device
        if normalize_on_device:
            problem = device_normalization_problem(dataset.normalization, batch_transforms is not None)
            if problem:
                raise ValueError(f"loader.normalize_on_device: {problem}")
        self._pool: Optional[WorkerPool] = None
        self._image_shape = (3, 1, 1)

    def __len__(self) -> int:
        """Return the number of batches of this rank in an epoch."""
        return len(self.sampler)

    def epoch(self, epoch: int, start_batch: int = 0) -> Generator[Batch, None, None]:
        """Iterate over the batches of ``epoch`` from ``start_batch`` on; what comes before is not even read.

        Worker processes stay for the next epoch when the iteration runs to its end, and end with it when the caller
        stops early (or closes the iterator).

        Raises:
            ValueError: if ``start_batch`` is out of range, or images of one batch differ in shape.
            BadImageError: if an image cannot be read, in evaluation.
            TransformError: if an operator fails.
            WorkerDiedError: if a worker process ends unexpectedly.
        """
        if not 0 <= start_batch <= len(self):
            raise ValueError(f"start_batch: expected 0 to {len(self)}, got {start_batch}")
        return self._iterate(int(epoch), start_batch)

    def close(self) -> None:
        """End the worker processes, if there are any."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _iterate(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        self.dataset.set_epoch(epoch)
        if self.num_workers == 0:
            for number, draws in enumerate(self.sampler.batches(epoch)[start:], start):
                arrays = load_batch(
                    self.dataset,
                    draws,
                    epoch,
                    number,
                    self.batch_transforms,
                    not self.normalize_on_device,
                    self.sampler.image_size(epoch, number),
                )
                yield self._on_device(arrays)
            return
        if self._pool is None or self._pool.closed:
            self._pool = WorkerPool(
                self.dataset,
                self.sampler,
                self.num_workers,
                self.use_shared_memory,
                batch_transforms=self.batch_transforms,
                normalize=not self.normalize_on_device,
            )
        batches = self._pool.batches(epoch, start, len(self))
        try:
            for batch in batches:
                yield self._on_device(batch)
        finally:
            batches.close()

    def _on_device(self, batch: ArrayBatch) -> Batch:
        import paddle

        images = batch.images
        if len(images):
            self._image_shape = images.shape[1:]
        else:
            images = np.zeros((0, *self._image_shape), np.float32)
        images = paddle.to_tensor(images, place=self.places)
        normalization = self.dataset.normalization if self.normalize_on_device else None
        if normalization is not None and len(batch.images):
            images = normalization.on_device(images)
        return Batch(
            images,
            paddle.to_tensor(batch.labels, place=self.places),
            batch.indices,
            batch.bad,
        )
