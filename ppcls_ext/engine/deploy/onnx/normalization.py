"""Images as they are decoded, as the graph's input: ``[N, H, W, C]`` of uint8, normalised inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from ppcls_ext.data.preprocess.normalize import NormalizeImage
from ppcls_ext.engine.deploy.onnx.errors import OnnxExportError
from ppcls_ext.engine.deploy.onnx.graph import FLOAT32, Graph, Tensor
from ppcls_ext.engine.deploy.onnx.sizes import Size

#: The operators that the graph does by itself.
INSIDE = ("NormalizeImage", "ToCHWImage")


@dataclass(frozen=True)
class Normalization:
    """``(image - mean) * factor``, channel by channel, of images with values from 0 to 255."""

    mean: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, transform_ops: Sequence[dict]) -> Normalization:
        """Return what the last operators of a preprocessing do.

        Args:
            transform_ops: as in ``inference.yml``.

        Raises:
            OnnxExportError: they do not end with NormalizeImage and ToCHWImage, or append a channel.
        """
        ends = [next(iter(op)) for op in transform_ops[-len(INSIDE) :]]
        if ends != list(INSIDE):
            raise OnnxExportError(
                f"an input of uint8 needs a preprocessing that ends with {' and '.join(INSIDE)}; this one ends with "
                f"{' and '.join(ends) or 'nothing'}"
            )
        operator = NormalizeImage(**(transform_ops[-2]["NormalizeImage"] or {}))
        if operator.channel_num != operator.mean.size:
            raise OnnxExportError(
                "an input of uint8 is for three channels; NormalizeImage.channel_num appends a fourth"
            )
        mean, std, scale = (
            np.asarray(x, np.float64).reshape(-1) for x in (operator.mean, operator.std, operator.scale)
        )
        return cls(mean / scale, scale / std)

    def add_input(self, graph: Graph, shape: Sequence[Size]) -> Tensor:
        """Add the input ``x`` for images of ``shape`` ``[N, C, H, W]`` and return what the network takes."""
        batch, channels, height, width = shape
        if channels != self.mean.size:
            raise OnnxExportError(f"the model takes {channels} channels, NormalizeImage gives {self.mean.size}")
        images = graph.add_input("x", np.uint8, [batch, height, width, channels])
        x = graph.add("Cast", [images], images.shape, FLOAT32, to=FLOAT32)
        x = graph.add("Transpose", [x], shape, perm=[0, 3, 1, 2])
        if self.mean.any():
            x = graph.add("Sub", [x, graph.constant(self.mean.reshape(1, -1, 1, 1), np.float32)], shape)
        return graph.add("Mul", [x, graph.constant(self.factor.reshape(1, -1, 1, 1), np.float32)], shape)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return images ``[N, H, W, C]`` of uint8 as the network takes them: ``[N, C, H, W]`` of float32."""
        normalised = (images - self.mean) * self.factor
        return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2), dtype=np.float32)
