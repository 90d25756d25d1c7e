"""A layer as a list of Paddle's operators, the same on both versions.

Paddle 3 traces into its intermediate representation (PIR). Paddle 2.6 traces into an older one, but brings the
translator that its executor will use for PIR. So one table of operators, by PIR's names, serves both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterator, Optional, Sequence, cast

import numpy as np
import paddle
from paddle import nn
from paddle.static import InputSpec

from ppcls_ext.engine.deploy.onnx.errors import UnsupportedOperatorError

#: A value of the program: a number that no other value has. Lists of values are lists.
Value = int


@dataclass
class Operator:
    """An operator of the program.

    Attributes:
        name: PIR's name, such as ``conv2d``; without the underscore of operators that work in place.
        inputs: by Paddle's names; None where one was left out.
        attributes: Paddle's.
        outputs: values, in Paddle's order.
        layer: path of the layer that it is in or follows, such as ``stages.0.blocks.1.norm1``.
    """

    name: str
    inputs: dict
    attributes: dict
    outputs: list
    layer: str = ""


@dataclass
class Program:
    """What was traced.

    Attributes:
        input: the one value that is fed.
        operators: in the order in which they run.
        outputs: the results.
        parameters: value to ``(structured name, array)``, of parameters and buffers.
    """

    input: Value
    operators: list
    outputs: list
    parameters: dict = field(default_factory=dict)


def trace(layer: nn.Layer, shape: Sequence[Optional[int]], dtype: str = "float32") -> Program:
    """Trace ``layer``, which must be in evaluation mode.

    Args:
        layer: takes one tensor and returns a tensor or a list of tensors.
        shape: of the input; None where a size is to stay open.
        dtype: of the input.

    Raises:
        UnsupportedOperatorError: the program has branches or loops.
    """
    static = paddle.jit.to_static(layer.forward, input_spec=[InputSpec(list(shape), dtype, "x")], full_graph=True)
    concrete = static.concrete_program
    state = {tensor.name: (name, tensor) for name, tensor in layer.state_dict().items()}
    for name, tensor in layer.named_buffers():
        state.setdefault(tensor.name, (name, tensor))
    tensors = concrete.parameters
    if isinstance(tensors, tuple):  # Paddle 3 gives the values of the program beside them
        tensors = tensors[0]
    for tensor in tensors:
        state.setdefault(tensor.name, (tensor.name, tensor))
    program = concrete.main_program
    if isinstance(program, paddle.static.Program) and hasattr(program, "desc"):
        return _read(_translated(program, concrete.outputs), None, state)
    outputs = [_key(value) for value in paddle.utils.flatten(concrete.outputs)]
    return _read(program, outputs, state)


def _translated(program, outputs):
    """Return a program of Paddle 2.6 in PIR, which needs to be told what is fed and fetched."""
    paddle.enable_static()
    try:
        feed = [program.global_block().var("x")]
        normalized = paddle.static.normalize_program(program, feed, paddle.utils.flatten(outputs))
    finally:
        paddle.disable_static()
    missing = paddle.pir.check_unregistered_ops(normalized.desc)
    if missing:
        raise UnsupportedOperatorError(
            f"Paddle {paddle.__version__} cannot translate {', '.join(sorted(set(missing)))}"
        )
    return paddle.pir.translate_to_pir(normalized.desc)


def _read(program, outputs: Optional[list], state: dict) -> Program:
    result = Program(input=0, operators=[], outputs=outputs or [])
    layer = ""
    lists: dict = {}
    fetched: dict = {}
    for op in program.global_block().ops:
        name = op.name().rpartition(".")[2]
        values = [_key(value) for value in op.operands_source()]
        results = [_key(value) for value in op.results()]
        if op.name() == "builtin.parameter":
            name, tensor = state[op.attrs()["parameter_name"]]
            array = tensor.numpy() if tensor._is_initialized() else np.zeros([0], np.float32)
            result.parameters[results[0]] = (name, array)
        elif name in ("data", "feed"):
            result.input = cast(Value, results[0])  # not None: an operator made it
        elif name == "fetch":
            fetched[op.attrs()["col"]] = values[0]
        elif not results:  # builtin.set_parameter, which Paddle 2.6 writes for persistable results
            continue
        elif op.name() == "builtin.combine":
            lists[results[0]] = values
        elif op.name() in ("builtin.split", "builtin.slice"):
            attributes = {"index": op.attrs().get("index")}
            taken = Operator(op.name(), {"x": lists.get(values[0], values[0])}, attributes, results, layer)
            result.operators.append(taken)
        else:
            names = op.get_input_names()
            inputs = dict(zip(names, [lists.get(value, value) for value in values]))
            layer = _layer_of(inputs, result.parameters) or layer
            attributes = {key: value for key, value in op.attrs().items() if key != "op_callstack"}
            result.operators.append(Operator(name.rstrip("_"), inputs, attributes, results, layer))
    if outputs is None:
        result.outputs = [fetched[index] for index in sorted(fetched)]
    return result


def _key(value) -> Optional[Value]:
    """Return what identifies a value, or None for an input that was left out."""
    if value.get_defining_op() is None:
        return None
    # Paddle 3 hashes the Python object; ``==`` would append an operator.
    return value.hash() if hasattr(value, "hash") else hash(value)


def _values(inputs: dict) -> Iterator[Value]:
    for value in inputs.values():
        yield from value if isinstance(value, list) else [value]


def _layer_of(inputs: dict, parameters: dict) -> Optional[str]:
    """Return the path of the layer that owns a parameter among ``inputs``, if there is one."""
    for value in _values(inputs):
        if value in parameters:
            return parameters[value][0].rpartition(".")[0]
    return None
