"""Operators that make one number of many: sums, means, norms, places of the largest."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from ppcls_ext.engine.deploy.onnx.graph import BOOL, FLOAT32, INT64, Tensor
from ppcls_ext.engine.deploy.onnx.operators.call import Call, translates
from ppcls_ext.engine.deploy.onnx.sizes import is_known

REDUCTIONS = {
    "mean": "ReduceMean",
    "sum": "ReduceSum",
    "max": "ReduceMax",
    "amax": "ReduceMax",
    "min": "ReduceMin",
    "amin": "ReduceMin",
    "prod": "ReduceProd",
    "logsumexp": "ReduceLogSumExp",
}


def reduced(call: Call, operator: str, x: Tensor, axes: Sequence[int], keepdim: bool) -> Tensor:
    """Return a reduction over ``axes``; over all of them if there are none."""
    axes = sorted(call.axis(axis, x.rank) for axis in axes) or list(range(x.rank))
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    if not keepdim:
        shape = [size for axis, size in enumerate(shape) if axis not in axes]
    # ReduceSum takes its axes as an input from opset 13 on, the others from 18.
    if operator == "ReduceSum" or call.graph.opset >= 18:
        inputs, attribute = [x, call.graph.constant(axes, np.int64)], None
    else:
        inputs, attribute = [x], axes
    return call.graph.add(operator, inputs, shape, axes=attribute, keepdims=int(keepdim))


def _axes(call: Call, *names: str) -> list[int]:
    for name in names:
        if call.given(name):
            return call.known_integers(name)
    found = call.attribute(*names)
    return list(found) if isinstance(found, (list, tuple)) else [int(found)]


@translates(*REDUCTIONS)
def reduce(call: Call) -> Tensor:
    """A sum, mean or extreme over axes."""
    x = call.tensor("x")
    if x.dtype == BOOL:
        x = call.cast(x, INT64)
    axes = [] if call.attribute("reduce_all", default=False) else _axes(call, "axis", "dims")
    return reduced(call, REDUCTIONS[call.name], x, axes, call.attribute("keepdim", "keep_dim"))


@translates("any", "all")
def any_or_all(call: Call) -> Tensor:
    """Whether one of the elements, or each, is true."""
    x = call.cast(call.cast(call.tensor("x"), BOOL), INT64)
    operator = "ReduceMax" if call.name == "any" else "ReduceMin"
    return call.cast(reduced(call, operator, x, _axes(call, "axis"), call.attribute("keepdim")), BOOL)


@translates("p_norm")
def p_norm(call: Call) -> Tensor:
    """The sum of the absolute values or the root of the squares' sum, along an axis."""
    x, order = call.tensor("x"), call.attribute("porder")
    operators = {1.0: "ReduceL1", 2.0: "ReduceL2", float("inf"): "ReduceMax"}
    if order not in operators:
        call.unsupported(f"it is a norm of order {order:g}")
    if order == float("inf"):
        x = call.graph.add("Abs", [x], x.shape)
    axes = [] if call.attribute("asvector") else [call.attribute("axis")]
    return reduced(call, operators[order], x, axes, call.attribute("keepdim"))


@translates("frobenius_norm")
def frobenius_norm(call: Call) -> Tensor:
    """The root of the squares' sum over axes."""
    return reduced(call, "ReduceL2", call.tensor("x"), _axes(call, "axis"), call.attribute("keepdim", "keep_dim"))


@translates("norm")
def l2_normalize(call: Call) -> list:
    """A tensor divided by its norm along an axis, and the norm."""
    x = call.tensor("x")
    axis = call.axis(call.attribute("axis"), x.rank)
    squares = reduced(call, "ReduceSum", call.binary("Mul", x, x), [axis], True)
    length = call.binary("Add", squares, call.like(call.attribute("epsilon"), x))
    length = call.graph.add("Sqrt", [length], length.shape)
    return [call.binary("Div", x, length), length]


@translates("argmax", "argmin")
def argmax(call: Call) -> Tensor:
    """The place of the largest or smallest element along an axis."""
    x = call.tensor("x")
    axis, keepdim = int(call.number("axis")), bool(call.attribute("keepdims"))
    if call.attribute("flatten"):
        call.unsupported("it looks for the place in all axes together")
    axis = call.axis(axis, x.rank)
    shape = [1 if i == axis else size for i, size in enumerate(x.shape)]
    shape = shape if keepdim else [size for i, size in enumerate(shape) if i != axis]
    name = "ArgMax" if call.name == "argmax" else "ArgMin"
    return call.graph.add(name, [x], shape, INT64, axis=axis, keepdims=int(keepdim))


@translates("topk")
def topk(call: Call) -> list:
    """The largest or smallest elements along an axis, and their places."""
    x = call.tensor("x")
    (count,) = call.integers("k")
    axis = call.axis(call.attribute("axis"), x.rank)
    shape = [count if i == axis else size for i, size in enumerate(x.shape)]
    options = {"axis": axis, "largest": int(call.attribute("largest")), "sorted": int(call.attribute("sorted"))}
    return call.graph.add_many("TopK", [x, call.graph.vector([count])], [(shape, x.dtype), (shape, INT64)], **options)


@translates("argsort")
def argsort(call: Call) -> list:
    """The elements along an axis in order, and their places."""
    x = call.tensor("x")
    axis = call.axis(call.attribute("axis"), x.rank)
    options = {"axis": axis, "largest": int(call.attribute("descending")), "sorted": 1}
    count = call.graph.vector([x.shape[axis]])
    return call.graph.add_many("TopK", [x, count], [(x.shape, x.dtype), (x.shape, INT64)], **options)


@translates("cumsum")
def cumsum(call: Call) -> Tensor:
    """Running sums along an axis."""
    x = call.tensor("x")
    if call.attribute("flatten"):
        call.unsupported("it runs over all axes")
    axis = call.graph.constant(np.asarray(call.axis(int(call.number("axis")), x.rank)), np.int64)
    options = {"exclusive": int(call.attribute("exclusive")), "reverse": int(call.attribute("reverse"))}
    return call.graph.add("CumSum", [x, axis], x.shape, **options)


def mean_over_pixels(call: Call, x: Tensor) -> Tensor:
    """Return ``[N, C, 1, 1]`` of ``[N, C, H, W]``."""
    if x.dtype != FLOAT32 or not is_known(x.shape[1]):
        return reduced(call, "ReduceMean", x, list(range(2, x.rank)), True)
    return call.graph.add("GlobalAveragePool", [x], [*x.shape[:2], *[1] * (x.rank - 2)])
