"""A finished graph as ONNX's own message."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union

import numpy as np

from ppcls_ext.engine.deploy.onnx.graph import Graph, Node, Tensor
from ppcls_ext.version import __version__

#: Bytes of weights that a message can hold: it must stay below 2 GiB as a whole, or protobuf cannot even measure it.
LIMIT = 2**31 - 2**26


def to_model(graph: Graph):
    """Return a graph that is pruned and in order as an ``onnx.ModelProto``."""
    from onnx import helper, numpy_helper

    constants: dict[str, np.ndarray] = {}
    names = _Names(graph)
    nodes = []
    for node in graph.nodes:
        for tensor in node.inputs:
            if tensor is not None and tensor.value is not None:
                constants[names[tensor]] = tensor.value
        inputs = ["" if tensor is None else names[tensor] for tensor in node.inputs]
        outputs = [names[tensor] for tensor in node.outputs]
        attributes = {key: _attribute(value) for key, value in node.attributes.items()}
        nodes.append(helper.make_node(node.operator, inputs, outputs, name=_node_name(node), **attributes))
    for name, tensor in graph.outputs.items():
        source = names[tensor]
        if source != name:  # a constant, an input, or a tensor that has two names
            if tensor.value is not None:
                constants[source] = tensor.value
            nodes.append(helper.make_node("Identity", [source], [name], name=f"{name}/Identity"))
    opsets = [helper.make_opsetid("", graph.opset)]
    message = helper.make_graph(
        nodes,
        "ppcls_ext",
        [_info(tensor.name, tensor) for tensor in graph.inputs],
        [_info(name, tensor) for name, tensor in graph.outputs.items()],
        [numpy_helper.from_array(np.asarray(array, order="C"), name) for name, array in constants.items()],
    )
    return helper.make_model(
        message,
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),
        producer_name="ppcls_ext",
        producer_version=__version__,
    )


def save(model, path: Path) -> None:
    """Write a message, with the weights in ``<path>.data`` where it would be too large, and check the file."""
    import onnx

    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) < LIMIT:
        path.write_bytes(model.SerializeToString())
    else:
        onnx.save_model(model, str(path), save_as_external_data=True, location=f"{path.name}.data")
    onnx.checker.check_model(str(path))


class _Names:
    """Names of the tensors in the file, each once; the results have the names that were asked for."""

    def __init__(self, graph: Graph):
        self._of: dict[Tensor, str] = {tensor: tensor.name for tensor in graph.inputs}
        for name, tensor in graph.outputs.items():
            if tensor.node is not None:
                self._of.setdefault(tensor, name)
        self._taken = set(self._of.values()) | set(graph.outputs)

    def __getitem__(self, tensor: Tensor) -> str:
        if tensor not in self._of:
            name, count = tensor.name, 0
            while name in self._taken:
                count += 1
                name = f"{tensor.name}#{count}"
            self._taken.add(name)
            self._of[tensor] = name
        return self._of[tensor]


def _node_name(node: Node) -> str:
    return node.output.name


def _attribute(value: Any) -> Any:
    from onnx import helper, numpy_helper

    if isinstance(value, np.ndarray):
        return numpy_helper.from_array(value)
    return helper.np_dtype_to_tensor_dtype(value) if isinstance(value, np.dtype) else value


def _info(name: str, tensor: Tensor):
    from onnx import helper

    shape: list[Union[int, str, None]] = [
        size if isinstance(size, int) else str(size).replace(" ", "") for size in tensor.shape
    ]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(tensor.dtype), shape)
