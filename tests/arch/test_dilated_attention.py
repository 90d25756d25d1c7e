"""Dilated attention against the unfold form: values and gradients, run, traced and exported."""

import numpy as np
import paddle
import pytest
from dilated_attention_forms import unfold_module
from paddle import nn

from ppcls_ext.arch.layers.dilated_attention import DilatedAttention, _softmax, dilated_attention

#: height, width, channels, heads, dilations, kernel size
CASES = [
    (8, 8, 12, 3, [1, 2, 3], 3),
    (7, 11, 24, 6, [1, 2, 3], 3),
    (5, 3, 12, 6, [2, 9], 3),  # keys farther away than the map is wide
    (9, 6, 8, 2, [1], 5),
    (1, 1, 12, 3, [1, 2, 3], 3),
    (6, 10, 12, 4, [3, 1], 1),
]


def attention(channels, heads, dilations, kernel_size, drop_rate=0.0) -> DilatedAttention:
    paddle.seed(5)
    layer = DilatedAttention(channels, heads, dilations, kernel_size, True, drop_rate)
    layer.qkv.weight.set_value(paddle.randn(layer.qkv.weight.shape) / channels**0.5)
    layer.qkv.bias.set_value(paddle.randn(layer.qkv.bias.shape))
    layer.proj = nn.Identity()
    return layer


def reference(layer: DilatedAttention, x) -> paddle.Tensor:
    return unfold_module(x, layer.qkv.weight, layer.qkv.bias, layer.heads, layer.kernel_size, layer.dilations)


def gradients(output, tensors: list) -> list:
    weights = np.random.default_rng(1).standard_normal(output.shape, dtype=np.float32)
    (output * paddle.to_tensor(weights)).sum().backward()
    found = [tensor.grad.numpy() for tensor in tensors]
    for tensor in tensors:
        tensor.clear_gradient()
    return found


def close(actual, expected, tolerance=1e-4) -> None:
    """Relative to the greatest element."""
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.compat
@pytest.mark.parametrize("height, width, channels, heads, dilations, kernel_size", CASES)
def test_equals_the_unfold_form(height, width, channels, heads, dilations, kernel_size):
    """Forward 1e-5, with and without recording; gradients 1e-4: of the input, the weights and the bias."""
    layer = attention(channels, heads, dilations, kernel_size)
    x = paddle.randn([2, height, width, channels])
    x.stop_gradient = False
    tensors = [x, layer.qkv.weight, layer.qkv.bias]
    with paddle.no_grad():
        close(layer(x).numpy(), reference(layer, x).numpy(), 1e-5)
    output, expected = layer(x), reference(layer, x)
    close(output.numpy(), expected.numpy(), 1e-5)
    for mine, theirs in zip(gradients(output, tensors), gradients(expected, tensors)):
        close(mine, theirs)


@pytest.mark.parametrize("frozen", ["x", "query", "value"])
def test_gradients_with_a_part_frozen(frozen):
    """The others are what they were."""
    paddle.seed(0)
    parts = {name: paddle.randn([2, 5, 6, 8]) for name in ("query", "key", "value")}
    for tensor in parts.values():
        tensor.stop_gradient = False
    full = dict(zip(parts, gradients(dilated_attention(*parts.values(), 2, 3, 2), list(parts.values()))))
    learning = {name: tensor for name, tensor in parts.items() if name != frozen}
    if frozen in parts:
        parts[frozen].stop_gradient = True
    found = gradients(dilated_attention(*parts.values(), 2, 3, 2), list(learning.values()))
    for name, gradient in zip(learning, found):
        np.testing.assert_array_equal(gradient, full[name])


