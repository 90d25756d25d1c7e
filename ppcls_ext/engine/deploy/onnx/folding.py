"""Computing an operator of ONNX at export, where all that it takes is constant."""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np


def _shaped(array: np.ndarray, shape: np.ndarray, allowzero: int = 0) -> np.ndarray:
    return array.reshape([array.shape[i] if size == 0 else int(size) for i, size in enumerate(shape)])


def _unsqueezed(array: np.ndarray, axes: np.ndarray) -> np.ndarray:
    return np.expand_dims(array, tuple(int(axis) for axis in axes))


#: What graphs of image classifiers compute from their weights; anything else is left to ONNX's reference evaluator.
QUICK = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Transpose": lambda x, perm: np.ascontiguousarray(x.transpose(perm)),
    "Reshape": _shaped,
    "Unsqueeze": _unsqueezed,
    "Squeeze": lambda x, axes: np.squeeze(x, tuple(int(axis) for axis in axes)),
    "Gather": lambda x, index, axis=0: np.take(x, index, axis),
    "Concat": lambda *arrays, axis: np.concatenate(arrays, axis),
    "MatMul": np.matmul,
    "Expand": lambda x, shape: x * np.ones([int(size) for size in shape], dtype=x.dtype),
    "ConstantOfShape": lambda shape, value: np.full([int(size) for size in shape], value[0]),
}


def evaluate(
    operator: str, arrays: Sequence[Optional[np.ndarray]], attributes: dict, opset: int, outputs: int
) -> Optional[list]:
    """Return the outputs for these inputs, or None where that is not worth it or not known how to."""
    if operator in ("Resize", "Conv", "ConvTranspose"):
        return None  # slow in the reference evaluator; ONNX Runtime folds them when it loads the graph
    if operator in QUICK and outputs == 1:
        return [QUICK[operator](*arrays, **attributes)]
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    names = [f"x{i}" if array is not None else "" for i, array in enumerate(arrays)]
    given = {name: array for name, array in zip(names, arrays) if array is not None}
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(operator, names, results, **attributes)
    graph = helper.make_graph(
        [node],
        "folding",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in given.items()],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in results],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return [np.asarray(array) for array in ReferenceEvaluator(model).run(None, given)]
