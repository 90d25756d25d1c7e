"""Global attention: the formula, Paddle's function, dropout, and which of the two forms runs."""

import importlib
import math
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from ppcls_ext.arch.layers import attention
from ppcls_ext.arch.layers.attention import has_fused_kernel

module = importlib.import_module("ppcls_ext.arch.layers.attention")  # its name in the package is the function's


def heads(*shape) -> list:
    paddle.seed(0)
    made = [paddle.randn(shape) for _ in range(3)]
    for tensor in made:
        tensor.stop_gradient = False
    return made


def results(parts: list, scale) -> list:
    output = attention(*parts, scale=scale)
    weights = np.random.default_rng(2).standard_normal(output.shape, dtype=np.float32)
    (output * paddle.to_tensor(weights)).sum().backward()
    found = [output.numpy(), *(part.grad.numpy() for part in parts)]
    for part in parts:
        part.clear_gradient()
    return found


def test_equals_the_formula():
    query, key, value = heads(2, 3, 5, 8)
    q, k, v = (part.numpy().astype(np.float64) for part in (query, key, value))
    weights = np.exp(np.einsum("nhid,nhjd->nhij", q, k) / math.sqrt(8))
    weights /= weights.sum(axis=-1, keepdims=True)
    expected = np.einsum("nhij,nhjd->nhid", weights, v)
    np.testing.assert_allclose(attention(query, key, value).numpy(), expected, atol=1e-6)


@pytest.mark.compat
@pytest.mark.parametrize(
    "shape, scale", [((2, 3, 49, 24), None), ((1, 12, 197, 64), None), ((2, 3, 9, 8), 0.5)], ids=str
)
def test_fused_form_equals_the_plain_one(shape, scale, monkeypatch):
    """Paddle's function runs on the CPU too, by its own means: values and gradients 1e-5."""
    parts = heads(*shape)
    plain = results(parts, scale)
    monkeypatch.setattr(module, "has_fused_kernel", lambda query: True)
    for fused, expected in zip(results(parts, scale), plain):
        np.testing.assert_allclose(fused, expected, atol=1e-5)


def test_dropout_is_active_in_training_only_and_unbiased():
    query, key, value = heads(1, 2, 6, 4)
    with paddle.no_grad():
        kept = attention(query, key, value)
        assert np.array_equal(attention(query, key, value, 0.5, training=False).numpy(), kept.numpy())
        draws = paddle.stack([attention(query, key, value, 0.5, training=True) for _ in range(3000)])
    assert draws.std(axis=0).numpy().min() > 0
    np.testing.assert_allclose(draws.mean(axis=0).numpy(), kept.numpy(), atol=0.1)


@pytest.mark.compat
def test_no_fused_kernel_on_a_cpu():
    assert not has_fused_kernel(paddle.zeros([1, 1, 2, 8]))


@pytest.mark.parametrize(
    "dtype, size, capability, expected",
    [
        ("float16", 64, (8, 0), True),
        ("bfloat16", 24, (9, 0), True),
        ("float32", 64, (8, 0), False),
        ("float16", 264, (8, 0), False),
        ("float16", 20, (8, 0), False),
        ("float16", 64, (7, 5), False),
    ],
)
def test_which_gpus_tensors_and_sizes_have_a_fused_kernel(dtype, size, capability, expected, monkeypatch):
    monkeypatch.setattr(paddle.device.cuda, "get_device_capability", lambda: capability)
    place = SimpleNamespace(is_gpu_place=lambda: True)
    query = SimpleNamespace(place=place, dtype=getattr(paddle, dtype), shape=[1, 2, 3, size])
    assert has_fused_kernel(query) == expected
