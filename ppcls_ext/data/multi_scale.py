"""MultiScaleDataset: a label list whose images get the size of their batch."""

from __future__ import annotations

from typing import Optional, Sequence

from ppcls_ext.data.datasets import ImageNetDataset
from ppcls_ext.data.preprocess import NormalizeImage, Pipeline, build_transforms

#: Operators whose ``size`` becomes that of the batch.
RESIZING = ("RandCropImage", "ResizeImage", "CropImage")


class MultiScaleDataset(ImageNetDataset):
    """A label list whose images get the size that MultiScaleSampler draws for their batch.

    The batch's size takes the place of ``size`` in RandCropImage, ResizeImage and CropImage. (PaddleClas drops their
    other arguments too, and exchanges width and height.)

    Args:
        image_root: see :class:`ImageNetDataset`.
        cls_label_path: see :class:`ImageNetDataset`.
        transform_ops: operators as in YAML; at least one of the three above.
        delimiter: see :class:`ImageNetDataset`.
        skip_bad: see :class:`ClassificationDataset`.
        seed: see :class:`ClassificationDataset`.

    Raises:
        FileNotFoundError, LabelFileError: see :class:`ImageNetDataset`.
        ValueError: if the operators are wrong, or none of them gives a size.
    """

    def __init__(
        self,
        image_root: str,
        cls_label_path: str,
        transform_ops: Optional[Sequence[dict]] = None,
        delimiter: Optional[str] = None,
        *,
        skip_bad: bool = False,
        seed: int = 0,
    ):
        super().__init__(image_root, cls_label_path, transform_ops, delimiter, skip_bad=skip_bad, seed=seed)
        self._transform_ops = transform_ops
        self._at_size: dict[tuple, tuple[Pipeline, Pipeline, Optional[NormalizeImage]]] = {}

    def transforms_at(self, size: Optional[tuple[int, int]], normalize: bool) -> Pipeline:
        """Return the operators for images of ``size`` = (width, height)."""
        if size is None:
            return super().transforms_at(size, normalize)
        if size not in self._at_size:
            whole = build_transforms(resized(self._transform_ops or [], size), from_bytes=True)
            self._at_size[size] = (whole, *whole.split_normalization())
        whole, before_normalization, _ = self._at_size[size]
        return whole if normalize else before_normalization


def resized(transform_ops: Sequence[dict], size: Sequence[int]) -> list[dict]:
    """Return the operators with ``size`` = (width, height) in place of theirs."""
    result = []
    for item in transform_ops:
        ((name, arguments),) = item.items()
        if name in RESIZING:
            arguments = {key: value for key, value in (arguments or {}).items() if key != "resize_short"}
            item = {name: {**arguments, "size": list(size)}}
        result.append(item)
    return result


def multi_scale_problem(transform_ops: Sequence[dict]) -> Optional[str]:
    """Return a sentence if no operator takes the size of a batch, else None."""
    if any(isinstance(item, dict) and set(item) & set(RESIZING) for item in transform_ops or ()):
        return None
    return f"MultiScaleDataset gives the size of a batch to {', '.join(RESIZING)}; expected at least one of them"
