"""Making the graph what a person would have written."""

from __future__ import annotations

from ppcls_ext.engine.deploy.onnx.graph import Graph
from ppcls_ext.engine.deploy.onnx.rewriting.channels_last import flatten_before_transposes
from ppcls_ext.engine.deploy.onnx.rewriting.constants import merge_factors
from ppcls_ext.engine.deploy.onnx.rewriting.convolutions import fold_into_convolutions
from ppcls_ext.engine.deploy.onnx.rewriting.duplicates import merge_duplicates
from ppcls_ext.engine.deploy.onnx.rewriting.inputs import fold_before_convolutions
from ppcls_ext.engine.deploy.onnx.rewriting.layouts import merge_layouts
from ppcls_ext.engine.deploy.onnx.rewriting.linears import fold_into_linears, separate_linears

__all__ = ["rewrite"]


def rewrite(graph: Graph) -> None:
    """Simplify a graph; its results stay what they are, up to the order in which floats are added."""
    graph.prune()
    merge_duplicates(graph)
    merge_layouts(graph)
    fold_into_convolutions(graph)
    fold_before_convolutions(graph)
    separate_linears(graph)
    merge_factors(graph)
    fold_into_linears(graph)
    merge_layouts(graph)
    flatten_before_transposes(graph)
    merge_duplicates(graph)
