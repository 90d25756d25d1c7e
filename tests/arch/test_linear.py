"""The linear layer: Paddle's own values and gradients, whatever is frozen, in every precision."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from ppcls_ext.arch.layers import Linear
from ppcls_ext.arch.layers.linear import spread


def pair(frozen: tuple = ()) -> tuple:
    """Return ours and Paddle's with the same weights in float64."""
    paddle.seed(0)
    layers = Linear(5, 7), nn.Linear(5, 7)
    for layer in layers:
        layer.to(dtype="float64")
        layer.bias.set_value(paddle.arange(7, dtype="float64"))
        for name in frozen:
            getattr(layer, name).stop_gradient = True
    layers[1].weight.set_value(layers[0].weight)
    return layers


def gradients(layer: nn.Layer, x: np.ndarray, constant: bool = False) -> list:
    """Return the output and the gradients of input, weight and bias for a loss that weighs every output differently."""
    x = paddle.to_tensor(x, stop_gradient=constant)
    output = layer(x)
    (output * paddle.arange(output.size, dtype=output.dtype).reshape(output.shape)).sum().backward()
    return [output, *(tensor.grad for tensor in (x, layer.weight, layer.bias))]


@pytest.mark.compat
@pytest.mark.parametrize("shape", [[4, 5], [2, 3, 5], [2, 3, 4, 5]])
@pytest.mark.parametrize("frozen", [(), ("weight",), ("bias",), ("weight", "bias")])
@pytest.mark.parametrize("constant", [False, True])
def test_values_and_gradients_are_paddles(shape, frozen, constant):
    if constant and len(frozen) == 2:
        return  # there is nothing to differentiate
    x = np.random.default_rng(0).standard_normal(shape)
    ours, paddles = (gradients(layer, x, constant) for layer in pair(frozen))
    for a, b in zip(ours, paddles):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)


@pytest.mark.compat
def test_autocast_decides_as_for_paddles_layer():
    x = paddle.randn([3, 5])
    ours, paddles = Linear(5, 7), nn.Linear(5, 7)
    paddles.set_state_dict(ours.state_dict())
    with paddle.amp.auto_cast(dtype="bfloat16"):
        outputs = [layer(x) for layer in (ours, paddles)]
    assert outputs[0].dtype == outputs[1].dtype
    np.testing.assert_array_equal(*(output.astype("float32").numpy() for output in outputs))


def test_a_second_derivative():
    """Of (x w + b)^3 with respect to b: d/db of its derivative is 6 (x w + b)."""
    layer, _ = pair()
    x = paddle.randn([4, 5], dtype="float64")
    x.stop_gradient = False
    output = layer(x)
    (first,) = paddle.grad((output**3).sum(), [layer.bias], create_graph=True)
    (second,) = paddle.grad(first.sum(), [layer.bias])
    np.testing.assert_allclose(second.numpy(), 6 * output.sum(0).numpy(), rtol=1e-12)


@pytest.mark.compat
@pytest.mark.parametrize("shape", [[3, 5], [3, 2, 5], [3, 2, 4, 5]])
@pytest.mark.parametrize("per_sample", [False, True])
def test_spread_is_a_broadcast(shape, per_sample):
    random = np.random.default_rng(0)
    x = random.standard_normal(shape)
    values = random.standard_normal((3, 5) if per_sample else 5)
    broadcast = values.reshape([3] + [1] * (len(shape) - 2) + [5]) if per_sample else values
    given = paddle.to_tensor(values, stop_gradient=False)
    product = paddle.to_tensor(x) * spread(given, paddle.to_tensor(x))
    np.testing.assert_array_equal(product.numpy(), x * broadcast)
    product.sum().backward()
    axes = tuple(range(1 if per_sample else 0, len(shape) - 1))
    np.testing.assert_allclose(given.grad.numpy(), x.sum(axis=axes), rtol=1e-12)


def test_spread_leaves_other_types_to_autocast():
    values, x = paddle.ones([3, 5]), paddle.ones([3, 2, 4, 5], dtype="bfloat16")
    assert spread(values, x).shape == [3, 1, 1, 5] and spread(values, x).dtype == paddle.float32
