"""From a model to a checked ``inference.onnx``."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional, Sequence

import numpy as np
import paddle
from paddle import nn

from ppcls_ext.engine.deploy.comparison import TRACE_ERRORS, difference, last_line
from ppcls_ext.engine.deploy.engines.choice import Choice, open_choice
from ppcls_ext.engine.deploy.engines.graphs import GraphFiles, GraphInput
from ppcls_ext.engine.deploy.onnx.conversion import convert
from ppcls_ext.engine.deploy.onnx.errors import OnnxExportError, UnsupportedOperatorError
from ppcls_ext.engine.deploy.onnx.normalization import INSIDE, Normalization
from ppcls_ext.engine.deploy.onnx.outputs import NamedOutputs
from ppcls_ext.engine.deploy.onnx.serialization import save, to_model

logger = logging.getLogger("ppcls_ext")


@dataclass(frozen=True)
class OnnxSample:
    """An input of the graph and what the dygraph model gives for it, result by result."""

    images: np.ndarray
    outputs: list


class OnnxWriter:
    """Writes one model, in the form that was asked for.

    Args:
        model: in evaluation mode, as it was trained: what it gives now is what the graph is compared with.
        opset: version of ONNX's operators.
        normalization: if given, the graph takes images ``[N, H, W, C]`` of uint8.
    """

    def __init__(self, model: NamedOutputs, opset: int, normalization: Optional[Normalization] = None):
        self.model = model
        self.opset = opset
        self.normalization = normalization
        self.worst = 0.0  # the largest difference found, relative to the largest value of the result

    def sample(self, batch_size: int, shape: Sequence[int]) -> OnnxSample:
        """Return noise of ``shape`` ``[C, H, W]``, and the model's results for it."""
        rng = np.random.default_rng(batch_size)
        if self.normalization is None:
            images = given = rng.standard_normal((batch_size, *shape), dtype=np.float32)
        else:
            channels, height, width = shape
            images = rng.integers(0, 256, (batch_size, height, width, channels), dtype=np.uint8)
            given = self.normalization(images)
        with paddle.no_grad():
            return OnnxSample(images, [x.numpy() for x in self.model(paddle.to_tensor(given))])

    def write(
        self, path: Path, channels: int, size: tuple, samples: Sequence[OnnxSample], others: Sequence[OnnxSample]
    ) -> dict:
        """Write the graph, for all sizes if ``others`` are given and it agrees with them, and return what it is.

        Args:
            path: the file.
            channels: of the images.
            size: the native height and width.
            samples: at that size.
            others: at another size.

        Raises:
            OnnxExportError: it cannot be written, or computes something else than the model.
        """
        self.model.eval()
        reason: Optional[str] = "it takes no other size"
        if others:
            reason = self._try(path, (None, channels, None, None), [*samples, *others])
        dynamic = reason is None
        if not dynamic:
            logger.warning("the ONNX graph is for %d×%d only: %s", *size, reason)
            reason = self._try(path, (None, channels, *size), samples)
            if reason is not None:
                path.unlink(missing_ok=True)
                raise OnnxExportError(reason)
        logger.info("The ONNX graph and dygraph differ by %.1e of the largest value at most", self.worst)
        return {
            "graph": path.name,
            "opset": self.opset,
            "input": asdict(self._input()),
            "inside": [] if self.normalization is None else list(INSIDE),
            "outputs": self.model.names,
            "dynamic": ["batch", "height", "width"] if dynamic else ["batch"],
            "difference": float(f"{self.worst:.2g}"),
        }

    def _try(self, path: Path, shape: tuple, samples: Sequence[OnnxSample]) -> Optional[str]:
        """Write the graph for ``shape``, read it back and compare; return what went wrong, if anything."""
        self.worst = 0.0
        try:
            graph = convert(self.model, shape, self.opset, self.model.names, self.normalization)
        except UnsupportedOperatorError as error:
            return str(error)
        except TRACE_ERRORS as error:
            return f"tracing failed with {type(error).__name__}: {last_line(error)}"
        save(to_model(graph), path)
        try:
            engine = open_choice(Choice("onnxruntime", GraphFiles(path, tuple(self.model.names), self._input())))
            for sample in samples:
                problem = self._compare(sample, engine(sample.images))
                if problem:
                    return problem
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no other public base
            return f"ONNX Runtime cannot run the graph: {type(error).__name__}: {last_line(error)}"
        return None

    def _input(self) -> GraphInput:
        return GraphInput() if self.normalization is None else GraphInput("uint8", "NHWC")

    def _compare(self, sample: OnnxSample, outputs: dict) -> Optional[str]:
        for expected, (name, output) in zip(sample.outputs, outputs.items()):
            found, problem = difference(sample.images.shape, expected, output, f"the ONNX graph's {name}")
            if problem:
                return problem
            self.worst = max(self.worst, found)
        return None


def named_outputs(backbone: nn.Layer, output_key: str, names: Sequence[str]) -> NamedOutputs:
    """Return ``backbone`` with these results, in evaluation mode."""
    model = NamedOutputs(backbone, output_key, names)
    model.eval()
    return model
