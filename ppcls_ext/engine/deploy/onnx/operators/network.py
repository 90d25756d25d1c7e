"""Layers with weights: convolutions, normalisations, recurrent networks."""

from __future__ import annotations

from typing import Optional, Sequence, Union

import numpy as np

from ppcls_ext.engine.deploy.onnx.graph import Tensor, all_constant
from ppcls_ext.engine.deploy.onnx.operators.call import Call, translates
from ppcls_ext.engine.deploy.onnx.operators.reduction import reduced
from ppcls_ext.engine.deploy.onnx.sizes import Size, product


def window_pads(call: Call, rank: int) -> Optional[list]:
    """Return what is padded before and after each axis, or None for what keeps the size."""
    algorithm, pads = call.attribute("padding_algorithm", default="EXPLICIT"), list(call.attribute("paddings"))
    if algorithm == "SAME":
        return None
    if algorithm == "VALID":
        return [0] * (2 * rank)
    if len(pads) == rank:
        return pads + pads
    return pads[0::2] + pads[1::2]


def windows(size: Size, kernel: int, stride: int, before: int, after: int, dilation: int = 1, ceil=False) -> Size:
    """Return how many windows an axis has."""
    room = size + (before + after - dilation * (kernel - 1) - 1 + (stride - 1 if ceil else 0))
    return room // stride + 1


