"""The normalisation of images as part of the first convolution."""

from __future__ import annotations

import numpy as np

from ppcls_ext.engine.deploy.onnx.graph import Graph, Node, all_constant
from ppcls_ext.engine.deploy.onnx.rewriting.constants import constant_operand, kind_of, sole_user


def fold_before_convolutions(graph: Graph) -> None:
    """Fold what a convolution's input is multiplied by, and where nothing is padded what is added, into its weights.

    Zeros that a convolution pads with stand for the mean, so a summand cannot go past them.
    """
    users = graph.users()
    for node in list(graph.nodes):
        if node.operator != "Conv" or node.attributes["group"] != 1 or not all_constant(node.inputs[1:]):
            continue
        while _fold(graph, node, users):
            graph.prune()
            users = graph.users()


def _fold(graph: Graph, node: Node, users: dict) -> bool:
    before = node.operand(0).node
    operand = None if before is None else constant_operand(before)
    if before is None or operand is None:
        return False
    if sole_user(users, before.output) is not node or operand[0].shape != before.output.shape:
        return False
    x, array = operand
    old = node.operand(1)
    weight = old.array.astype(np.float64)
    channels = weight.shape[1]
    if array.size not in (1, channels) or (array.size > 1 and array.shape[-3:] != (channels, 1, 1)):
        return False
    row = np.broadcast_to(array.reshape(-1), [channels]).reshape(1, channels, 1, 1)
    if kind_of(before) == "Mul":
        node.inputs[1] = graph.constant(weight * row, np.float32, name=old.name)
    elif any(node.attributes.get("pads", [1])):
        return False
    else:
        bias = node.operand(2).array if len(node.inputs) > 2 else np.zeros(len(weight))
        name = f"{old.name.rpartition('.')[0]}.bias"
        summed = bias + (weight * row).sum(axis=(1, 2, 3))
        node.inputs = [node.inputs[0], old, graph.constant(summed, np.float32, name=name)]
    node.inputs[0] = x
    return True
