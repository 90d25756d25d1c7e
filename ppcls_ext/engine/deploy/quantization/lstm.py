"""LSTMs in int8: ``DynamicQuantizeLSTM`` of ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from onnxruntime.quantization import QuantType, quantize_dynamic


def quantize_lstms(source: Path, target: Path, names: Sequence[str], reduce_range: bool) -> None:
    """Write a graph whose LSTMs have weights of int8, a scale a gate's row, and quantise their input at run time.

    The range of a recurrent state is known only at run time, so this is not left to calibration. Comes after the
    static quantisation: ONNX cannot infer the type of what ``DynamicQuantizeLSTM``, an operator of ``com.microsoft``,
    gives.

    Args:
        source: of the graph.
        target: the file to write.
        names: of the LSTM nodes.
        reduce_range: whether weights have seven bits.
    """
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=["LSTM"],
        per_channel=True,
        reduce_range=reduce_range,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=list(names),
    )