def window_shape(
    sides: Sequence[Size], kernel: Sequence[int], strides, pads: Optional[list], dilations, ceil: bool = False
) -> list[Size]:
    """Return the height and width of a convolution's or pooling's output."""
    count = len(sides)
    if pads is None:
        return [(side + stride - 1) // stride for side, stride in zip(sides, strides)]
    return [
        windows(sides[i], kernel[i], strides[i], pads[i], pads[i + count], dilations[i], ceil) for i in range(count)
    ]


def _channels_last(call: Call) -> bool:
    return call.attribute("data_format", "data_layout", default="NCHW") in ("NHWC", "NDHWC", "NLC")


@translates("conv2d", "depthwise_conv2d", "conv3d")
def convolution(call: Call) -> Tensor:
    """A convolution without bias."""
    x, weight = call.tensor("input"), call.tensor("filter")
    last = _channels_last(call)
    x = call.to_channels_first(x) if last else x
    rank = x.rank - 2
    pads, kernel = window_pads(call, rank), [int(side) for side in weight.shape[2:]]
    strides, dilations = list(call.attribute("strides")), list(call.attribute("dilations"))
    shape = [x.shape[0], weight.shape[0], *window_shape(x.shape[2:], kernel, strides, pads, dilations)]
    out = call.graph.add(
        "Conv",
        [x, weight],
        shape,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=pads,
        auto_pad="SAME_UPPER" if pads is None else None,
        group=call.attribute("groups"),
    )
    return call.to_channels_last(out) if last else out


@translates("conv2d_transpose", "depthwise_conv2d_transpose")
def transposed_convolution(call: Call) -> Tensor:
    """A transposed convolution without bias."""
    x, weight = call.tensor("x"), call.tensor("filter")
    pads = window_pads(call, 2)
    extra = list(call.attribute("output_padding", default=[])) or [0, 0]
    if _channels_last(call) or pads is None or call.integers("output_size"):
        call.unsupported("only explicit padding on [N, C, H, W] without an output size is translated")
    strides, dilations = list(call.attribute("strides")), list(call.attribute("dilations"))
    kernel, groups = [int(side) for side in weight.shape[2:]], call.attribute("groups")
    sides = [
        (x.shape[2 + i] - 1) * strides[i] - pads[i] - pads[i + 2] + dilations[i] * (kernel[i] - 1) + 1 + extra[i]
        for i in range(2)
    ]
    return call.graph.add(
        "ConvTranspose",
        [x, weight],
        [x.shape[0], weight.shape[1] * groups, *sides],
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=pads,
        output_padding=extra if any(extra) else None,
        group=groups,
    )


@translates("batch_norm", "sync_batch_norm")
def batch_norm(call: Call) -> list:
    """A normalisation with the statistics of training; later folded into a convolution before it."""
    x, mean, variance = (call.tensor(name) for name in ("x", "mean", "variance"))
    if not call.attribute("is_test"):
        call.unsupported("it is in training mode, and uses the statistics of the batch")
    last = _channels_last(call) and x.rank > 2
    x = call.to_channels_first(x) if last else x
    ones = np.ones(mean.shape, np.float32)
    scale = call.optional("scale") or call.graph.constant(ones)
    bias = call.optional("bias") or call.graph.constant(0 * ones)
    out = call.graph.add(
        "BatchNormalization", [x, scale, bias, mean, variance], x.shape, epsilon=float(call.attribute("epsilon"))
    )
    return [call.to_channels_last(out) if last else out]


@translates("layer_norm")
def layer_norm(call: Call) -> list:
    """A normalisation over the last axes."""
    x, axis = call.tensor("x"), call.attribute("begin_norm_axis")
    scale, bias = call.optional("scale"), call.optional("bias")
    sizes = x.shape[axis:]
    flat = [int(size) for size in sizes]
    if scale is None:
        scale = call.graph.constant(np.ones(flat, np.float32))
    scale, bias = (None if t is None else call.reshape(t, sizes) for t in (scale, bias))
    inputs = [x, scale] if bias is None else [x, scale, bias]
    epsilon = float(call.attribute("epsilon"))
    negative = axis - x.rank
    return [call.graph.add("LayerNormalization", inputs, x.shape, axis=negative, epsilon=epsilon)]


@translates("group_norm", "instance_norm")
def group_norm(call: Call) -> list:
    """A normalisation over the pixels of each group of channels."""
    x, scale, bias = call.tensor("x"), call.optional("scale"), call.optional("bias")
    if _channels_last(call):
        call.unsupported("it is channels-last")
    channels = int(x.shape[1])
    groups = call.attribute("groups", default=channels)
    sides = x.shape[2:]
    # InstanceNormalization on groups: GroupNormalization takes weights of each group before opset 21.
    rows = call.reshape(x, [x.shape[0], groups, channels // groups * product(sides)])
    ones = np.ones([groups], np.float32)
    out = call.graph.add(
        "InstanceNormalization",
        [rows, call.graph.constant(ones), call.graph.constant(0 * ones)],
        rows.shape,
        epsilon=float(call.attribute("epsilon")),
    )
    out = call.reshape(out, x.shape)
    if scale is not None:
        out = call.binary("Mul", out, call.spread(scale, x.rank - 1, 0))
    if bias is not None:
        out = call.binary("Add", out, call.spread(bias, x.rank - 1, 0))
    return [out]


@translates("affine_channel")
def affine_channel(call: Call) -> Tensor:
    """A factor and a number added for each channel."""
    x = call.tensor("x")
    scaled = call.binary("Mul", x, call.spread(call.tensor("scale"), x.rank))
    return call.binary("Add", scaled, call.spread(call.tensor("bias"), x.rank))


@translates("rms_norm")
def rms_norm(call: Call) -> list:
    """A division by the root of the mean square."""
    x, scale = call.tensor("x"), call.tensor("norm_weight")
    mean = reduced(call, "ReduceMean", call.binary("Mul", x, x), [-1], True)
    root = call.binary("Add", mean, call.like(call.attribute("epsilon"), x))
    root = call.graph.add("Sqrt", [root], root.shape)
    return [call.binary("Mul", call.binary("Div", x, root), scale)]


#: For each mode, where ONNX's gates are among Paddle's: i, f, c, o become i, o, f, c; r, z, c become z, r, c.
GATES = {"LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2], "RNN_TANH": [0], "RNN_RELU": [0]}


@translates("rnn")
def rnn(call: Call) -> list:
    """A recurrent network over ``[time, N, C]``, layer by layer, each in one or both directions."""
    x, mode = call.tensor("x"), call.attribute("mode")
    layers, hidden = call.attribute("num_layers"), call.attribute("hidden_size")
    directions = 2 if call.attribute("is_bidirec") else 1
    weights, states = call.tensors("weight_list"), call.tensors("pre_state")
    if not all_constant(weights):
        call.unsupported("its weights are computed")
    if call.given("sequence_length"):
        call.unsupported("its sequences have lengths of their own")
    matrices, biases = weights[: 2 * layers * directions], weights[2 * layers * directions :]
    finals: list[list[Tensor]] = [[] for _ in states]
    for layer in range(layers):
        chosen = slice(2 * layer * directions, 2 * (layer + 1) * directions)
        own = [_layer_state(call, state, layer, layers, directions) for state in states]
        x, last = _rnn_layer(call, x, mode, hidden, matrices[chosen], biases[chosen], own)
        for kept, tensor in zip(finals, last):
            kept.append(tensor)
    batch = x.shape[1]
    joined = []
    for kept in finals:
        shape = [layers * directions, batch, hidden]
        joined.append(kept[0] if layers == 1 else call.graph.add("Concat", kept, shape, axis=0))
    return [x, None, joined, None]


def _layer_state(call: Call, state: Tensor, layer: int, layers: int, directions: int) -> Optional[Tensor]:
    """Return the first state ``[directions, N, hidden]`` of a layer; None for zeros, which need not be given."""
    if state.fill == 0 or (state.value is not None and not state.value.any()):
        return None
    if layers == 1:
        return state
    bounds = [call.graph.constant([value], np.int64) for value in (layer * directions, (layer + 1) * directions, 0)]
    return call.graph.add("Slice", [state, *bounds], [directions, *state.shape[1:]])


def _rnn_layer(
    call: Call, x: Tensor, mode: str, hidden: int, matrices: list, biases: list, states: list
) -> tuple[Tensor, list]:
    directions = len(matrices) // 2
    into, back = (np.stack([_gates(t.value, mode) for t in matrices[first::2]]) for first in (0, 1))
    bias = None
    if biases:
        flat = [_gates(tensor.value, mode) for tensor in biases]
        bias = call.graph.constant(np.stack([np.concatenate(flat[2 * i : 2 * i + 2]) for i in range(directions)]))
    named = [
        call.graph.constant(a, name=call.graph.unique_name(n)) for a, n in ((into, "weight_ih"), (back, "weight_hh"))
    ]
    inputs: list[Union[Tensor, None]] = [x, *named, bias, None, *states]
    while inputs[-1] is None:
        inputs.pop()
    steps, batch = x.shape[:2]
    operator = mode.partition("_")[0]
    activation = {"RNN_TANH": "Tanh", "RNN_RELU": "Relu"}.get(mode)
    final = ([directions, batch, hidden], x.dtype)
    out, *last = call.graph.add_many(
        operator,
        inputs,
        [([steps, directions, batch, hidden], x.dtype), *[final] * len(states)],
        hidden_size=hidden,
        direction="bidirectional" if directions == 2 else None,
        linear_before_reset=1 if mode == "GRU" else None,
        activations=[activation] * directions if activation else None,
    )
    # (time, directions, N, hidden) -> (time, N, directions * hidden)
    out = call.transpose(out, [0, 2, 1, 3]) if directions == 2 else out
    return call.reshape(out, [steps, batch, directions * hidden]), last


def _gates(array: np.ndarray, mode: str) -> np.ndarray:
    """Return weights or biases ``[gates * hidden, ...]`` with the gates in ONNX's order."""
    order = GATES[mode]
    gates = array.reshape([len(order), -1, *array.shape[1:]])
    return np.ascontiguousarray(gates[order].reshape(array.shape))
