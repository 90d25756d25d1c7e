"""Initialisers that several families share, that Paddle's versions do not agree about, or that it does not have.

Official codes often "truncate" a normal distribution of deviation 0.02 at -2 and 2. That is a hundred deviations off,
so here it is a plain normal distribution.
"""

from __future__ import annotations

import inspect
import math

import paddle
from paddle import nn
from paddle.nn import initializer

_TAKES_BOUNDS = "a" in inspect.signature(initializer.TruncatedNormal).parameters
#: Deviation of a standard normal distribution that is cut off at two deviations.
_TRUNCATED_STD = 0.87962566103423978


def truncated_normal(std: float) -> initializer.Initializer:
    """Return a normal distribution of scale ``std`` that is cut off at two ``std``.

    Paddle 2.6 always cuts there; Paddle 3 takes the bounds as values, by default -2 and 2, which cut nothing when
    ``std`` is small.
    """
    if _TAKES_BOUNDS:
        return initializer.TruncatedNormal(std=std, a=-2 * std, b=2 * std)
    return initializer.TruncatedNormal(std=std)


def init_linear(layer: nn.Layer, weight: initializer.Initializer | None = None) -> None:
    """Set the weight of a linear layer (by default normal, standard deviation 0.02) and its bias to zero."""
    (weight or initializer.Normal(std=0.02))(layer.weight)
    if layer.bias is not None:
        initializer.Constant(0.0)(layer.bias)


def lecun_normal(layer: nn.Layer) -> None:
    """Set the weight of a convolution or linear layer as JAX does: variance 1 / fan-in, cut off at two deviations."""
    fan_in = layer.weight.shape[0] if isinstance(layer, nn.Linear) else math.prod(layer.weight.shape[1:])
    truncated_normal(1 / math.sqrt(fan_in) / _TRUNCATED_STD)(layer.weight)
    initializer.Constant(0.0)(layer.bias)


def init_like_torch(layer: nn.Layer, fan_in: int | None = None) -> None:
    """Set weight and bias of a convolution (or of a layer with ``fan_in``) as PyTorch does: within 1 / sqrt(fan-in)."""
    bound = 1 / math.sqrt(fan_in or math.prod(layer.weight.shape[1:]))
    for parameter in layer.parameters(include_sublayers=False):
        initializer.Uniform(-bound, bound)(parameter)


def he_normal(weight: paddle.Tensor) -> None:
    """Set the weight of a convolution by a normal distribution of variance 2 / fan-out (arXiv 1502.01852, eq. 14).

    As in PyTorch, fan-out is output channels x kernel pixels, whatever the number of groups.
    """
    fan_out = weight.shape[0] * math.prod(weight.shape[2:])
    initializer.Normal(std=math.sqrt(2 / fan_out))(weight)
