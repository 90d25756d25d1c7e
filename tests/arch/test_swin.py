"""What is particular to Swin: windows, shifts, masks, padding, merging, argument checks."""

import itertools

import numpy as np
import paddle
import pytest

from ppcls_ext.arch.backbone.swin_transformer import (
    PatchMerging,
    SwinTransformer,
    WindowAttention,
    relative_position_index,
)

SMALL = {"class_num": 3, "embed_dim": 8, "depths": [1, 2], "num_heads": [2, 2], "window_size": 3, "patch_size": 2}


def attention_of(window=3, shift=0, always_shift=False):
    paddle.seed(0)
    layer = WindowAttention(8, 2, window, shift, always_shift, True, 0.0, 0.0)
    for parameter in layer.parameters():
        parameter.set_value(paddle.randn(parameter.shape))
    layer.eval()
    return layer


def by_definition(layer, x: np.ndarray, starts: list) -> np.ndarray:
    """Attention in each window of the lists of (first, end) rows and columns, pair by pair."""
    weight, bias, table = (
        tensor.numpy() for tensor in (layer.qkv.weight, layer.qkv.bias, layer.relative_position_bias_table)
    )
    out = np.zeros_like(x)
    for (top, bottom), (left, right) in itertools.product(*starts):
        places = list(itertools.product(range(top, bottom), range(left, right)))
        tokens = np.stack([x[0, i, j] for i, j in places]) @ weight + bias
        query, key, value = tokens.reshape(len(places), 3, 2, 4).transpose(1, 2, 0, 3)
        for head in range(2):
            logits = query[head] @ key[head].T / 2
            for a, (i, j) in enumerate(places):
                for b, (k, m) in enumerate(places):
                    row = (i - k + layer.window - 1) * (2 * layer.window - 1) + j - m + layer.window - 1
                    logits[a, b] += table[row, head]
            weights = np.exp(logits - logits.max(1, keepdims=True))
            mixed = weights / weights.sum(1, keepdims=True) @ value[head]
            for a, (i, j) in enumerate(places):
                out[0, i, j, 4 * head : 4 * head + 4] = mixed[a]
    return out @ layer.proj.weight.numpy() + layer.proj.bias.numpy()


@pytest.mark.parametrize(
    "shift, always, shape, rows, columns",
    [
        (0, False, (6, 9), [(0, 3), (3, 6)], [(0, 3), (3, 6), (6, 9)]),
        (1, False, (6, 9), [(0, 1), (1, 4), (4, 6)], [(0, 1), (1, 4), (4, 7), (7, 9)]),
        (1, False, (3, 6), [(0, 3)], [(0, 1), (1, 4), (4, 6)]),
        (1, False, (3, 3), [(0, 3)], [(0, 3)]),
        (1, True, (3, 6), [(0, 1), (1, 3)], [(0, 1), (1, 4), (4, 6)]),
    ],
    ids=["windows", "shifted", "one row of windows", "one window", "one row, shifted"],
)
def test_attention_by_definition(shift, always, shape, rows, columns):
    """Windows lie where the paper says, a shifted one is cut at the edge, and the bias goes by relative position."""
    layer = attention_of(3, shift, always)
    x = np.random.default_rng(0).standard_normal((1, *shape, 8)).astype(np.float32)
    expected = by_definition(layer, x, [rows, columns])
    np.testing.assert_allclose(layer(paddle.to_tensor(x)).numpy(), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("shift", [0, 1])
def test_a_map_is_padded_with_zeros_to_whole_windows(shift):
    layer = attention_of(3, shift)
    x = paddle.randn([2, 4, 5, 8])
    padded = paddle.nn.functional.pad(x, [0, 1, 0, 2], data_format="NHWC")
    np.testing.assert_allclose(layer(x).numpy(), layer(padded)[:, :4, :5].numpy(), atol=1e-5)


def test_relative_position_index_counts_every_offset():
    index = relative_position_index(3)
    assert index.shape == (9, 9) and index.min() == 0 and index.max() == 24
    assert np.all(np.diag(index) == 12)
    assert index[0, 8] == 0 and index[8, 0] == 24 and index[0, 1] == 11 and index[0, 3] == 7


def test_patch_merging_order_and_padding():
    """Channels of a 2 x 2 square: down the first column, then down the second; an odd side gets zeros."""
    merging = PatchMerging(1, 1e-5)
    merging.norm = paddle.nn.Identity()
    merging.reduction = paddle.nn.Identity()
    x = paddle.arange(1, 7, dtype="float32").reshape([1, 2, 3, 1])
    assert merging(x).numpy().tolist() == [[[[1, 4, 2, 5], [3, 6, 0, 0]]]]


def test_forms_differ_where_the_last_stage_is_one_window():
    """PaddleClas shifts there, the official code does not; elsewhere they agree."""
    models = [SwinTransformer(**SMALL, img_size=12, always_shift=always) for always in (False, True)]
    models[1].set_state_dict(models[0].state_dict())
    for model in models:
        model.eval()
    one, several = paddle.randn([1, 3, 12, 12]), paddle.randn([1, 3, 24, 24])
    assert np.abs(models[0](one).numpy() - models[1](one).numpy()).max() > 1e-4
    np.testing.assert_allclose(models[0](several).numpy(), models[1](several).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"qkv_bias": False, "patch_norm": False},
        {"activation": "silu", "mlp_ratio": 1.5},
        {"drop_rate": 0.1, "attn_drop_rate": 0.2, "drop_path_rate": 0.3},
        {"window_size": 1},
        {"patch_size": 3, "embed_dim": 4},
        {"always_shift": True, "window_size": 4},
    ],
    ids=str,
)
def test_every_option_builds_and_runs(arguments):
    model = SwinTransformer(**{**SMALL, **arguments})
    model(paddle.randn([2, 3, 17, 22])).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(map_.ndim == 4 for map_ in model.extract_features(paddle.randn([1, 3, 5, 30])))


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"num_heads": [3, 2]}, ValueError, r"num_heads\[0\] must divide the stage's 8 channels, got 3"),
        ({"num_heads": [2]}, ValueError, "num_heads must hold 2 values, one per stage"),
        ({"window_size": 0}, ValueError, "window_size must be at least 1, got 0"),
        ({"always_shift": "no"}, TypeError, "always_shift must be True or False, got 'no'"),
        ({"activation": "gleu"}, ValueError, "did you mean gelu"),
        ({"depths": [1, 0]}, ValueError, r"depths\[1\] must be at least 1, got 0"),
        ({"patch_size": 2.5}, TypeError, "patch_size must be an integer, got 2.5"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        SwinTransformer(**{**SMALL, **arguments})
