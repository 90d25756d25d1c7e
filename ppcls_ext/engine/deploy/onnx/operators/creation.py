"""Operators that make tensors from numbers."""

from __future__ import annotations

import numpy as np

from ppcls_ext.engine.deploy.onnx.graph import INT64, Tensor
from ppcls_ext.engine.deploy.onnx.operators.call import Call, numpy_type, translates
from ppcls_ext.engine.deploy.onnx.sizes import floor_divide, is_known


@translates("full")
def full(call: Call) -> Tensor:
    """A tensor of equal elements."""
    dtype = numpy_type(call.attribute("dtype"))
    return call.graph.filled(call.attribute("shape"), np.asarray(call.attribute("value")).astype(dtype).item(), dtype)


@translates("full_int_array")
def full_int_array(call: Call) -> Tensor:
    """A list of integers."""
    return call.graph.constant(call.attribute("value"), np.int64)


@translates("full_with_tensor")
def full_with_tensor(call: Call) -> Tensor:
    """A tensor of equal elements whose shape was computed."""
    dtype = numpy_type(call.attribute("dtype"))
    return call.graph.filled(call.integers("shape"), np.asarray(call.number("value")).astype(dtype).item(), dtype)


@translates("full_like")
def full_like(call: Call) -> Tensor:
    """A tensor of equal elements of another's shape."""
    x = call.tensor("x")
    kind = call.attribute("dtype", default=None)
    dtype = x.dtype if kind is None or "UNDEFINED" in str(kind) else numpy_type(kind)
    return call.graph.filled(x.shape, np.asarray(call.number("value")).astype(dtype).item(), dtype)


@translates("assign_value")
def assign_value(call: Call) -> Tensor:
    """A constant that was written in the code."""
    dtype = numpy_type(call.attribute("dtype"))
    values = call.attribute("values")
    return call.graph.constant(np.asarray(values, dtype=dtype).reshape(call.attribute("shape")), dtype)


@translates("eye")
def eye(call: Call) -> Tensor:
    """The identity matrix."""
    rows, columns = (int(call.number(name)) for name in ("num_rows", "num_columns"))
    return call.graph.constant(
        np.eye(rows, rows if columns < 0 else columns, dtype=numpy_type(call.attribute("dtype")))
    )


@translates("arange")
def arange(call: Call) -> Tensor:
    """Numbers at equal distances."""
    dtype = numpy_type(call.attribute("dtype"))
    if dtype != INT64:
        return call.graph.constant(np.arange(*(call.number(name) for name in ("start", "end", "step"))), dtype)
    (start,), (end,), (step,) = (call.integers(name) for name in ("start", "end", "step"))
    if is_known(start, end, step):
        return call.graph.constant(np.arange(start, end, step), np.int64)
    length = end - start if step == 1 else floor_divide(end - start + step - 1, step)
    bounds = [call.squeeze(call.graph.vector([size]), [0]) for size in (start, end, step)]
    return call.graph.add("Range", bounds, [length], INT64)


@translates("linspace")
def linspace(call: Call) -> Tensor:
    """A number of values at equal distances, ends included."""
    (number,) = call.known_integers("number")
    values = np.linspace(call.number("start"), call.number("stop"), number)
    return call.graph.constant(values, numpy_type(call.attribute("dtype")))


@translates("meshgrid")
def meshgrid(call: Call) -> list:
    """The coordinates of a grid."""
    inputs = call.tensors("inputs")
    shape = [x.shape[0] for x in inputs]
    made = []
    for axis, x in enumerate(inputs):
        column = call.spread(x, len(inputs), axis)
        made.append(call.graph.add("Expand", [column, call.graph.vector(shape)], shape))
    return [made]


@translates("tril", "triu")
def triangle(call: Call) -> Tensor:
    """A matrix without its upper or lower triangle."""
    x, upper = call.tensor("x"), int(call.name == "triu")
    diagonal = call.graph.constant(np.asarray(call.attribute("diagonal"), np.int64), np.int64)
    return call.graph.add("Trilu", [x, diagonal], x.shape, upper=upper)
