"""What is particular to ViT: positions at other sizes, the class token, left-over pixels, argument checks."""

import numpy as np
import paddle
import pytest
import rule

from ppcls_ext.arch.backbone.vit import TokenEmbedding, VisionTransformer

SMALL = {"class_num": 3, "img_size": [8, 12], "patch_size": 2, "embed_dim": 8, "num_heads": 2, "depths": [1, 1]}


@pytest.mark.compat
def test_positions_at_other_sizes():
    """The native grid takes the table bit for bit; another one resamples the grid and keeps the class token's."""
    embedding = TokenEmbedding(3, 8, 2, [4, 6], 0.0)
    table = embedding.pos_embed.numpy()
    native = paddle.zeros([1, 8, 4, 6])
    assert np.array_equal(embedding.positions(native).numpy(), table)
    actual = embedding.positions(paddle.zeros([1, 8, 8, 3])).numpy()
    assert np.array_equal(actual[:, 0], table[:, 0])
    grid = paddle.to_tensor(table[:, 1:].reshape([1, 4, 6, 8]).transpose([0, 3, 1, 2]))
    expected = paddle.nn.functional.interpolate(grid, size=[8, 3], mode="bicubic").numpy()
    np.testing.assert_allclose(actual[0, 1:], expected.reshape(8, 24).T, atol=1e-6)


@pytest.mark.compat
def test_resampling_at_the_native_size_is_the_identity(monkeypatch):
    """A graph with unknown sizes resamples always: at the native size that must not change a bit."""
    embedding = TokenEmbedding(3, 8, 2, [4, 6], 0.0)

    class Grid(list):
        def __eq__(self, other):
            return False

    monkeypatch.setattr(embedding, "grid", Grid([4, 6]))
    assert np.array_equal(embedding.positions(paddle.zeros([1, 8, 4, 6])).numpy(), embedding.pos_embed.numpy())


def test_maps_have_the_tokens_at_their_places():
    """Attention and MLP set to zero: a map is the embedding of the patches, row by row."""
    paddle.seed(0)
    model = VisionTransformer(**SMALL)
    for block in [block for stage in model.stages for block in stage.blocks]:
        for parameter in [*block.attn.proj.parameters(), *block.mlp.fc2.parameters()]:
            parameter.set_value(paddle.zeros_like(parameter))
    model.eval()
    images = paddle.randn([2, 3, 8, 12])
    embedded = model.stem.proj(images) + model.stem.pos_embed[:, 1:].transpose([0, 2, 1]).reshape([1, 8, 4, 6])
    for map_ in model.extract_features(images):
        np.testing.assert_allclose(map_.numpy(), embedded.numpy(), atol=1e-6)


def test_the_head_reads_the_class_token_alone():
    model = VisionTransformer(**SMALL)
    model.head.weight.set_value(paddle.randn(model.head.weight.shape))
    tokens = paddle.randn([2, 25, 8])
    expected = model.head(tokens[:, 0]).numpy()
    assert np.array_equal(model.forward_head(tokens).numpy(), expected)
    assert np.abs(expected).max() > 0


def test_left_over_pixels():
    """They are an error, or, where asked for, have no influence."""
    with pytest.raises(ValueError, match=r"height 9 \(nearest: 8 and 10\)"):
        VisionTransformer(**SMALL)(paddle.randn([1, 3, 9, 12]))
    model = VisionTransformer(**SMALL, drop_remainder=True)
    model.eval()
    images = paddle.randn([1, 3, 9, 13])
    cut = model.forward_features(images[:, :, :8, :12]).numpy()
    np.testing.assert_allclose(model.forward_features(images).numpy(), cut, atol=1e-6)
    assert model.extract_features(images)[0].shape == [1, 8, 4, 6]
    with pytest.raises(ValueError, match=r"width 1 \(nearest: 2\)"):
        model(paddle.randn([1, 3, 9, 1]))


def test_groups_of_blocks_do_not_matter_to_the_logits():
    """Only the sum of ``depths`` does."""
    models = [VisionTransformer(**{**SMALL, "depths": depths}) for depths in ([2, 1], [3], [1, 1, 1])]
    values = [rule.unit(str(i), tuple(p.shape)) for i, p in enumerate(models[0].parameters())]
    logits = []
    for model in models:
        for parameter, value in zip(model.parameters(), values):
            parameter.set_value(value)
        model.eval()
        logits.append(model(paddle.to_tensor(rule.images(12))[:, :, :8]).numpy())
    assert np.array_equal(logits[0], logits[1]) and np.array_equal(logits[0], logits[2])


@pytest.mark.parametrize(
    "arguments",
    [
        {"qkv_bias": False, "qk_scale": 0.3},
        {"activation": "gelu_tanh", "representation_size": 5},
        {"activation": "silu", "mlp_ratio": 1.5},
        {"drop_rate": 0.1, "attn_drop_rate": 0.2},
        {"init": "trunc_normal", "epsilon": 1e-5},
    ],
    ids=str,
)
def test_every_option_builds_and_runs(arguments):
    model = VisionTransformer(**SMALL, **arguments)
    for parameter in model.head.parameters():
        parameter.set_value(paddle.randn(parameter.shape))
    model(paddle.randn([2, 3, 6, 10])).pow(2).sum().backward()
    assert all(np.abs(parameter.grad.numpy()).max() > 0 for parameter in model.parameters())
    groups = dict(model.layer_groups())
    assert {name.split(".")[0] for name in groups["tail"]} <= {"norm", "pre_logits", "head"}


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"num_heads": 3}, ValueError, "num_heads must divide embed_dim, 8; got 3"),
        ({"activation": "gelu_tan"}, ValueError, "did you mean gelu_tanh"),
        ({"init": "jax"}, ValueError, "init must be one of official, trunc_normal"),
        ({"qk_scale": 0}, ValueError, "qk_scale must be positive, got 0"),
        ({"qkv_bias": 1}, TypeError, "qkv_bias must be True or False, got 1"),
        ({"representation_size": -1}, ValueError, "representation_size must be at least 0"),
        ({"img_size": 15}, ValueError, r"height 15 \(nearest: 14 and 16\)"),
        ({"depths": 12}, TypeError, "depths must be a list of integers"),
        ({"patch_size": 0}, ValueError, "patch_size must be at least 1"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        VisionTransformer(**{**SMALL, **arguments})
