"""Multiply-adds of a model, recurrent layers counted.

A multiply-add (MAC) is one product and one sum in a convolution, a linear layer or the gates of an RNN; biases, norms,
activations and pooling are left out. A layer that multiplies tensors itself, such as attention, says how often in a
method ``multiply_adds(x, output)``, which leaves out what its sub-layers do. Papers call this number "FLOPs".
``paddle.flops`` and fvcore leave out RNNs, which are 41 % of Sequencer2D.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import Iterator, Sequence

import paddle
from paddle import nn

#: Layers that own parameters and do no multiply-adds by the definition above.
FREE = (nn.LayerNorm, nn.BatchNorm2D, nn.GroupNorm)
GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


def count_macs(model: nn.Layer, input_size: Sequence[int]) -> dict:
    """Run one image through ``model`` and count.

    Args:
        model: Any layer that takes a batch of images.
        input_size: ``[channels, height, width]``.

    Returns:
        Multiply-adds of one image by the name of the layer that does them; ``sum(…values())`` is the total.

    Raises:
        ValueError: if a layer that owns a matrix of weights ran and there is no rule to count it.
    """
    counts: dict = {}

    def count(name: str, layer: nn.Layer, inputs: tuple, output) -> None:
        macs = _layer_macs(name, layer, inputs[0], output)
        if macs:
            counts[name] = counts.get(name, 0) + macs  # a layer may run twice

    with _hooks(model, count), _evaluating(model), paddle.no_grad():
        model(paddle.zeros([1, *input_size]))
    return counts


def rnn_macs(layer: nn.Layer, tokens: int) -> int:
    """Return the multiply-adds of an ``nn.LSTM``, ``nn.GRU`` or ``nn.SimpleRNN`` over ``tokens`` time steps in total.

    Per step, direction and layer: gates x hidden x (input + hidden).
    """
    directions, hidden = layer.num_directions, layer.hidden_size
    widths = [layer.input_size] + [directions * hidden] * (layer.num_layers - 1)
    return tokens * directions * sum(GATES[layer.mode] * hidden * (width + hidden) for width in widths)


def _layer_macs(name: str, layer: nn.Layer, x: paddle.Tensor, output) -> int:
    if hasattr(layer, "multiply_adds"):
        return layer.multiply_adds(x, output)
    if isinstance(layer, nn.Linear):
        return math.prod(output.shape) * layer.weight.shape[0]
    if isinstance(layer, nn.Conv2D):
        return math.prod(output.shape) * math.prod(layer.weight.shape[1:])
    if isinstance(layer, (nn.LSTM, nn.GRU, nn.SimpleRNN)):
        return rnn_macs(layer, x.shape[0] * x.shape[1])
    if isinstance(layer, FREE) or all(p.ndim <= 1 for p in layer.parameters(include_sublayers=False)):
        return 0
    raise ValueError(f"no rule to count the multiply-adds of {name!r}, a {type(layer).__name__} with weights")


@contextmanager
def _hooks(model: nn.Layer, count) -> Iterator[None]:
    """Call ``count(name, layer, inputs, output)`` after each layer of ``model`` that has run."""
    handles = []
    for name, layer in model.named_sublayers(include_self=True):
        handles.append(layer.register_forward_post_hook(lambda layer, x, y, name=name: count(name, layer, x, y)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _evaluating(model: nn.Layer) -> Iterator[None]:
    """Put ``model`` into evaluation mode for a while."""
    modes = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
    model.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training
