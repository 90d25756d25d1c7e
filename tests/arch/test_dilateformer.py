"""What is particular to DilateFormer: dilated windows, border, options, argument checks."""

import numpy as np
import paddle
import pytest

from ppcls_ext.arch.backbone.dilateformer import DilateFormer, Merging, PositionEncoding
from ppcls_ext.arch.layers import BatchNorm2D, SelfAttention
from ppcls_ext.arch.layers.dilated_attention import DilatedAttention

SMALL = {
    "class_num": 3,
    "depths": [1, 1],
    "embed_dim": 12,
    "num_heads": [3, 6],
    "dilate_attention": [True, False],
}


def influence(mixer, row, column, shape) -> np.ndarray:
    """Which output positions and channels ``[H, W, C]`` depend on the input at (row, column)."""
    paddle.seed(0)
    x = paddle.randn(shape)
    bump = np.zeros(shape, np.float32)
    bump[:, row, column] = 1
    with paddle.no_grad():
        return np.abs((mixer(x) - mixer(x + paddle.to_tensor(bump))).numpy()).max(axis=0) > 1e-7


@pytest.mark.parametrize("dilations, size", [([1, 2, 3], 3), ([2], 5), ([1, 4], 3)], ids=str)
def test_each_dilation_reaches_its_own_window(dilations, size):
    """A token reaches the queries whose window holds it, group of channels by group, and nothing else."""
    attention = DilatedAttention(12, 2 * len(dilations), dilations, size, True, 0.0)
    attention.proj = paddle.nn.Identity()
    height, width, row, column = 9, 11, 3, 5
    reached = influence(attention, row, column, (2, height, width, 12)).reshape(height, width, len(dilations), -1)
    for group, dilation in enumerate(dilations):
        steps = dilation * np.arange(-(size // 2), size // 2 + 1)
        expected = np.ix_(np.isin(np.arange(height), row + steps), np.isin(np.arange(width), column + steps))
        mask = np.zeros((height, width), bool)
        mask[expected] = True
        assert np.array_equal(reached[:, :, group].any(axis=-1), mask)


def test_keys_outside_the_map_take_their_part_of_the_softmax():
    """On a map of one pixel 8 of 9 keys lie outside: their logits and values are 0.

    With a query and a key of ones the logit inside is sqrt(D), and the output is a known part of the value.
    """
    attention = DilatedAttention(12, 3, [1, 2, 3], 3, True, 0.0)
    attention.proj = paddle.nn.Identity()
    attention.qkv.weight.set_value(paddle.zeros_like(attention.qkv.weight))
    attention.qkv.bias.set_value(np.repeat([1, 1, 7], 12).astype(np.float32))
    actual = attention(paddle.zeros([1, 1, 1, 12])).numpy()
    logit = np.exp(np.sqrt(4))
    np.testing.assert_allclose(actual, np.full((1, 1, 1, 12), 7 * logit / (logit + 8)), rtol=1e-6)


def test_global_attention_equals_the_formula():
    paddle.seed(0)
    attention = SelfAttention(12, 3)
    x = paddle.randn([2, 3, 5, 12])
    qkv = attention.qkv(x).numpy().reshape(2, 15, 3, 3, 4)
    expected = np.zeros((2, 15, 3, 4), np.float64)
    for n in range(2):
        for head in range(3):
            q, k, v = (qkv[n, :, i, head].astype(np.float64) for i in range(3))
            weights = np.exp(q @ k.T / 2)
            expected[n, :, head] = weights / weights.sum(axis=1, keepdims=True) @ v
    mixed = paddle.to_tensor(expected.reshape(2, 3, 5, 12).astype(np.float32))
    np.testing.assert_allclose(attention(x).numpy(), attention.proj(mixed).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "attention", [DilatedAttention(12, 3, [1, 2, 3], 3, True, 0.5), SelfAttention(12, 3, attn_drop_rate=0.5)]
)
def test_dropout_of_probabilities(attention):
    """In training only, and unbiased."""
    x = paddle.randn([1, 4, 4, 12])
    paddle.seed(0)
    with paddle.no_grad():
        attention.train()
        mean = sum(attention(x) for _ in range(400)) / 400
        assert not np.allclose(attention(x).numpy(), attention(x).numpy())
        attention.eval()
        assert np.array_equal(attention(x).numpy(), attention(x).numpy())
        np.testing.assert_allclose(mean.numpy(), attention(x).numpy(), atol=0.2)


@pytest.mark.parametrize(
    "kind, odd, kernel", [("conv3_2", 4, 3), ("conv2_2", 3, 2), ("avgpool3_2", 4, 3), ("avgpool2_2", 3, 2)]
)
def test_mergings(kind, odd, kernel):
    """Size on an odd map; and with weights that copy channel 0, the mean over the window or its weighted sum."""
    merging = Merging(2, 4, kind)
    merging.eval()
    weight = np.zeros(merging.conv.weight.shape, np.float32)
    weight[:, 0] = 1
    merging.conv.weight.set_value(weight)
    merging.conv.bias.set_value(np.zeros(4, np.float32))
    x = paddle.randn([1, 7, 7, 2])
    actual = merging(x).numpy()
    assert actual.shape == (1, odd, odd, 4)
    begin = 2 - (kernel == 3)
    window = x.numpy()[0, begin : begin + kernel, begin : begin + kernel, 0]
    expected = window.mean() if kind.startswith("avgpool") else window.sum()
    np.testing.assert_allclose(actual[0, 1, 1], np.full(4, expected) / np.sqrt(1 + 1e-5), rtol=1e-5)
    if kind == "avgpool3_2":  # the padding does not count
        np.testing.assert_allclose(actual[0, 0, 0, 0], x.numpy()[0, :2, :2, 0].mean(), rtol=1e-4)


def test_position_encoding_adds_a_depthwise_convolution():
    encoding = PositionEncoding(4)
    x = paddle.randn([1, 5, 6, 4])
    w = encoding.weight.numpy()[:, 0]  # [C, 3, 3]
    patch = x.numpy()[0, 1:4, 2:5]
    expected = x.numpy()[0, 2, 3] + np.einsum("hwc,chw->c", patch, w) + encoding.bias.numpy()
    np.testing.assert_allclose(encoding(x).numpy()[0, 2, 3], expected, atol=1e-6)


@pytest.mark.compat
def test_running_statistics_are_no_parameters():
    """And move as Paddle's own do; the keys of ``state_dict()`` are the same."""
    paddle.seed(0)
    ours, paddles = BatchNorm2D(3), paddle.nn.BatchNorm2D(3)
    assert sorted(ours.state_dict()) == sorted(paddles.state_dict())
    assert [name for name, _ in ours.named_parameters()] == ["weight", "bias"]
    x = 3 + 2 * paddle.randn([4, 3, 5, 5])
    for _ in range(3):
        assert np.array_equal(ours(x).numpy(), paddles(x).numpy())
    assert np.array_equal(ours._mean.numpy(), paddles._mean.numpy()) and ours._mean.numpy().min() > 0.5
    assert np.array_equal(ours._variance.numpy(), paddles._variance.numpy())
    other = BatchNorm2D(3)
    other.set_state_dict(ours.state_dict())
    assert np.array_equal(other._variance.numpy(), ours._variance.numpy())


def encodings(model) -> list:
    return [name for name, layer in model.named_sublayers() if isinstance(layer, PositionEncoding)]


def test_places_of_position_encodings():
    blocks = ["stages.0.blocks.0.cpe", "stages.1.blocks.0.cpe"]
    for cpe, expected in {
        "none": [],
        "block": blocks,
        "stage": ["stages.1.cpe"],
        "both": [blocks[0], "stages.1.cpe", blocks[1]],
    }.items():
        assert encodings(DilateFormer(**{**SMALL, "cpe": cpe})) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        {"patch_embed": "nonoverlapping"},
        {"patch_embed": "pointconv"},
        {"merging": "conv2_2"},
        {"merging": "avgpool3_2"},
        {"merging": "avgpool2_2"},
        {"patch_embed": "nonoverlapping", "merging": "conv2_2"},
        {"cpe": "stage"},
        {"cpe": "both"},
        {"cpe": "none"},
        {"qkv_bias": False},
        {"activation": "silu"},
        {"mlp_ratio": 2.5},
        {"epsilon": 1e-3},
        {"drop_rate": 0.3},
        {"attn_drop_rate": 0.3},
        {"kernel_size": 5, "dilations": [1, 2], "num_heads": [2, 6]},
        {"dilate_attention": [True, True]},
        {"dilate_attention": [False, False]},
        {"in_channels": 1},
        {"depths": [2], "num_heads": [3], "dilate_attention": [True]},
        {"depths": [1] * 5, "num_heads": [3] * 5, "dilate_attention": [True, False, True, False, False]},
    ],
    ids=str,
)
def test_every_option_builds_runs_and_says_its_smallest_size(arguments):
    """Down to the size of ``min_size`` it runs; below, the error names that size."""
    paddle.seed(0)
    model = DilateFormer(**{**SMALL, **arguments})
    channels = model.in_channels
    model(paddle.randn([2, channels, 64, 64])).pow(2).sum().backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in model.parameters())
    model.eval()
    maps = model.extract_features(paddle.randn([1, channels, 128, 64]))
    for map_, info in zip(maps, model.feature_info):
        assert map_.shape == [1, info["channels"], 128 // info["stride"], 64 // info["stride"]]
    smallest = model.min_size
    assert model(paddle.randn([1, channels, smallest, smallest])).shape == [1, 3]
    assert model.extract_features(paddle.randn([1, channels, smallest, smallest]))[-1].shape[2:] == [1, 1]
    with pytest.raises(ValueError, match=f"at least {smallest} x {smallest} pixels, got {smallest - 1} x"):
        model(paddle.zeros([1, channels, smallest - 1, smallest]))


@pytest.mark.parametrize(
    "arguments, smallest",
    [
        ({}, 1),
        ({"patch_embed": "nonoverlapping"}, 4),
        ({"merging": "conv2_2"}, 29),
        ({"merging": "avgpool2_2", "patch_embed": "nonoverlapping"}, 32),
    ],
    ids=str,
)
def test_smallest_sizes_of_four_stages(arguments, smallest):
    stages = {"depths": [1] * 4, "num_heads": [3] * 4, "dilate_attention": [True] * 4}
    assert DilateFormer(**{**SMALL, **stages, **arguments}).min_size == smallest


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"patch_embed": "overlaping"}, ValueError, "got 'overlaping', did you mean overlapping"),
        ({"merging": "conv_3"}, ValueError, "merging must be one of .*did you mean conv3_2"),
        ({"cpe": "blocks"}, ValueError, "cpe must be one of .*did you mean block"),
        ({"activation": "gleu"}, ValueError, "did you mean gelu"),
        ({"depths": 3}, TypeError, "depths must be a list of integers"),
        ({"num_heads": [3]}, ValueError, r"num_heads must hold 2 values, one per stage, got \[3\]"),
        ({"num_heads": [3, 7]}, ValueError, r"num_heads\[1\] must divide the stage's 24 channels, got 7"),
        ({"num_heads": [4, 6]}, ValueError, r"num_heads\[0\] must be a multiple of .* dilations, 3; got 4"),
        ({"dilations": 2}, TypeError, "dilations must be a list of one or more integers, got 2"),
        ({"dilations": []}, TypeError, "dilations must be a list of one or more"),
        ({"dilations": [1, 0, 2]}, ValueError, r"dilations\[1\] must be at least 1, got 0"),
        ({"kernel_size": 4}, ValueError, "kernel_size must be odd, got 4; nearest: 3 and 5"),
        ({"kernel_size": 0}, ValueError, "kernel_size must be at least 1, got 0"),
        ({"dilate_attention": [True]}, ValueError, "dilate_attention must hold 2 values, True or False"),
        ({"dilate_attention": [1, 0]}, TypeError, r"dilate_attention\[0\] must be True or False, got 1"),
        ({"embed_dim": 7.5}, TypeError, "embed_dim must be an integer, got 7.5"),
        ({"mlp_ratio": 0}, ValueError, "mlp_ratio must be positive, got 0"),
        ({"qkv_bias": "yes"}, TypeError, "qkv_bias must be True or False, got 'yes'"),
        ({"epsilon": "1e-6"}, TypeError, "epsilon must be a number, got '1e-6'"),
        ({"attn_drop_rate": 1.0}, ValueError, r"attn_drop_rate must lie in \[0, 1\), got 1"),
        ({"img_size": [28, 42, 3]}, TypeError, "img_size must be an integer or"),
        ({"img_size": 4, "merging": "conv2_2"}, ValueError, "'conv2_2' takes images of at least 5 x 5 pixels, got 4"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        DilateFormer(**{**SMALL, **arguments})
