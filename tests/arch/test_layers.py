"""Layers that families share."""

import numpy as np
import paddle
import pytest
from paddle import nn

from ppcls_ext.arch import layers
from ppcls_ext.arch.layers.recompute import recompute


def test_drop_path_rates():
    """The ramp runs over all blocks, not over each stage; a single block is never dropped."""
    rates = layers.drop_path_rates(0.4, [2, 3])
    assert [len(stage) for stage in rates] == [2, 3]
    np.testing.assert_allclose(sum(rates, []), [0, 0.1, 0.2, 0.3, 0.4])
    assert layers.drop_path_rates(0.4, [1]) == [[0.0]]


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    paddle.seed(0)
    drop = layers.DropPath(0.25)
    x = paddle.full([4000, 3, 2], 2.0)
    y = drop(x).numpy()
    per_sample = y.reshape(4000, -1)
    assert np.all(per_sample == per_sample[:, :1]), "a sample is dropped as a whole"
    np.testing.assert_allclose(np.unique(per_sample), [0, 2 / 0.75], rtol=1e-6)
    # 4000 draws with probability 1/4: five standard deviations are 0.034.
    assert abs((per_sample[:, 0] == 0).mean() - 0.25) < 0.034
    drop.eval()
    assert np.array_equal(drop(x).numpy(), x.numpy())


@pytest.mark.compat
@pytest.mark.parametrize("frozen", [(), ("weight",), ("bias",), ("weight", "bias")], ids=str)
def test_layer_norm_passes_the_right_gradient_when_frozen(frozen):
    """Against the derivative written out in NumPy; Paddle's own is wrong on the CPU when the weight is frozen."""
    rng = np.random.default_rng(0)
    x, upstream = rng.standard_normal((2, 5, 8)).astype(np.float32)
    norm = layers.LayerNorm(8, epsilon=1e-6)
    norm.weight.set_value(rng.uniform(0.5, 2, 8).astype(np.float32))
    for name in frozen:
        getattr(norm, name).stop_gradient = True
    tensor = paddle.to_tensor(x, stop_gradient=False)
    (norm(tensor) * paddle.to_tensor(upstream)).sum().backward()
    std = np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    normal = (x - x.mean(-1, keepdims=True)) / std
    g = upstream * norm.weight.numpy()
    expected = (g - g.mean(-1, keepdims=True) - normal * (g * normal).mean(-1, keepdims=True)) / std
    np.testing.assert_allclose(tensor.grad.numpy(), expected, rtol=1e-4, atol=1e-5)
    for name in ("weight", "bias"):
        assert (getattr(norm, name).grad is None) == (name in frozen)


def test_mlp_and_patch_embed_shapes():
    mlp = layers.Mlp(6, 18, "relu", drop_rate=0.5)
    assert mlp(paddle.zeros([2, 3, 4, 6])).shape == [2, 3, 4, 6]
    embed = layers.PatchEmbed(3, 8, 7, norm_epsilon=1e-6)
    assert embed(paddle.zeros([2, 3, 14, 28])).shape == [2, 2, 4, 8]
    down = layers.Downsample(8, 12, 2)
    assert down(paddle.zeros([2, 2, 4, 8])).shape == [2, 1, 2, 12]
    assert layers.GlobalAveragePool()(paddle.ones([2, 2, 4, 8])).shape == [2, 8]


@pytest.mark.compat
def test_truncated_normal_cuts_at_two_deviations():
    """On Paddle 3 the default bounds are -2 and 2, whatever the deviation."""
    paddle.seed(0)
    weight = paddle.create_parameter([100, 100], "float32", default_initializer=layers.truncated_normal(0.02)).numpy()
    assert 0.0399 < np.abs(weight).max() <= 0.04
    assert abs(weight.std() / (0.02 * 0.87962566) - 1) < 0.03


@pytest.mark.compat
def test_recompute_draws_the_same_random_numbers():
    """The gradient of dropout tells which mask the backward pass used; the generator goes on as if nothing was."""
    dropout = nn.Dropout(0.5)
    x = paddle.ones([64])
    x.stop_gradient = False
    paddle.seed(7)
    y = recompute(dropout, x)
    before = paddle.get_rng_state()
    y.sum().backward()
    assert np.array_equal(x.grad.numpy(), y.numpy())
    following = paddle.rand([4]).numpy()
    paddle.set_rng_state(before)
    assert np.array_equal(paddle.rand([4]).numpy(), following)


@pytest.mark.compat
def test_running_statistics_are_buffers_and_survive_sync_batch_norm():
    """PaddleClas's engine converts a model with ``Arch.use_sync_bn``; Paddle's function takes over the statistics."""
    model = nn.Sequential(layers.BatchNorm2D(4))
    model[0]._mean.set_value(paddle.arange(4, dtype="float32"))
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    assert sorted(model.state_dict()) == ["0._mean", "0._variance", "0.bias", "0.weight"]
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert type(converted[0]) is nn.SyncBatchNorm
    assert sorted(converted.state_dict()) == ["0._mean", "0._variance", "0.bias", "0.weight"]
    assert converted[0]._mean.numpy().tolist() == [0, 1, 2, 3]


@pytest.mark.compat
@pytest.mark.parametrize("axes", [[1, 0], [0, 2, 1, 3], [2, 0, 3, 1, 4], [0, 1, 3, 2, 4, 5]], ids=str)
def test_permute_is_a_transposition_in_memory(axes):
    """Values and gradient; and what comes out needs no copy to be read."""
    array = np.random.default_rng(0).standard_normal((2, 3, 4, 5, 2, 3)[: len(axes)]).astype(np.float32)
    x = paddle.to_tensor(array, stop_gradient=False)
    permuted = layers.permute(x, axes)
    expected = array.transpose(axes)
    assert np.array_equal(permuted.numpy(), expected) and permuted.is_contiguous()
    weights = np.random.default_rng(1).standard_normal(expected.shape).astype(np.float32)
    (permuted * paddle.to_tensor(weights)).sum().backward()
    assert np.array_equal(x.grad.numpy(), weights.transpose(np.argsort(axes)))
