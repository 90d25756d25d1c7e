"""Linear layers: one for each of query, key and value, and constants folded into weights."""

from __future__ import annotations

from typing import Optional

import numpy as np

from ppcls_ext.engine.deploy.onnx.graph import Graph, Node, Tensor
from ppcls_ext.engine.deploy.onnx.rewriting.constants import constant_operand, kind_of, sole_user
from ppcls_ext.engine.deploy.onnx.rewriting.layouts import LAYOUT, Factors, follow
from ppcls_ext.engine.deploy.onnx.sizes import is_known

#: Into at most so many layers one is taken apart: narrower products are slower than a copy of their results.
PARTS = 3


class Linear:
    """A MatMul with a constant matrix and, if there is one, the Add of its bias."""

    def __init__(self, matmul: Node, add: Optional[Node]):
        self.matmul = matmul
        self.add = add

    @property
    def output(self) -> Tensor:
        """Return the result."""
        return (self.add or self.matmul).output

    @property
    def weight(self) -> np.ndarray:
        """Return the matrix ``[in, out]``."""
        return self.matmul.operand(1).array

    @property
    def bias(self) -> Optional[np.ndarray]:
        """Return the bias ``[out]``, if there is one."""
        if self.add is None:
            return None
        return next(t.value for t in self.add.inputs if t is not None and t.value is not None)


def linears(graph: Graph, users: dict) -> list[Linear]:
    """Return the linear layers of a graph."""
    found = []
    for node in graph.nodes:
        if node.operator != "MatMul":
            continue
        x, matrix = node.operand(0), node.operand(1)
        if x.value is not None or matrix.value is None or matrix.rank != 2:
            continue
        after = sole_user(users, node.output)
        operand = constant_operand(after) if after is not None and after.operator == "Add" else None
        is_bias = operand is not None and operand[1].shape == (matrix.shape[1],)
        found.append(Linear(node, after if is_bias else None))
    return found


def separate_linears(graph: Graph) -> None:
    """Make a layer whose channels are split, such as query, key and value, one layer for each part.

    The parts need no copy then, and each gets to where it is used by one Transpose.
    """
    users = graph.users()
    for linear in linears(graph, users):
        chain: list[Node] = []
        node = sole_user(users, linear.output)
        while node is not None and node.operator in LAYOUT and node.operator != "Squeeze":
            chain.append(node)
            node = sole_user(users, node.output)
        if node is None or node.operator != "Split" or node.operand(1).value is None:
            continue
        _separate(graph, linear, chain, node)
    graph.prune()


def _separate(graph: Graph, linear: Linear, chain: list[Node], split: Node) -> None:
    axis, lengths = split.attributes["axis"], split.operand(1).array.tolist()
    if len(lengths) > PARTS or len(set(lengths)) != 1:
        return
    factors = Factors(linear.output.shape)
    if not all(follow(factors, node) for node in chain):
        return
    if chain and not factors.reshape(split.operand(0).shape):
        return
    count, size = len(lengths), lengths[0]
    shape = [*split.operand(0).shape]
    taken = factors.axes[axis]
    if size == 1:
        if len(taken) != 1 or taken[0] not in factors.source[-1]:
            return
    else:  # take the axis apart into parts and what each holds
        inner = [*shape[:axis], count, size, *shape[axis + 1 :]]
        if not factors.reshape(inner):
            return
        taken = factors.axes[axis]
        if len(taken) != 1 or taken[0] not in factors.source[-1]:
            return
    place = factors.source[-1].index(taken[0])
    channel_sizes = [factors.sizes[factor] for factor in factors.source[-1]]
    if not is_known(*channel_sizes):
        return
    for index, result in enumerate(split.outputs):
        x = _part(graph, linear, index, channel_sizes, place)
        # From [..., C / parts] on, what the chain did, in one step that merge_layouts shortens.
        source = [axis_ for axis_ in factors.source]
        narrow = [[f for f in axis_ if f != taken[0]] for axis_ in source]
        flat = [factors.sizes[f] for axis_ in narrow for f in axis_]
        order_in = [f for axis_ in narrow for f in axis_]
        order_out = [f for axis_ in factors.axes for f in axis_ if f != taken[0]]
        if list(x.shape) != flat:
            x = graph.add("Reshape", [x, graph.shape_for(x, flat)], flat)
        perm = [order_in.index(f) for f in order_out]
        if perm != list(range(len(perm))):
            x = graph.add("Transpose", [x], [x.shape[i] for i in perm], perm=perm)
        if x.shape != result.shape:
            x = graph.add("Reshape", [x, graph.shape_for(x, result.shape)], result.shape)
        graph.replace(result, x)


def _part(graph: Graph, linear: Linear, index: int, channel_sizes: list, place: int) -> Tensor:
    """Return the linear layer of one part of the channels."""

    def chosen(array: np.ndarray) -> np.ndarray:
        split = array.reshape([*array.shape[:-1], *channel_sizes])
        return np.take(split, index, array.ndim - 1 + place).reshape([*array.shape[:-1], -1])

    weight, name = chosen(linear.weight), linear.matmul.operand(1).name.split(":")[0]
    x = linear.matmul.operand(0)
    shape = [*x.shape[:-1], weight.shape[1]]
    graph.scope = name.rpartition(".")[0]
    matrix = graph.constant(weight, name=f"{name}:{index}")
    out = graph.add("MatMul", [x, matrix], shape)
    if linear.bias is not None:
        bias = graph.constant(chosen(linear.bias), name=f"{name.rpartition('.')[0]}.bias:{index}")
        out = graph.add("Add", [out, bias], shape)
    graph.scope = ""
    return out


def _is_of_two(node: Node) -> bool:
    return all(tensor is not None and tensor.value is None for tensor in node.inputs)


def fold_into_linears(graph: Graph) -> None:
    """Fold a number that follows a linear layer as a factor, such as attention's scale, into its weights.

    It may be behind changes of layout, and behind the product of queries and keys.
    """
    users = graph.users()
    for linear in linears(graph, users):
        node = sole_user(users, linear.output)
        while node is not None and (node.operator in LAYOUT or (node.operator == "MatMul" and _is_of_two(node))):
            node = sole_user(users, node.output)
        operand = None if node is None else constant_operand(node)
        if node is None or operand is None or kind_of(node) != "Mul" or operand[1].size != 1:
            continue
        factor = operand[1].item()
        matrix = linear.matmul.operand(1)
        linear.matmul.inputs[1] = graph.constant(matrix.array * factor, np.float32, name=matrix.name)
        if linear.add is not None:
            linear.add.inputs = [
                t if t is None or t.value is None else graph.constant(t.value * factor, np.float32, name=t.name)
                for t in linear.add.inputs
            ]
        graph.replace(node.output, operand[0])
        users = graph.users()
    graph.prune()
