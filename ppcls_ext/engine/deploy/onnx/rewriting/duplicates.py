"""One node where several compute the same, such as the masks of all shifted windows of a stage."""

from __future__ import annotations

from typing import Optional

import numpy as np

from ppcls_ext.engine.deploy.onnx.graph import FLOAT32, Graph, Tensor

#: Integers and single numbers are compared; weights of a layer stay that layer's, and have its name.
SMALL = 4096


def merge_duplicates(graph: Graph) -> None:
    """Let equal nodes, and equal small constants, be one."""
    constants: dict = {}
    nodes: dict = {}
    same: dict[Tensor, Tensor] = {}
    for node in graph.nodes:
        node.inputs = [_first(tensor, same, constants) for tensor in node.inputs]
        key = (node.operator, tuple(node.inputs), tuple(sorted((k, _plain(v)) for k, v in node.attributes.items())))
        earlier = nodes.setdefault(key, node)
        if earlier is not node:
            same.update(zip(node.outputs, earlier.outputs))
    graph.outputs = {name: same.get(tensor, tensor) for name, tensor in graph.outputs.items()}
    graph.prune()


def _first(tensor: Optional[Tensor], same: dict, constants: dict) -> Optional[Tensor]:
    if tensor is None or tensor.value is None:
        return same.get(tensor, tensor)
    if tensor.value.size > (1 if tensor.dtype == FLOAT32 else SMALL):
        return tensor
    array = tensor.value
    return constants.setdefault((str(array.dtype), array.shape, array.tobytes()), tensor)


def _plain(value) -> str:
    return f"{value.dtype}{value.tolist()}" if isinstance(value, np.ndarray) else repr(value)
