"""Chains of additions and multiplications with constants."""

from __future__ import annotations

from typing import Optional

import numpy as np

from ppcls_ext.engine.deploy.onnx.graph import FLOAT32, Graph, Node, Tensor


def constant_operand(node: Node) -> Optional[tuple[Tensor, np.ndarray]]:
    """Return the variable input and the constant one of an Add, Sub, Mul or Div, or None if there are not both.

    Sub and Div are read as Add and Mul; :func:`kind_of` tells which.
    """
    if node.operator not in ("Add", "Sub", "Mul", "Div") or node.output.dtype != FLOAT32:
        return None
    left, right = node.operand(0), node.operand(1)
    if right.value is not None:
        array = right.value.astype(np.float64)
        if node.operator == "Div":
            return (left, 1 / array) if array.all() else None
        return left, -array if node.operator == "Sub" else array
    if left.value is not None and node.operator in ("Add", "Mul"):
        return right, left.value.astype(np.float64)
    return None


def kind_of(node: Node) -> str:
    """Return ``Add`` or ``Mul`` for a node that :func:`constant_operand` reads."""
    return {"Sub": "Add", "Div": "Mul"}.get(node.operator, node.operator)


def sole_user(users: dict, tensor: Tensor) -> Optional[Node]:
    """Return the node that alone takes ``tensor``, or None."""
    found = users.get(tensor, [])
    return found[0] if len(found) == 1 else None


def merge_factors(graph: Graph) -> None:
    """Let two additions, or two multiplications, of constants in a row be one."""
    users = graph.users()
    for node in graph.nodes:
        first = constant_operand(node)
        after = sole_user(users, node.output)
        second = None if after is None else constant_operand(after)
        if first is None or after is None or second is None:
            continue
        if kind_of(node) != kind_of(after) or second[0] is not node.output:
            continue
        joined = first[1] + second[1] if kind_of(node) == "Add" else first[1] * second[1]
        after.operator = kind_of(node)
        after.inputs = [first[0], graph.constant(joined, np.float32)]
        users = graph.users()
    graph.prune()
