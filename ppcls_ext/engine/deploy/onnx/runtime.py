"""A graph in ONNX Runtime, for comparing it with the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np


class OnnxRunner:
    """An ONNX file, ready to run on the CPU.

    Raises:
        Exception: of ONNX Runtime, whose classes have no public base, if it cannot read the file.
    """

    def __init__(self, path: Path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Run a batch and return all results."""
        return self._session.run(None, {self._session.get_inputs()[0].name: images})
