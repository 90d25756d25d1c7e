"""What is particular to Sequencer: mixing along rows and columns, position embedding, argument checks."""

import numpy as np
import paddle
import pytest

from ppcls_ext.arch.backbone.sequencer import RNN2D, Sequencer2D
from ppcls_ext.arch.backbone.vsequencer import RNN1D, PositionEmbedding, VSequencer

SMALL = {
    "class_num": 3,
    "depths": [1, 1],
    "patch_sizes": [7, 2],
    "embed_dims": [8, 12],
    "hidden_sizes": [2, 3],
    "mlp_ratios": [3, 3],
}


def influence(mixer, row, column, shape=(1, 5, 6, 8)) -> np.ndarray:
    """Which output positions ``[H, W]`` depend on the input at (row, column)."""
    paddle.seed(0)
    x = paddle.randn(shape)
    changed = x.clone()
    changed[:, row, column] += 1.0
    with paddle.no_grad():
        return np.abs((mixer(x) - mixer(changed)).numpy()).max(axis=(0, 3)) > 1e-7


@pytest.mark.parametrize("union", ["cat", "add", "vertical", "horizontal"])
def test_mixing_runs_along_true_rows_and_columns(union):
    """A token reaches its own column and its own row, and nothing else: seed 000's reshape scrambles them."""
    mixer = RNN2D(8, 2, union=union)
    expected = np.zeros((5, 6), bool)
    if union != "horizontal":
        expected[:, 4] = True
    if union != "vertical":
        expected[2, :] = True
    assert np.array_equal(influence(mixer, 2, 4), expected)


def test_one_direction_looks_back_only():
    expected = np.zeros((5, 6), bool)
    expected[2:, 4] = True
    expected[2, 4:] = True
    assert np.array_equal(influence(RNN2D(8, 2, bidirectional=False), 2, 4), expected)


def test_vanilla_mixing_is_row_major():
    """A single direction: every token after it in reading order, and none before."""
    expected = np.arange(30).reshape(5, 6) >= 2 * 6 + 4
    assert np.array_equal(influence(RNN1D(8, 8, bidirectional=False), 2, 4), expected)


@pytest.mark.parametrize("rnn_type", ["lstm", "gru", "rnn"])
def test_mixer_equals_paddles_rnn_on_each_row_and_column(rnn_type):
    mixer = RNN2D(8, 2, rnn_type=rnn_type, num_layers=2)
    x = paddle.randn([2, 5, 6, 8])
    columns = [mixer.rnn_v(x[:, :, j].transpose([1, 0, 2]))[0].transpose([1, 0, 2]) for j in range(6)]
    rows = [mixer.rnn_h(x[:, i].transpose([1, 0, 2]))[0].transpose([1, 0, 2]) for i in range(5)]
    both = paddle.concat([paddle.stack(columns, axis=2), paddle.stack(rows, axis=1)], axis=-1)
    np.testing.assert_allclose(mixer(x).numpy(), mixer.fc(both).numpy(), atol=1e-6)


@pytest.mark.compat
def test_position_embedding_at_other_sizes():
    """The native grid takes the table bit for bit; another one takes a bicubic resampling of it."""
    embedding = PositionEmbedding(4, 6, 8)
    zeros = paddle.zeros([1, 4, 6, 8])
    assert np.array_equal(embedding(zeros).numpy(), embedding.weight.numpy())
    other = embedding(paddle.zeros([2, 8, 3, 8]))
    table = embedding.weight.transpose([0, 3, 1, 2])
    expected = paddle.nn.functional.interpolate(table, size=[8, 3], mode="bicubic").transpose([0, 2, 3, 1])
    np.testing.assert_allclose(other.numpy(), np.repeat(expected.numpy(), 2, axis=0), atol=1e-6)
    embedding.weight.set_value(paddle.full([1, 4, 6, 8], 0.5))
    np.testing.assert_allclose(embedding(paddle.zeros([1, 7, 9, 8])).numpy(), 0.5, rtol=1e-5)


@pytest.mark.parametrize(
    "cls, arguments, error, message",
    [
        (Sequencer2D, {"union": "catt"}, ValueError, "union must be one of .*; got 'catt', did you mean cat"),
        (Sequencer2D, {"rnn_type": "LSTM"}, ValueError, "rnn_type must be one of lstm, gru, rnn; got 'LSTM'"),
        (Sequencer2D, {"init": "xavier"}, ValueError, "init must be one of official, trunc_normal"),
        (Sequencer2D, {"activation": "gleu"}, ValueError, "did you mean gelu"),
        (Sequencer2D, {"embed_dims": [8]}, ValueError, r"embed_dims must hold 2 values, one per stage, got \[8\]"),
        (Sequencer2D, {"depths": 3}, TypeError, "depths must be a list of integers, one per stage, got 3"),
        (Sequencer2D, {"depths": []}, ValueError, "depths must hold one or more values"),
        (Sequencer2D, {"depths": [1, 0]}, ValueError, r"depths\[1\] must be at least 1, got 0"),
        (Sequencer2D, {"hidden_sizes": [2.5, 3]}, TypeError, r"hidden_sizes\[0\] must be an integer, got 2.5"),
        (Sequencer2D, {"mlp_ratios": [3, -1]}, ValueError, "mlp_ratios must hold 2 positive values"),
        (Sequencer2D, {"mlp_ratios": "33"}, TypeError, "mlp_ratios must be a list of numbers"),
        (Sequencer2D, {"epsilon": 0}, ValueError, "epsilon must be positive, got 0"),
        (Sequencer2D, {"epsilon": "1e-6"}, TypeError, "epsilon must be a number, got '1e-6'"),
        (Sequencer2D, {"bidirectional": "no"}, TypeError, "bidirectional must be True or False, got 'no'"),
        (Sequencer2D, {"img_size": 225}, ValueError, r"height 225 \(nearest: 224 and 238\)"),
        (Sequencer2D, {"img_size": [28, 42, 3]}, TypeError, "img_size must be an integer or"),
        (
            Sequencer2D,
            {"with_fc": False, "hidden_sizes": [4, 6]},
            ValueError,
            "with_fc=False needs .* hidden size 4 gives 16 channels, the tokens have 8",
        ),
        (VSequencer, {}, ValueError, "hidden size 2 gives 4 channels, the tokens have 8"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(cls, arguments, error, message):
    with pytest.raises(error, match=message):
        cls(**{**SMALL, **arguments})


@pytest.mark.parametrize(
    "arguments",
    [
        {"stem_norm": True},
        {"stage_norm": True},
        {"activation": "silu"},
        {"num_rnn_layers": 2},
        {"patch_sizes": [4, 4]},
        {"depths": [1], "patch_sizes": [2], "embed_dims": [8], "hidden_sizes": [2], "mlp_ratios": [0.5]},
    ],
    ids=str,
)
def test_every_option_builds_and_runs(arguments):
    model = Sequencer2D(**{**SMALL, "img_size": 112, **arguments})
    size = 4 * model.stage_strides[-1]
    model(paddle.randn([2, 3, size, size])).sum().backward()
    assert len(model.feature_info) == len(model.stages)
    assert model.extract_features(paddle.randn([1, 3, size, size]))[-1].shape[2] == 4
