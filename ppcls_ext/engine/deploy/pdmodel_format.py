"""Tracing into the graph format of Paddle 2 with Paddle 3, which can still write it but no longer in full.

With ``FLAGS_enable_pir_api=0`` Paddle 3 traces into the old format. Since 3.3, however, about fifty functions
(``F.gelu``, ``paddle.matmul``, ``paddle.multiply``, …) go straight to C++ and refuse the old format's ``Variable``,
and empty buffers such as ``nn.LSTM``'s dropout state stop the tracer. :func:`legacy_tracing` fills in both for the time
of a trace: a function that gets a ``Variable`` appends the operator of Paddle 2 that computes the same.
"""

from __future__ import annotations

import contextlib
import types
from typing import Callable, Iterator, Optional, Sequence, Union

import paddle
from paddle import nn
from paddle.base.layer_helper import LayerHelper
from paddle.static import Variable

#: Functions of one argument whose operator has their name.
UNARY = (
    "abs acos acosh asin atanh ceil cos cosh exp expm1 floor log log10 log1p log2 round rsqrt sigmoid sign sin sinh "
    "sqrt tanh logical_not"
).split()
#: Functions of two tensors that broadcast, and their operators.
BINARY = {
    "multiply": "elementwise_mul",
    "maximum": "elementwise_max",
    "minimum": "elementwise_min",
    "logical_and": "logical_and",
    "logical_or": "logical_or",
    "logical_xor": "logical_xor",
    "greater_than": "greater_than",
}
BOOLEAN = ("logical_not", "logical_and", "logical_or", "logical_xor", "greater_than")


def _append(operator: str, inputs: dict, dtype: object, **attributes) -> Variable:
    helper = LayerHelper(operator)
    out = helper.create_variable_for_type_inference(dtype)
    helper.append_op(type=operator, inputs=inputs, outputs={"Out": out}, attrs=attributes)
    return out


def _unary(name: str) -> Callable:
    def function(x, name=None, operator=name):
        return _append(operator, {"X": x}, "bool" if operator in BOOLEAN else x.dtype)

    return function


def _binary(name: str) -> Callable:
    def function(x, y, out=None, name=None, function_name=name):
        dtype = "bool" if function_name in BOOLEAN else x.dtype
        attributes = {} if function_name.startswith("logical") else {"axis": -1}
        return _append(BINARY[function_name], {"X": x, "Y": y}, dtype, **attributes)

    return function


def _gelu(x, approximate=False, name=None):
    return _append("gelu", {"X": x}, x.dtype, approximate=approximate in (True, "tanh"))


def _matmul(x, y, transpose_x=False, transpose_y=False, name=None):
    return _append("matmul_v2", {"X": x, "Y": y}, x.dtype, trans_x=transpose_x, trans_y=transpose_y)


def _bmm(x, y, name=None):
    return _append("bmm", {"X": x, "Y": y}, x.dtype)


def _sum(x, axis: Union[int, Sequence[int], None] = None, dtype: Optional[str] = None, keepdim=False, name=None):
    axes = [] if axis is None else [axis] if isinstance(axis, int) else list(axis)
    out = _append("reduce_sum", {"X": x}, x.dtype, dim=axes or [0], keep_dim=keepdim, reduce_all=not axes)
    return out if dtype is None else out.astype(dtype)


def _roll(x, shifts, axis=None, name=None):
    shifts = [shifts] if isinstance(shifts, int) else list(shifts)
    axes = [] if axis is None else [axis] if isinstance(axis, int) else list(axis)
    return _append("roll", {"X": x}, x.dtype, shifts=shifts, axis=axes)


def _replacements() -> dict[str, Callable]:
    table = {name: _unary(name) for name in UNARY}
    table.update({name: _binary(name) for name in BINARY})
    table.update(gelu=_gelu, matmul=_matmul, bmm=_bmm, sum=_sum, roll=_roll)
    return table


@contextlib.contextmanager
def legacy_tracing(model: nn.Layer) -> Iterator[None]:
    """Make ``model`` traceable into the old format while the context lasts, where this Paddle needs help with it."""
    if not hasattr(paddle.framework, "use_pir_api"):  # Paddle 2 knows no other format
        yield
        return
    _initialise_buffers(model)
    saved = []
    for name, replacement in _replacements().items():
        for owner in (paddle._C_ops, Variable):
            original = vars(owner).get(name)
            if isinstance(original, types.BuiltinFunctionType):
                saved.append((owner, name, original))
                setattr(owner, name, _for_variables(original, replacement))
    try:
        yield
    finally:
        for owner, name, original in saved:
            setattr(owner, name, original)


def _for_variables(original: Callable, replacement: Callable) -> Callable:
    def function(*args, **kwargs):
        given = (*args, *kwargs.values())
        # In dygraph every tensor passes for a Variable; a layer may compute a constant there, amid the trace.
        symbolic = not paddle.in_dynamic_mode() and any(isinstance(a, Variable) for a in given)
        return (replacement if symbolic else original)(*args, **kwargs)

    return function


def _initialise_buffers(model: nn.Layer) -> None:
    """Give empty buffers a place; in evaluation nothing reads them."""
    for layer in model.sublayers(include_self=True):
        for name, buffer in list(layer.named_buffers(include_sublayers=False)):
            if not buffer._is_initialized():
                setattr(layer, name, paddle.zeros([1], dtype=buffer.dtype))
