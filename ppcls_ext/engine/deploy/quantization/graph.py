"""One float graph and the int8 graphs that are made of it."""

from __future__ import annotations

import copy
import logging
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Collection, Iterator, Optional, Sequence

import numpy as np
import onnx
from onnxruntime.quantization import QDQQuantizer, QuantType

from ppcls_ext.engine.deploy.quantization.calibration import tensor_ranges
from ppcls_ext.engine.deploy.quantization.errors import QuantizationError
from ppcls_ext.engine.deploy.quantization.lstm import quantize_lstms
from ppcls_ext.engine.deploy.quantization.presets import HEAVY, PRESETS, groups_of, nodes_of, preset_of

QUANTIZED = ("DequantizeLinear",)


class QuantizableGraph:
    """A float graph with the ranges of its tensors.

    Args:
        path: of the float graph.
        preset: a name of :data:`PRESETS`; None takes the one that fits.
        reduce_range: whether weights have seven bits, for processors whose 16-bit sums of products may overflow.

    Attributes:
        preset: its name.
        groups: names of the nodes that may become int8, by group.

    Raises:
        QuantizationError: the graph is quantised already, or has nothing to quantise.
    """

    def __init__(self, path: Path, preset: Optional[str] = None, reduce_range: bool = False):
        self._model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
        for index, node in enumerate(self._model.graph.node):
            node.name = node.name or f"{node.op_type}_{index}"
        if any(node.op_type in QUANTIZED for node in self._model.graph.node):
            raise QuantizationError(f"{path} is quantised already; give the float export")
        self.preset = preset or preset_of(self._model)
        self.reduce_range = reduce_range
        self.groups = groups_of(self._model, nodes_of(self._model, PRESETS[self.preset]))
        if not self.groups:
            raise QuantizationError(f"{path} has no operator that the preset {self.preset} quantises")
        self._operators = [name for name in PRESETS[self.preset].operators if name != "LSTM"]
        self._ranges: Any = None

    def calibrate(self, folder: Path, method: str, batches: Sequence[np.ndarray]) -> None:
        """Find the ranges; ``folder`` is for temporary files."""
        path = folder / "named.onnx"
        onnx.save(self._model, str(path))
        # The quantiser of ONNX Runtime 1.19 asks for the range of every softmax, though it stays float.
        self._ranges = tensor_ranges(path, [*self._operators, "Softmax"], method, batches)

    def write(self, path: Path, in_float: Collection[str] = ()) -> dict:
        """Write the graph in int8 but for some groups.

        Args:
            path: the file.
            in_float: groups that stay float.

        Returns:
            The number of heavy operators in int8 and in float, by type.
        """
        names = [name for group, nodes in self.groups.items() if group not in in_float for name in nodes]
        lstms = {node.name for node in self._model.graph.node if node.op_type == "LSTM"}.intersection(names)
        static = [name for name in names if name not in lstms]
        model = copy.deepcopy(self._model)
        with _quiet():
            if static:
                model = self._static(model, static)
            onnx.save(model, str(path))
            if lstms:
                quantize_lstms(path, path, sorted(lstms), self.reduce_range)
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
        return operator_counts(model)

    def _static(self, model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=self.reduce_range,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=names,
            nodes_to_exclude=[],
            op_types_to_quantize=self._operators,
            extra_options={"OpTypesToExcludeOutputQuantization": list(PRESETS[self.preset].float_results)},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        return quantizer.model.model


def operator_counts(model: onnx.ModelProto) -> dict:
    """Return how many heavy operators are in int8 and in float, by type.

    One whose first two inputs are dequantised runs in int8. Products of two activations count as ``MatMul`` too.
    """
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    counts: dict[str, dict[str, int]] = {"int8": {}, "float": {}}
    for node in model.graph.node:
        name = node.op_type.removeprefix("DynamicQuantize")
        if name not in HEAVY:
            continue
        is_int8 = name != node.op_type or set(node.input[:2]) <= dequantized
        kind = counts["int8" if is_int8 else "float"]
        kind[name] = kind.get(name, 0) + 1
    return counts


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what ONNX Runtime's quantiser logs: it advises a step that the export has done."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
