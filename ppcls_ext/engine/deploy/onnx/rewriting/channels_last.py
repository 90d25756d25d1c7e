"""From a convolution's map to channels-last tokens, so that what follows keeps a plain layout in memory."""

from __future__ import annotations

from ppcls_ext.engine.deploy.onnx.graph import Graph, Tensor

TO_CHANNELS_LAST = [0, 2, 3, 1]


def flatten_before_transposes(graph: Graph) -> None:
    """Transpose a convolution's map with its height and width as one axis.

    OpenVINO gives tensors of four axes that come from a convolution a layout of convolutions, keeps it along the
    residual stream, and reorders memory before every normalisation. Three axes have one layout. Measured at 224×224:
    20 % less time for ViP_Small_7, 17 % for Sequencer2D_S; nothing changes in ONNX Runtime.
    """
    for node in list(graph.nodes):
        source = node.inputs[0] if node.inputs else None
        if node.operator != "Transpose" or list(node.attributes["perm"]) != TO_CHANNELS_LAST or source is None:
            continue
        if source.node is not None and source.node.operator == "Conv":
            graph.replace(node.output, _flattened(graph, source))
    graph.prune()


def _flattened(graph: Graph, x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    graph.scope = x.node.output.name.rpartition("/")[0] if x.node is not None else ""
    shape = [batch, channels, height * width]
    flat = graph.add("Reshape", [x, graph.shape_for(x, shape)], shape)
    shape = [batch, height * width, channels]
    tokens = graph.add("Transpose", [flat], shape, perm=[0, 2, 1])
    shape = [batch, height, width, channels]
    result = graph.add("Reshape", [tokens, graph.shape_for(tokens, shape)], shape)
    graph.scope = ""
    return result
