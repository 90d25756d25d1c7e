"""From samples to the arrays of one batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.sample import BadImage, Sample

if TYPE_CHECKING:
    from ppcls_ext.data.datasets import ClassificationDataset
    from ppcls_ext.data.preprocess import NormalizeImage


@dataclass
class ArrayBatch:
    """A batch on the host: images ``[n, channels, height, width]``, int64 ``[n]``, int64 ``[n]``, and the rest.

    Images are float32, or uint8 where the device normalises.

    Batch operators turn the labels into float32 ``[n, class_num]``; with token labels, whose scores are in ``tokens``,
    into float32 ``[n, 1 + tokens, class_num]``.
    """

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    bad: list[BadImage]
    tokens: list = field(default_factory=list)


def load_batch(
    dataset: ClassificationDataset,
    draws: np.ndarray,
    epoch: int,
    number: int,
    transforms: Optional[Callable[[ArrayBatch, int, int], ArrayBatch]] = None,
    normalize: bool = True,
    size: Optional[tuple[int, int]] = None,
) -> ArrayBatch:
    """Load one batch.

    Args:
        dataset: where the samples come from.
        draws: what a sampler names: sample i in its repeat r is ``i + r * len(dataset)``.
        epoch: of the samples' and the batch's randomness.
        number: of the batch in the epoch.
        transforms: operators on the batch.
        normalize: whether to do the dataset's NormalizeImage at the end.
        size: the (width, height) that the sampler gives the images.
    """
    repeats, indices = np.divmod(draws, len(dataset))
    samples = [dataset.load(int(index), epoch, int(repeat), False, size) for index, repeat in zip(indices, repeats)]
    batch = collate(samples, dataset.normalization if normalize else None)
    return batch if transforms is None else transforms(batch, epoch, number)


def collate(items: Sequence[Union[Sample, BadImage]], normalization: Optional[NormalizeImage] = None) -> ArrayBatch:
    """Stack samples and set bad images aside. Without any sample, ``images`` is ``[0, 3, 1, 1]``.

    Args:
        items: what a dataset has loaded.
        normalization: is done to each image on its way into the batch: float32 is written once, where it stays.

    Raises:
        ValueError: if two images have different shapes; both samples are named.
    """
    samples = [item for item in items if isinstance(item, Sample)]
    bad = [item for item in items if isinstance(item, BadImage)]
    for sample in samples:
        if sample.image.shape != samples[0].image.shape:
            raise ValueError(
                f"images of one batch have different shapes: sample {samples[0].index} {list(samples[0].image.shape)}, "
                f"sample {sample.index} {list(sample.image.shape)} [channels, height, width]; "
                f"transform_ops must end with one size (ResizeImage with size, CropImage or RandCropImage)"
            )
    if not samples:
        images = np.zeros((0, 3, 1, 1), np.float32)
    else:
        dtype = samples[0].image.dtype if normalization is None else np.float32
        images = np.empty((len(samples), *samples[0].image.shape), dtype)
        for sample, place in zip(samples, images):
            if normalization is None:
                place[...] = sample.image
            else:
                normalization.write(sample.image, place)
    labels = np.array([sample.label for sample in samples], np.int64)
    tokens = [sample.tokens for sample in samples if sample.tokens is not None]
    return ArrayBatch(images, labels, np.array([sample.index for sample in samples], np.int64), bad, tokens)