def test_dropped_probabilities_have_the_right_gradient():
    """Against finite differences, the same numbers drawn each time."""
    layer = attention(6, 2, [1], 3, drop_rate=0.4)
    layer.to(dtype="float64")
    x = paddle.randn([1, 3, 4, 6]).astype("float64")
    direction = paddle.randn(x.shape).astype("float64")
    x.stop_gradient = False

    def loss(x):
        paddle.seed(7)
        return (layer(x) ** 2).sum()

    loss(x).backward()
    step = 1e-5
    with paddle.no_grad():
        slope = (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
        np.testing.assert_allclose((x.grad * direction).sum().item(), slope.item(), rtol=1e-6)


@pytest.mark.compat
def test_a_second_derivative_is_refused():
    """Paddle has none of the softmax either; a wrong one would pass unnoticed."""
    layer = attention(12, 3, [1, 2, 3], 3)
    x = paddle.randn([1, 4, 5, 12])
    x.stop_gradient = False
    with pytest.raises(OSError, match="no second derivative"):  # Paddle's wrapping of what a backward pass raises
        paddle.grad((layer(x) ** 2).sum(), [x], create_graph=True)
    assert paddle.grad((layer(x) ** 2).sum(), [x])[0].shape == x.shape


@pytest.mark.compat
def test_traced_training_equals_dynamic_training():
    """In a graph the framework differentiates, here the formula does."""
    x = paddle.randn([2, 6, 7, 12])
    x.stop_gradient = False
    found = []
    for traced in (False, True):
        layer = attention(12, 3, [1, 2, 3], 3)
        run = paddle.jit.to_static(layer, full_graph=True) if traced else layer
        output = run(x)
        found.append([output.numpy(), *gradients(output, [x, layer.qkv.weight, layer.qkv.bias])])
    for traced, dynamic in zip(found[1], found[0]):
        close(traced, dynamic)


@pytest.mark.compat
def test_exported_equals_the_unfold_form(tmp_path):
    """One graph for every batch, height and width."""
    layer = attention(12, 6, [1, 3, 2], 3)
    layer.eval()
    spec = [paddle.static.InputSpec([None, None, None, 12], "float32")]
    paddle.jit.save(paddle.jit.to_static(layer, input_spec=spec, full_graph=True), str(tmp_path / "model"))
    loaded = paddle.jit.load(str(tmp_path / "model"))
    for shape in ((1, 5, 9, 12), (3, 2, 2, 12)):
        x = paddle.randn(shape)
        with paddle.no_grad():
            np.testing.assert_allclose(loaded(x).numpy(), reference(layer, x).numpy(), atol=1e-5)


@pytest.mark.compat
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_softmax_of_half_precision_is_computed_in_single(dtype):
    """Logits whose exponential a half cannot hold, and a sum that it would round away."""
    logits = [paddle.full([2], value).astype(dtype) for value in (30080.0, 30080.0, *[29952.0] * 7)]
    for actual, expected in zip(_softmax(logits), (0.5, 0.5, *[0.0] * 7)):
        assert actual.dtype == logits[0].dtype
        np.testing.assert_array_equal(actual.astype("float32").numpy(), np.full(2, expected, np.float32))
    halves = _softmax([paddle.zeros([1]).astype(dtype)] * 9)
    np.testing.assert_allclose(halves[0].astype("float32").numpy(), 1 / 9, rtol=0.004)


def kept_bytes(run) -> int:
    """Bytes that ``run`` keeps for the backward pass, shared memory counted once."""
    spans = []

    def keep(tensor):
        begin = tensor.data_ptr()
        spans.append((begin, begin + tensor.size * tensor.element_size()))
        return tensor

    with paddle.autograd.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = run()
    total = end = 0
    for first, last in sorted(spans):
        total += max(0, last - max(first, end))
        end = max(end, last)
    del output
    return total


def test_keeps_at_most_half_of_what_the_unfold_form_keeps():
    """Query, padded key and value, the nine probabilities of each head, and the input of the projection."""
    layer = attention(72, 3, [1, 2, 3], 3)
    x = paddle.randn([1, 56, 56, 72])
    x.stop_gradient = False
    ours, unfold = kept_bytes(lambda: layer(x)), kept_bytes(lambda: reference(layer, x))
    assert ours < 0.3 * unfold, (ours, unfold)
    planes = 5 * 72 + 27  # input, q, k, v, output; the padding adds a little
    assert ours < 1.3 * 4 * 56 * 56 * planes
