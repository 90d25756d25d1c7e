"""What follows or precedes a convolution and is linear becomes part of it."""

from __future__ import annotations

from typing import Optional

import numpy as np

from ppcls_ext.engine.deploy.onnx.graph import Graph, Node, Tensor, all_constant
from ppcls_ext.engine.deploy.onnx.rewriting.constants import constant_operand, kind_of, sole_user


def fold_into_convolutions(graph: Graph) -> None:
    """Fold BatchNorm, biases and factors of each channel into the weights, and zeros around a map into the padding."""
    users = graph.users()
    for node in graph.nodes:
        if node.operator not in ("Conv", "ConvTranspose") or not all_constant(node.inputs[1:]):
            continue
        _take_padding(node, users)
        last = node.output
        while True:
            after = sole_user(users, last)
            affine = None if after is None else _affine(after, node, last)
            if after is None or affine is None:
                break
            _apply(graph, node, *affine)
            last = after.output
        graph.replace(last, node.output)
    graph.prune()


def _affine(node: Node, convolution: Node, x: Tensor) -> Optional[tuple[np.ndarray, np.ndarray]]:
    """Return factor and summand of each channel if that is all that ``node`` does to ``x``, a convolution's result."""
    channels = int(convolution.output.shape[1])
    if node.operator == "BatchNormalization" and all_constant(node.inputs[1:]):
        scale, bias, mean, variance = (node.operand(i).array.astype(np.float64) for i in range(1, 5))
        factor = scale / np.sqrt(variance + node.attributes["epsilon"])
        return factor, bias - mean * factor
    operand = constant_operand(node)
    if operand is None or operand[0] is not x:
        return None
    array = operand[1]
    rank = convolution.output.rank
    whole = array.reshape([1] * (rank - array.ndim) + list(array.shape)) if array.ndim <= rank else None
    if whole is None or whole.size != whole.shape[1] or whole.shape[1] not in (1, channels):
        return None
    row = np.broadcast_to(whole.reshape(-1), [channels])
    return (np.ones(channels), row) if kind_of(node) == "Add" else (row, np.zeros(channels))


def _apply(graph: Graph, node: Node, factor: np.ndarray, summand: np.ndarray) -> None:
    weight = node.operand(1)
    array = weight.array.astype(np.float64)
    if node.operator == "Conv":
        array = array * factor.reshape([-1] + [1] * (array.ndim - 1))
    else:  # [in, out / groups, ...]
        groups = node.attributes["group"]
        parts = array.reshape([groups, array.shape[0] // groups, *array.shape[1:]])
        array = (parts * factor.reshape([groups, 1, -1] + [1] * (array.ndim - 2))).reshape(array.shape)
    bias = node.operand(2).array.astype(np.float64) if len(node.inputs) > 2 else np.zeros(len(factor))
    name = weight.name.split(":")[0]
    node.inputs = [
        node.inputs[0],
        graph.constant(array, np.float32, name=name),
        graph.constant(bias * factor + summand, np.float32, name=f"{name.rpartition('.')[0]}.bias"),
    ]


def _take_padding(node: Node, users: dict) -> None:
    """Let a convolution do the padding with zeros before it."""
    before = node.operand(0).node
    if node.operator != "Conv" or before is None or before.operator != "Pad" or "auto_pad" in node.attributes:
        return
    pads, has_fill = before.operand(1), len(before.inputs) > 2
    is_zero = not has_fill or before.operand(2).value == 0
    constant = before.attributes.get("mode", "constant") == "constant" and is_zero
    if not constant or pads.value is None or sole_user(users, before.output) is not node:
        return
    amounts, rank = pads.array.tolist(), node.output.rank
    if any(amounts[:2]) or any(amounts[rank : rank + 2]) or min(amounts) < 0:
        return
    own = node.attributes["pads"]
    sides = rank - 2
    more = amounts[2:rank] + amounts[rank + 2 :]
    node.attributes["pads"] = [own[i] + more[i] for i in range(2 * sides)]
    node.inputs[0] = before.inputs[0]
