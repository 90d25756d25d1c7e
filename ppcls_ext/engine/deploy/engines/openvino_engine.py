"""OpenVINO."""

from __future__ import annotations

import threading
from typing import Optional, Sequence

import numpy as np
import openvino

from ppcls_ext.engine.deploy.engines.base import Engine, EngineError
from ppcls_ext.engine.deploy.engines.graphs import GraphFiles
from ppcls_ext.utils.cpu_settings import usable_cores


class OpenVinoEngine(Engine):
    """OpenVINO on a CPU, in float32.

    Threads run side by side, each with a request of its own.

    Args:
        graph: an ONNX file.
        device: ``cpu``.
        threads: of one request; None takes all cores of this process.

    Raises:
        EngineError: OpenVINO cannot read the graph.
        ValueError: the device is another one.
    """

    name = "openvino"
    version = openvino.__version__.partition("-")[0]

    def __init__(self, graph: GraphFiles, device: str = "cpu", threads: Optional[int] = None):
        super().__init__(graph.outputs, graph.input)
        if device != "cpu":
            raise ValueError(f"device is {device!r}; this package runs OpenVINO on the cpu")
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or usable_cores(),
            "INFERENCE_PRECISION_HINT": "f32",  # by itself it takes bfloat16 where the processor has it
        }
        try:
            self._model = openvino.Core().compile_model(str(graph.path), "CPU", settings)
        except RuntimeError as error:
            raise EngineError(f"{graph.path}: OpenVINO {self.version} cannot read it: {error}") from error
        self._of_thread = threading.local()

    def run(self, images: np.ndarray) -> Sequence[np.ndarray]:
        """Run a batch."""
        request = getattr(self._of_thread, "request", None)
        if request is None:
            request = self._of_thread.request = self._model.create_infer_request()
        results = request.infer([images])
        return [results[index] for index in range(len(self.outputs))]
