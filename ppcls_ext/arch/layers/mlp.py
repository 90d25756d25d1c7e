"""The two-layer perceptron that follows the token mixer in a block."""

from __future__ import annotations

import functools

import paddle
from paddle import nn

from ppcls_ext.arch.layers.linear import Linear

#: ``gelu`` is exact, ``gelu_tanh`` the approximation by tanh, which is the default of JAX.
ACTIVATIONS = {
    "gelu": nn.GELU,
    "gelu_tanh": functools.partial(nn.GELU, approximate=True),
    "relu": nn.ReLU,
    "silu": nn.Silu,
}


class Mlp(nn.Layer):
    """Linear, activation (by default exact GELU), dropout, linear, dropout, on the last axis."""

    def __init__(self, dim: int, hidden_dim: int, activation: str = "gelu", drop_rate: float = 0.0):
        super().__init__()
        self.fc1 = Linear(dim, hidden_dim)
        self.act = ACTIVATIONS[activation]()
        self.drop1 = nn.Dropout(drop_rate)
        self.fc2 = Linear(hidden_dim, dim)
        self.drop2 = nn.Dropout(drop_rate)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return ``[..., dim]``."""
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))
