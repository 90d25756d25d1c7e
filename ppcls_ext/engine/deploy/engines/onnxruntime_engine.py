"""ONNX Runtime."""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np
import onnxruntime

from ppcls_ext.engine.deploy.engines.base import Engine, EngineError
from ppcls_ext.engine.deploy.engines.graphs import GraphFiles
from ppcls_ext.utils.cpu_settings import default_threads

_ERRORS_ONLY = 3  # of its log's severities
_CUDA = "CUDAExecutionProvider"


class OnnxRuntimeEngine(Engine):
    """ONNX Runtime on a CPU, or on a GPU where its build can.

    Threads run side by side: a session has no state.

    Args:
        graph: an ONNX file.
        device: ``cpu``, ``gpu`` or ``gpu:<number>``.
        threads: of one operator; None takes this process's share of the cores.

    Raises:
        EngineError: ONNX Runtime cannot read the graph.
        ValueError: this build cannot run on the device.
    """

    name = "onnxruntime"
    version = onnxruntime.__version__

    def __init__(self, graph: GraphFiles, device: str = "cpu", threads: Optional[int] = None):
        super().__init__(graph.outputs, graph.input)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = threads or default_threads()
        providers = _providers(device)
        try:
            self._session = onnxruntime.InferenceSession(str(graph.path), options, providers=providers)
        except Exception as error:
            raise EngineError(f"{graph.path}: ONNX Runtime {self.version} cannot read it: {error}") from error
        self._input = self._session.get_inputs()[0].name

    def run(self, images: np.ndarray) -> Sequence[np.ndarray]:
        """Run a batch."""
        return self._session.run(None, {self._input: images})


def _providers(device: str) -> list:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    if _CUDA not in onnxruntime.get_available_providers():
        raise ValueError(f"device is {device!r}, but this build of ONNX Runtime has no {_CUDA}; use cpu")
    return [(_CUDA, {"device_id": int(device.partition(":")[2] or 0)})]
