"""Operators on each element: arithmetic, comparisons, activations."""

from __future__ import annotations

import math
import operator
from typing import Callable, Optional

import numpy as np

from ppcls_ext.engine.deploy.onnx.graph import BOOL, FLOAT32, INT64, Tensor
from ppcls_ext.engine.deploy.onnx.operators.call import Call, broadcast, translates
from ppcls_ext.engine.deploy.onnx.sizes import is_known

#: Paddle's name: (ONNX's, what it does to sizes).
BINARY = {
    "add": ("Add", operator.add),
    "subtract": ("Sub", operator.sub),
    "multiply": ("Mul", operator.mul),
    "divide": ("Div", None),
    "floor_divide": (None, operator.floordiv),
    "remainder": (None, operator.mod),
    "maximum": ("Max", None),
    "minimum": ("Min", None),
    "fmax": ("Max", None),
    "fmin": ("Min", None),
    "elementwise_pow": ("Pow", None),
}
COMPARISONS = {
    "greater_than": "Greater",
    "greater_equal": "GreaterOrEqual",
    "less_than": "Less",
    "less_equal": "LessOrEqual",
    "equal": "Equal",
}
LOGICAL = {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor"}
UNARY = {
    "abs": "Abs",
    "acos": "Acos",
    "asin": "Asin",
    "atan": "Atan",
    "ceil": "Ceil",
    "cos": "Cos",
    "cosh": "Cosh",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "log": "Log",
    "reciprocal": "Reciprocal",
    "relu": "Relu",
    "round": "Round",
    "sigmoid": "Sigmoid",
    "sign": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "softsign": "Softsign",
    "sqrt": "Sqrt",
    "tan": "Tan",
    "tanh": "Tanh",
}


def _on_sizes(function: Optional[Callable], x: Tensor, y: Tensor) -> Optional[np.ndarray]:
    if function is None or x.content is None or y.content is None:
        return None
    return np.frompyfunc(function, 2, 1)(x.content, y.content)


@translates(*BINARY)
def binary(call: Call) -> Tensor:
    """Arithmetic of two tensors that broadcast."""
    x, y = call.tensor("x"), call.tensor("y")
    name, function = BINARY[call.name]
    content = _on_sizes(function, x, y)
    if content is not None:
        return call.graph.integers(content)
    if x.dtype != y.dtype:  # Paddle lets a number take the other's type
        kind = FLOAT32 if FLOAT32 in (x.dtype, y.dtype) else INT64
        x, y = call.cast(x, kind), call.cast(y, kind)
    if name is not None:
        if name == "Div" and x.dtype == INT64:
            x, y = call.cast(x, FLOAT32), call.cast(y, FLOAT32)
        return call.binary(name, x, y)
    if x.dtype == INT64:
        # Mod takes the sign of the divisor, as Paddle does, and Div rounds towards zero: (x - x mod y) / y is exact.
        rest = call.binary("Mod", x, y)
        return rest if call.name == "remainder" else call.binary("Div", call.binary("Sub", x, rest), y)
    whole = call.graph.add("Floor", [call.binary("Div", x, y)], broadcast(x.shape, y.shape))
    return whole if call.name == "floor_divide" else call.binary("Sub", x, call.binary("Mul", whole, y))


@translates(*COMPARISONS, "not_equal")
def compare(call: Call) -> Tensor:
    """A comparison of two tensors that broadcast."""
    x, y = call.tensor("x"), call.tensor("y")
    if x.dtype != y.dtype:
        x, y = call.cast(x, FLOAT32), call.cast(y, FLOAT32)
    if call.name != "not_equal":
        return call.binary(COMPARISONS[call.name], x, y, BOOL)
    same = call.binary("Equal", x, y, BOOL)
    return call.graph.add("Not", [same], same.shape)


@translates(*LOGICAL, *(name.replace("logical", "bitwise") for name in LOGICAL))
def logical(call: Call) -> Tensor:
    """And, or, exclusive or."""
    x, y = (call.cast(call.tensor(name), BOOL) for name in "xy")
    return call.binary(LOGICAL[call.name.replace("bitwise", "logical")], x, y, BOOL)


@translates("logical_not", "bitwise_not")
def logical_not(call: Call) -> Tensor:
    """Not."""
    x = call.cast(call.tensor("x"), BOOL)
    return call.graph.add("Not", [x], x.shape)


@translates("where")
def where(call: Call) -> Tensor:
    """One tensor or the other, by a condition."""
    condition, x, y = (call.tensor(name) for name in ("condition", "x", "y"))
    return call.graph.add("Where", [condition, x, y], broadcast(condition.shape, x.shape, y.shape), x.dtype)


@translates(*UNARY)
def unary(call: Call) -> Tensor:
    """A function of each element."""
    x = call.tensor("x")
    return call.graph.add(UNARY[call.name], [x], x.shape)


@translates("rsqrt")
def rsqrt(call: Call) -> Tensor:
    """One over the square root."""
    x = call.tensor("x")
    return call.graph.add("Reciprocal", [call.graph.add("Sqrt", [x], x.shape)], x.shape)


@translates("square")
def square(call: Call) -> Tensor:
    """The square."""
    return call.binary("Mul", call.tensor("x"), call.tensor("x"))


@translates("pow")
def power(call: Call) -> Tensor:
    """A power with a constant exponent."""
    x, exponent = call.tensor("x"), call.number("y")
    if exponent == 2:
        return call.binary("Mul", x, x)
    if exponent == 0.5:
        return call.graph.add("Sqrt", [x], x.shape)
    return call.binary("Pow", x, call.like(exponent, x))


@translates("scale")
def scale(call: Call) -> Tensor:
    """A factor and a number added, before or after it."""
    x, bias, after = call.tensor("x"), float(call.attribute("bias")), call.attribute("bias_after_scale")
    given = call.optional("scale") if call.given("scale") else None
    if given is not None and given.value is None:
        product = call.binary("Mul", x, call.cast(given, x.dtype))
        return call.binary("Add", product, call.like(bias, x)) if bias else product
    factor = call.number("scale")
    if x.content is not None and factor.is_integer() and bias.is_integer():
        by, plus = int(factor), int(bias)
        content = x.content * by + plus if after else (x.content + plus) * by
        return call.graph.integers(content)
    for operator_name, number, neutral in (("Mul", factor, 1), ("Add", bias, 0))[:: 1 if after else -1]:
        if number != neutral:
            x = call.binary(operator_name, x, call.like(number, x))
    return x


@translates("clip")
def clip(call: Call) -> Tensor:
    """Bounds on each element."""
    x = call.tensor("x")
    return call.graph.add("Clip", [x, *(call.like(call.number(name), x) for name in ("min", "max"))], x.shape)


# ---- activations -----------------------------------------------------------------------------------------------


@translates("gelu")
def gelu(call: Call) -> Tensor:
    """GELU; below opset 20 in the form that ONNX Runtime and OpenVINO recognise."""
    x, by_tanh = call.tensor("x"), call.attribute("approximate")
    if call.graph.opset >= 20:
        return call.graph.add("Gelu", [x], x.shape, approximate="tanh" if by_tanh else None)
    half, one = call.like(0.5, x), call.like(1, x)
    if by_tanh:
        cube = call.binary("Pow", x, call.like(3, x))
        inner = call.binary("Add", x, call.binary("Mul", cube, call.like(0.044715, x)))
        inner = call.binary("Mul", inner, call.like(math.sqrt(2 / math.pi), x))
        bend = call.graph.add("Tanh", [inner], x.shape)
        return call.binary("Mul", call.binary("Mul", x, call.binary("Add", bend, one)), half)
    bend = call.graph.add("Erf", [call.binary("Div", x, call.like(math.sqrt(2), x))], x.shape)
    return call.binary("Mul", call.binary("Mul", x, call.binary("Add", bend, one)), half)


@translates("silu", "swish")
def silu(call: Call) -> Tensor:
    """x sigmoid(x)."""
    x = call.tensor("x")
    return call.binary("Mul", x, call.graph.add("Sigmoid", [x], x.shape))


@translates("hardswish")
def hardswish(call: Call) -> Tensor:
    """x clip(x + 3, 0, 6) / 6."""
    x = call.tensor("x")
    return call.graph.add("HardSwish", [x], x.shape)


@translates("hardsigmoid")
def hardsigmoid(call: Call) -> Tensor:
    """clip(slope x + offset, 0, 1)."""
    x = call.tensor("x")
    slope, offset = float(call.attribute("slope")), float(call.attribute("offset"))
    return call.graph.add("HardSigmoid", [x], x.shape, alpha=slope, beta=offset)


@translates("relu6")
def relu6(call: Call) -> Tensor:
    """clip(x, 0, 6)."""
    x = call.tensor("x")
    return call.graph.add("Clip", [x, call.like(0, x), call.like(6, x)], x.shape)


@translates("hardtanh", "brelu")
def hardtanh(call: Call) -> Tensor:
    """clip(x, min, max)."""
    x = call.tensor("x")
    bounds = [call.like(call.attribute(*names), x) for names in (("t_min", "min"), ("t_max", "max"))]
    return call.graph.add("Clip", [x, *bounds], x.shape)


@translates("leaky_relu")
def leaky_relu(call: Call) -> Tensor:
    """x, or a part of it below 0."""
    x = call.tensor("x")
    return call.graph.add("LeakyRelu", [x], x.shape, alpha=float(call.attribute("negative_slope")))


@translates("prelu")
def prelu(call: Call) -> Tensor:
    """x, or a learned part of it below 0, one for all channels or one each."""
    x, slope = call.tensor("x"), call.tensor("alpha")
    if call.attribute("mode") == "element":
        call.unsupported("it has a slope for every element")
    axis = 1 if call.attribute("data_format", default="NCHW") == "NCHW" else x.rank - 1
    if slope.shape != (1,):
        slope = call.spread(slope, x.rank - 1, axis - 1)
    return call.graph.add("PRelu", [x, slope], x.shape)


@translates("elu", "celu")
def elu(call: Call) -> Tensor:
    """x, or alpha (exp(x) - 1) below 0."""
    x = call.tensor("x")
    return call.graph.add({"elu": "Elu", "celu": "Celu"}[call.name], [x], x.shape, alpha=float(call.attribute("alpha")))


@translates("selu")
def selu(call: Call) -> Tensor:
    """The scaled ELU."""
    x = call.tensor("x")
    return call.graph.add(
        "Selu", [x], x.shape, alpha=float(call.attribute("alpha")), gamma=float(call.attribute("scale"))
    )


@translates("softplus")
def softplus(call: Call) -> Tensor:
    """log(1 + exp(beta x)) / beta."""
    x, beta = call.tensor("x"), float(call.attribute("beta", default=1.0))
    if beta == 1:
        return call.graph.add("Softplus", [x], x.shape)
    soft = call.graph.add("Softplus", [call.binary("Mul", x, call.like(beta, x))], x.shape)
    return call.binary("Div", soft, call.like(beta, x))


@translates("mish")
def mish(call: Call) -> Tensor:
    """x tanh(softplus(x))."""
    x = call.tensor("x")
    if call.graph.opset >= 18:
        return call.graph.add("Mish", [x], x.shape)
    soft = call.graph.add("Softplus", [x], x.shape)
    return call.binary("Mul", x, call.graph.add("Tanh", [soft], x.shape))


@translates("softmax", "log_softmax")
def softmax(call: Call) -> Tensor:
    """The softmax along an axis."""
    x = call.tensor("x")
    name = "Softmax" if call.name == "softmax" else "LogSoftmax"
    return call.graph.add(name, [x], x.shape, axis=call.axis(call.attribute("axis"), x.rank))


# ---- products --------------------------------------------------------------------------------------------------


@translates("matmul", "bmm", "mv")
def matmul(call: Call) -> Tensor:
    """Products of matrices."""
    x, y = (call.tensor(names) for names in (("x", "vec") if call.name == "mv" else ("x", "y")))
    if call.attribute("transpose_x", default=False):
        x = call.transpose(x, [*range(x.rank - 2), x.rank - 1, x.rank - 2])
    if call.attribute("transpose_y", default=False):
        y = call.transpose(y, [*range(y.rank - 2), y.rank - 1, y.rank - 2])
    return product(call, x, y)


def product(call: Call, x: Tensor, y: Tensor) -> Tensor:
    """Return the matrix product of two tensors, by NumPy's rules."""
    rows = [] if x.rank == 1 else [x.shape[-2]]
    columns = [] if y.rank == 1 else [y.shape[-1]]
    return call.graph.add("MatMul", [x, y], [*broadcast(x.shape[:-2], y.shape[:-2]), *rows, *columns])


@translates("addmm")
def addmm(call: Call) -> Tensor:
    """beta c + alpha x y."""
    total, x, y = (call.tensor(name) for name in ("input", "x", "y"))
    found = product(call, x, y)
    for tensor_name, number in (("found", call.attribute("alpha")), ("total", call.attribute("beta"))):
        if number != 1:
            if tensor_name == "found":
                found = call.binary("Mul", found, call.like(number, found))
            else:
                total = call.binary("Mul", total, call.like(number, total))
    return call.binary("Add", found, total)


@translates("einsum")
def einsum(call: Call) -> list:
    """A product in Einstein's notation."""
    inputs, equation = call.tensors("x"), call.attribute("equation").replace(" ", "")
    if "." in equation:
        call.unsupported("its equation has an ellipsis")
    taken, _, result = equation.partition("->")
    sizes: dict = {}
    for letters, tensor in zip(taken.split(","), inputs):
        for letter, size in zip(letters, tensor.shape):
            if letter not in sizes or is_known(size):
                sizes[letter] = size
    return [call.graph.add("Einsum", inputs, [sizes[letter] for letter in result], equation=equation)]


@translates("add_n")
def add_n(call: Call) -> Tensor:
    """The sum of a list of tensors."""
    total, *others = call.tensors("inputs")
    for tensor in others:
        total = call.binary("Add", total, tensor)
    return total
