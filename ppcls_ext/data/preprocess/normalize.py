"""NormalizeImage and ToCHWImage."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.preprocess.operator import CHW, FLOAT32, HWC, Operator
from ppcls_ext.data.preprocess.shape import ImageShape
from ppcls_ext.registry import IMAGENET_MEAN, IMAGENET_STD
from ppcls_ext.utils.validate import flag, number, numbers

if TYPE_CHECKING:
    import paddle


class NormalizeImage(Operator):
    """``(image * scale - mean) / std`` in float32.

    Args:
        scale: a number, or a fraction as a string, default 1/255.
        mean: of the three channels, after scaling; default ImageNet's.
        std: of the three channels, after scaling; default ImageNet's.
        order: "chw" (PaddleClas's default) for an image ``[3, height, width]``; "" or "hwc" for
            ``[height, width, 3]``, which is what a dataset's operators see.
        output_fp16: only False; mixed precision casts the input itself.
        channel_num: 3, or 4 to append a channel of zeros.
    """

    dtype_out = FLOAT32

    def __init__(
        self,
        scale: Union[float, str, None] = None,
        mean: Optional[Sequence[float]] = None,
        std: Optional[Sequence[float]] = None,
        order: str = "chw",
        output_fp16: bool = False,
        channel_num: int = 3,
    ):
        if flag(output_fp16, "output_fp16"):
            raise ValueError("output_fp16: not supported by ppcls_ext, mixed precision (AMP) casts the input itself")
        if isinstance(channel_num, bool) or channel_num not in (3, 4):
            raise ValueError(f"channel_num: expected 3 or 4, got {channel_num!r}")
        if order is not None and not isinstance(order, str):
            raise TypeError(f"order: expected 'chw', 'hwc' or '', got {order!r}")
        if (order or "").lower() not in ("chw", "hwc", ""):
            raise ValueError(f"order: expected 'chw', 'hwc' or '', got {order!r}")
        self.layout_in = CHW if (order or "").lower() == "chw" else HWC
        self.channel_num = channel_num
        with np.errstate(over="ignore"):
            self.scale = np.float32(1 / 255 if scale is None else number(scale, "scale"))
        shape = (3, 1, 1) if self.layout_in == CHW else (1, 1, 3)
        mean_values = numbers(IMAGENET_MEAN if mean is None else mean, "mean", 3)
        std_values = numbers(IMAGENET_STD if std is None else std, "std", 3)
        with np.errstate(over="ignore"):
            self.mean = np.array(mean_values, np.float32).reshape(shape)
            self.std = np.array(std_values, np.float32).reshape(shape)
        for name, value, given in (("scale", self.scale, scale), ("std", self.std, std)):
            if not (np.isfinite(value) & (value > 0)).all():
                raise ValueError(f"{name}: expected positive numbers within float32, got {given!r}")
        if not np.isfinite(self.mean).all():
            raise ValueError(f"mean: expected numbers within float32, got {mean!r}")
        every_byte = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 1, 256))
        with np.errstate(over="ignore"):
            tables = self._compute(every_byte if self.layout_in == CHW else every_byte.transpose(1, 2, 0))
        if not np.isfinite(tables).all():
            raise ValueError(f"scale: (255 * {scale!r} - mean) / std is beyond float32 with mean {mean!r}, std {std!r}")
        self.tables = np.ascontiguousarray(tables if self.layout_in == CHW else tables.transpose(2, 0, 1))

    def shape_after(self, shape: ImageShape) -> ImageShape:
        """Return the shape of the result.

        Raises:
            ValueError: if there are not three channels.
        """
        if shape.channels != 3:
            raise ValueError(f"expected an image with 3 channels, it has {shape.channels} here")
        return replace(shape, channels=self.channel_num)

    def __call__(self, image: np.ndarray, rng: Optional[np.random.Generator] = None) -> np.ndarray:
        """Return the image as float32, its axes as they came.

        Raises:
            ValueError: if the channel axis does not hold three channels.
        """
        axis = 0 if self.layout_in == CHW else 2
        if image.ndim != 3 or image.shape[axis] != 3:
            raise ValueError(f"expected a {self.layout_in} image with 3 channels, got shape {list(image.shape)}")
        if image.dtype == np.uint8:
            # In memory the channels come first, whatever the order of the axes, so that ToCHWImage costs nothing.
            planes = image if self.layout_in == CHW else image.transpose(2, 0, 1)
            result = np.empty(planes.shape, np.float32)
            self.write(planes, result)
            image = result if self.layout_in == CHW else result.transpose(1, 2, 0)
        else:
            image = self._compute(image)
        if self.channel_num == 4:
            zeros = np.zeros_like(image[:1] if axis == 0 else image[:, :, :1])
            image = np.concatenate((image, zeros), axis=axis)
        return image

    def write(self, planes: np.ndarray, result: np.ndarray) -> None:
        """Normalise bytes ``[3, height, width]`` into float32 ``result``.

        A table holds the 256 values of each channel: the same numbers as the formula's, in a sixth of its time.
        """
        import cv2

        if planes.strides[0] == 1:  # channels last in memory
            planes = cv2.split(np.ascontiguousarray(planes.transpose(1, 2, 0)))
        for plane, table, part in zip(planes, self.tables, result):
            cv2.LUT(np.ascontiguousarray(plane), table, part)

    def on_device(self, images: paddle.Tensor) -> paddle.Tensor:
        """Do the same on the device: uint8 ``[n, 3, height, width]`` becomes float32, step by step as on the host."""
        import paddle

        def constant(values) -> paddle.Tensor:
            return paddle.to_tensor(np.reshape(values, (1, -1, 1, 1)), place=images.place)

        return (images.astype("float32") * constant(self.scale) - constant(self.mean)) / constant(self.std)

    def _compute(self, image: np.ndarray) -> np.ndarray:
        return (image.astype(np.float32) * self.scale - self.mean) / self.std


class ToCHWImage(Operator):
    """``[height, width, channels] -> [channels, height, width]``."""

    layout_out = CHW

    def __call__(self, image: np.ndarray, rng: Optional[np.random.Generator] = None) -> np.ndarray:
        """Return the transposed image."""
        return image.transpose(2, 0, 1)
