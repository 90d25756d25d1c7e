"""From a layer to a graph: every traced operator through its translation, then the rewriting of the whole."""

from __future__ import annotations

from typing import Optional, Sequence

from paddle import nn

from ppcls_ext.engine.deploy.onnx.errors import OnnxExportError, UnsupportedOperatorError
from ppcls_ext.engine.deploy.onnx.graph import FLOAT32, Graph
from ppcls_ext.engine.deploy.onnx.normalization import Normalization
from ppcls_ext.engine.deploy.onnx.operators import TABLE, Call
from ppcls_ext.engine.deploy.onnx.operators.call import describe
from ppcls_ext.engine.deploy.onnx.rewriting import rewrite
from ppcls_ext.engine.deploy.onnx.sizes import symbol
from ppcls_ext.engine.deploy.onnx.tracing import Operator, Program, trace

#: Names of the input's axes where they are open.
AXES = ("batch", "channels", "height", "width")


def convert(
    layer: nn.Layer,
    shape: Sequence[Optional[int]],
    opset: int,
    output_names: Sequence[str] = ("output",),
    normalization: Optional[Normalization] = None,
) -> Graph:
    """Return ``layer`` as a graph.

    Args:
        layer: takes ``[N, C, H, W]`` and returns a tensor, or a list of as many as there are names; in evaluation mode.
        shape: of the input; None where a size is to stay open.
        opset: version of ONNX's operators.
        output_names: what the results are called.
        normalization: if given, the graph takes images ``[N, H, W, C]`` of uint8 and begins with it.

    Raises:
        UnsupportedOperatorError: an operator has no translation; the message names it and its layer.
    """
    return to_graph(trace(layer, shape), shape, opset, output_names, normalization)


def to_graph(
    program: Program,
    shape: Sequence[Optional[int]],
    opset: int,
    output_names: Sequence[str],
    normalization: Optional[Normalization] = None,
) -> Graph:
    """Return a traced program as a graph; see :func:`convert`."""
    missing = [op for op in program.operators if op.name not in TABLE]
    if missing:
        names = sorted({op.name for op in missing})
        others = f"; it lacks translations of {', '.join(names)}" if len(names) > 1 else ""
        raise UnsupportedOperatorError(f"{describe(missing[0])} has no translation to ONNX{others}")
    graph = Graph(opset)
    sizes = [symbol(AXES[axis]) if size is None else size for axis, size in enumerate(shape)]
    if normalization is None:
        images = graph.add_input("x", FLOAT32, sizes)
    else:
        images = normalization.add_input(graph, sizes)
    values: dict = {program.input: images}
    for value, (name, array) in program.parameters.items():
        values[value] = graph.constant(array, name=name)
    for operator in program.operators:
        graph.scope = operator.layer
        _translate(graph, operator, values)
    graph.scope = ""
    if len(program.outputs) != len(output_names):
        raise OnnxExportError(
            f"the model has {len(program.outputs)} outputs, but there are {len(output_names)} names: "
            f"{', '.join(output_names)}"
        )
    for name, value in zip(output_names, program.outputs):
        graph.outputs[name] = graph.real(values[value])
    rewrite(graph)
    return graph


def _translate(graph: Graph, operator: Operator, values: dict) -> None:
    call = Call(graph, operator, values)
    try:
        results = TABLE[operator.name](call)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, NotImplementedError) as error:
        raise UnsupportedOperatorError(
            f"{describe(operator)} cannot be written as ONNX: {type(error).__name__}: {error}"
        ) from error
    results = results if isinstance(results, list) else [results]
    for index, value in enumerate(operator.outputs):  # what a translation leaves out nothing uses in evaluation
        values[value] = results[index] if index < len(results) else None
