"""Test-time augmentation: several views of an image, and the mean of their probabilities."""

from __future__ import annotations

import math
from typing import Iterator, Optional, Sequence

import paddle
import paddle.nn.functional as F

from ppcls_ext.data.loader import Loader
from ppcls_ext.data.preprocess.crop import CropImage
from ppcls_ext.data.sample import Batch
from ppcls_ext.engine.model import logits_of

#: Name on the command line -> what it means.
KINDS = {
    "hflip": "the image and its mirror image",
    "five_crop": "CropImage at the four corners and in the centre",
    "ten_crop": "five_crop and their mirror images",
    "multi_scale": "the image at 6/7, 1 and 8/7 of its size",
}
#: Where a crop is: its shares of the free space to the left and above.
_CENTRE = (0.5, 0.5)
_FIVE = (_CENTRE, (0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
_SCALES = (1.0, 6 / 7, 8 / 7)


class UndefinedViewError(ValueError):
    """The model or its preprocessing has no such views."""


class TestTimeAugmentation:
    """The views of one kind.

    Args:
        kind: a name of :data:`KINDS`.

    Raises:
        ValueError: if it is unknown.
    """

    __test__ = False  # no test of pytest's

    def __init__(self, kind: str):
        if kind not in KINDS:
            raise ValueError(f"tta: expected one of {', '.join(KINDS)}, got {kind!r}")
        self.kind = kind
        self.flips = kind in ("hflip", "ten_crop")
        #: One loader for each: they read the same images and cut at different places.
        self.anchors = _FIVE if kind in ("five_crop", "ten_crop") else (_CENTRE,)
        self._sizes: Optional[list[tuple[int, int]]] = None

    def place(self, loaders: Sequence[Loader]) -> None:
        """Let each loader cut its crop.

        Raises:
            UndefinedViewError: if the operators of evaluation cut none.
        """
        if len(self.anchors) == 1:
            return
        for loader, anchor in zip(loaders, self.anchors):
            crops = [operator for operator in loader.dataset.transforms.operators if isinstance(operator, CropImage)]
            if len(crops) != 1:
                raise UndefinedViewError(
                    f"--tta {self.kind} moves the crop of CropImage; DataLoader.Eval.dataset.transform_ops has "
                    f"{len(crops)} of them, not one"
                )
            crops[0].anchor = anchor

    def scores(self, model: paddle.nn.Layer, images: Sequence[paddle.Tensor]) -> paddle.Tensor:
        """Return the logarithm of the mean probability over all views, float32 ``[N, class_num]``.

        Softmax turns it into these means again, so losses and metrics take it for logits.

        Args:
            model: in evaluation mode.
            images: those of each loader, ``[N, channels, height, width]``.

        Raises:
            UndefinedViewError: if the model does not take a size.
        """
        logs = []
        for batch in images:
            for view in self._views(model, batch):
                logs.append(F.log_softmax(logits_of(model(view)).astype("float32"), axis=-1))
        return paddle.logsumexp(paddle.stack(logs), axis=0) - math.log(len(logs))

    def _views(self, model: paddle.nn.Layer, images: paddle.Tensor) -> Iterator[paddle.Tensor]:
        if self.kind != "multi_scale":
            yield images
        else:
            for height, width in self._all_sizes(model, *images.shape[2:]):
                same = [height, width] == list(images.shape[2:])
                yield images if same else F.interpolate(images, (height, width), mode="bilinear", align_corners=False)
        if self.flips:
            yield paddle.flip(images, axis=[3])

    def _all_sizes(self, model: paddle.nn.Layer, height: int, width: int) -> list[tuple[int, int]]:
        """Return the sizes of an image: multiples of the model's greatest stride, the image's own first."""
        if self._sizes is None or self._sizes[0] != (height, width):
            unit = max(getattr(model, "stage_strides", None) or [32])
            own = (height, width)
            scaled = [tuple(max(1, round(side * scale / unit)) * unit for side in own) for scale in _SCALES[1:]]
            sizes = list(dict.fromkeys([own, *scaled]))
            if len(sizes) < len(_SCALES):
                raise UndefinedViewError(
                    f"--tta multi_scale: sizes are multiples of {unit}, the model's stride, and an image of "
                    f"{width}x{height} (width x height) has no three of them between 6/7 and 8/7"
                )
            for size in sizes if hasattr(model, "check_resolution") else ():
                try:
                    model.check_resolution(*size)
                except ValueError as error:
                    raise UndefinedViewError(f"--tta multi_scale: {error}") from error
            self._sizes = sizes
        return self._sizes


def joined(loaders: Sequence[Loader]) -> Iterator[tuple[Batch, list[paddle.Tensor]]]:
    """Return the batches of the first loader, each with the images of all loaders."""
    for batches in zip(*(loader.epoch(0) for loader in loaders)):
        yield batches[0], [batch.images for batch in batches]
