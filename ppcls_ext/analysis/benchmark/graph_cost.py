"""Multiply-adds of an exported ONNX graph, by the definition of :mod:`ppcls_ext.analysis.macs`.

ONNX Runtime runs the graph once as it was written, without optimisations, and its profile gives the shapes of every
operator. Products that a graph spells as multiplications and sums of single elements are not counted.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Optional

import numpy as np

from ppcls_ext.analysis.benchmark.images import normalised_noise
from ppcls_ext.analysis.benchmark.results import Case
from ppcls_ext.analysis.benchmark.worker import reason
from ppcls_ext.engine.deploy.engines.graphs import onnx_graph
from ppcls_ext.engine.deploy.inference_yml import InferenceConfig

#: Parts of the names of operators that multiply matrices and have no rule below.
UNCOUNTED = ("QLinear", "Conv", "MatMul", "Gemm", "Einsum", "Attention", "GRU", "RNN")


class GraphCost:
    """A subject whose ``open`` is all that is wanted of it: multiply-adds of the graph in ``options["folder"]``."""

    def __init__(self, case: Case, options: dict):
        self.case = case
        self.options = options

    def open(self) -> dict:
        """Return ``macs`` at each of the sizes, None where they cannot be counted."""
        config = InferenceConfig.load_from(self.options["folder"])
        graph = onnx_graph(self.options["folder"], config)
        found: list[Optional[int]] = []
        for height, width in self.options["sizes"]:
            noise = normalised_noise(1, height, width)
            if graph is not None and graph.input.dtype == "uint8":
                noise = np.zeros((1, height, width, 3), np.uint8)
            try:
                found.append(None if graph is None else graph_macs(graph.path, noise))
            except Exception as error:  # noqa: BLE001 - a row that runs at this size gives the reason, if it is one
                print(reason(error))
                found.append(None)
        return {"macs": found}

    def run(self) -> None:
        """Do nothing."""


def graph_macs(path: Path, images: np.ndarray) -> int:
    """Run a graph on one image and count.

    Args:
        path: of the ONNX file.
        images: one image, as the graph takes it.

    Raises:
        ValueError: an operator with weights has no rule.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")  # packed weights are missing in a profile
    options.enable_profiling = True
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        session.run(None, {session.get_inputs()[0].name: images})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    total = 0
    for event in events:
        facts = event.get("args", {})
        if event.get("cat") == "Node" and "input_type_shape" in facts:
            total += operator_macs(
                facts["op_name"], _shapes(facts["input_type_shape"]), _shapes(facts["output_type_shape"])
            )
    return total


def operator_macs(name: str, inputs: list[list[int]], outputs: list[list[int]]) -> int:
    """Return the multiply-adds of one operator of ONNX for the shapes of its inputs and outputs.

    Raises:
        ValueError: it multiplies matrices and there is no rule to count them.
    """
    if name in ("Conv", "ConvInteger"):
        return math.prod(outputs[0]) * math.prod(inputs[1][1:])
    if name in ("MatMul", "MatMulInteger", "DynamicQuantizeMatMul"):
        return math.prod(outputs[0]) * inputs[0][-1]
    if name == "Gemm":  # [M, K] or [K, M], times [K, N]; the output is [M, N]
        return math.prod(inputs[0]) * outputs[0][-1]
    if name in (
        "LSTM",
        "DynamicQuantizeLSTM",
    ):  # [steps, batch, input]; weights [directions, 4 * hidden, input or hidden]
        return math.prod(inputs[0][:2]) * (math.prod(inputs[1]) + math.prod(inputs[2]))
    if any(part in name for part in UNCOUNTED):
        raise ValueError(f"no rule to count the multiply-adds of {name}")
    return 0


def _shapes(given: list) -> list[list[int]]:
    """Return the shapes of ``[{type: shape}, …]``."""
    return [shape for item in given for shape in item.values()]
