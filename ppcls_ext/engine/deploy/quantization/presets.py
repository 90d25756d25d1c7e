"""Which operators of a graph become int8, by the kind of network, and which of them belong together."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Operators that take nearly all of a network's time.
HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM")


@dataclass(frozen=True)
class Preset:
    """What becomes int8 in networks of one kind.

    Attributes:
        description: of the networks, for people.
        operators: those that are quantised; the others stay float.
        float_results: operators whose results stay float, since a float operator takes them.
        recurrent: whether LSTMs are quantised, their weights beforehand and their inputs at run time.
    """

    description: str
    operators: tuple[str, ...]
    float_results: tuple[str, ...] = ()
    recurrent: bool = False


_TOKENS = ("Conv", "Gemm", "MatMul")
#: Float in all of them: softmax, normalisation, activations but ReLU, residual sums, products of two activations.
PRESETS = {
    "convolutional": Preset(
        "ResNet, Res2Net, PPLCNet: convolutions with ReLU and pooling between them",
        ("Conv", "Gemm", "MatMul", "Relu", "Clip", "MaxPool"),
    ),
    "tokens": Preset(
        "ViT, Swin, DilateFormer, ViP, MLP-Mixer: linear layers between normalisations",
        _TOKENS,
        ("Gemm", "MatMul"),
    ),
    "recurrent": Preset("Sequencer2D: LSTMs and linear layers", _TOKENS, ("Gemm", "MatMul"), recurrent=True),
}


def preset_of(model) -> str:
    """Return the name of the preset for an ``onnx.ModelProto``: by its LSTMs, or else its layer normalisations."""
    operators = {node.op_type for node in model.graph.node}
    if "LSTM" in operators:
        return "recurrent"
    return "tokens" if "LayerNormalization" in operators else "convolutional"


def nodes_of(model, preset: Preset) -> list[str]:
    """Return the names of the nodes that ``preset`` quantises; every node of the graph must have a name."""
    constants = {tensor.name for tensor in model.graph.initializer}
    chosen = []
    for node in model.graph.node:
        if node.op_type == "LSTM":
            if preset.recurrent and {node.input[1], node.input[2]} <= constants:
                chosen.append(node.name)
        elif node.op_type in preset.operators:
            if node.op_type not in HEAVY or node.input[1] in constants:
                chosen.append(node.name)
    return chosen


def group_of(name: str) -> str:
    """Return the part of the network that a node belongs to: a block, a stage's other layers, the stem or the head.

    ``backbone.stages.2.blocks.5.conv1.conv/Conv`` is of ``stages.2.blocks.5``: up to the last number among the first
    four parts.
    """
    parts = name.partition("/")[0].removeprefix("backbone.").split(".")[:4]
    numbers = [index for index, part in enumerate(parts) if re.fullmatch(r"\d+", part)]
    return ".".join(parts[: numbers[-1] + 1 if numbers else 1])


def groups_of(model, names: list[str]) -> dict[str, list[str]]:
    """Return the heavy nodes among ``names`` by their group, in the order of the graph.

    A group has also its other nodes, such as a ReLU between two convolutions.
    """
    wanted = set(names)
    groups: dict[str, list[str]] = {}
    heavy = set()
    for node in model.graph.node:
        if node.name in wanted:
            groups.setdefault(group_of(node.name), []).append(node.name)
            if node.op_type in HEAVY:
                heavy.add(group_of(node.name))
    return {group: nodes for group, nodes in groups.items() if group in heavy}
