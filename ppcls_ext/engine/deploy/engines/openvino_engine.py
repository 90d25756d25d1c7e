"""OpenVINO."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Optional, Sequence

import numpy as np
import openvino

from ppcls_ext.engine.deploy.engines.base import Engine, EngineError
from ppcls_ext.engine.deploy.engines.graphs import GraphFiles
from ppcls_ext.utils.cpu_settings import default_threads

#: Shapes that get a compiled model of their own.
MAX_SHAPES = 4


class OpenVinoEngine(Engine):
    """OpenVINO on a CPU, in float32.

    A graph whose sizes are open runs up to 30 % slower than one that is compiled for a shape, which takes about a
    second. So the first few shapes that come a second time are compiled; others run with open sizes.

    Threads run side by side, each with a request of its own.

    Args:
        graph: an ONNX file.
        device: ``cpu``.
        threads: of one request; None takes this process's share of the cores.

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
        self._core = openvino.Core()
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or default_threads(),
            "INFERENCE_PRECISION_HINT": "f32",  # by itself it takes bfloat16 where the processor has it
        }
        try:
            self._graph = self._core.read_model(str(graph.path))
            self._open = self._core.compile_model(self._graph, "CPU", self._settings)
        except RuntimeError as error:
            raise EngineError(f"{graph.path}: OpenVINO {self.version} cannot read it: {error}") from error
        self._is_dynamic = self._graph.inputs[0].get_partial_shape().is_dynamic
        self._of_shape: dict[tuple, openvino.CompiledModel] = {}
        self._seen: Counter = Counter()
        self._compiling = threading.Lock()
        self._requests = threading.local()

    def run(self, images: np.ndarray) -> Sequence[np.ndarray]:
        """Run a batch."""
        model = self._compiled_for(images.shape) if self._is_dynamic else self._open
        requests = self._requests.__dict__.setdefault("by_model", {})
        request = requests.get(id(model))
        if request is None:
            request = requests[id(model)] = model.create_infer_request()
        results = request.infer([images])
        return [results[index] for index in range(len(self.outputs))]

    def _compiled_for(self, shape: tuple) -> openvino.CompiledModel:
        model = self._of_shape.get(shape)
        if model is not None:
            return model
        with self._compiling:
            self._seen[shape] += 1
            if self._seen[shape] > 1 and shape not in self._of_shape and len(self._of_shape) < MAX_SHAPES:
                graph = self._graph.clone()
                graph.reshape(list(shape))
                self._of_shape[shape] = self._core.compile_model(graph, "CPU", self._settings)
            return self._of_shape.get(shape, self._open)
