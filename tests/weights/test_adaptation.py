"""Other input channels and other image sizes: what the network computes stays."""

import logging

import cv2
import numpy as np
import paddle
import pytest

import ppcls_ext
from ppcls_ext.utils.state_dict import state_arrays
from ppcls_ext.weights.adapt import adapt_input_channels, resize_position_table
from ppcls_ext.weights.loading import WeightMismatchError, load_pretrained

SMALL = {
    "class_num": 5,
    "depths": [1, 1],
    "patch_sizes": [4, 1],
    "embed_dims": [8, 8],
    "hidden_sizes": [2, 2],
    "mlp_ratios": [1.0, 1.0],
}


def build(name="Sequencer2D", **arguments):
    paddle.seed(3)
    model = ppcls_ext.create_backbone(name, **{**SMALL, **arguments})
    model.head.weight.set_value(paddle.randn(model.head.weight.shape))  # the official head starts at zero
    model.eval()
    return model


@pytest.mark.compat
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6])
def test_the_response_to_a_grey_image_stays(tmp_path, caplog, channels):
    source, target = build(img_size=16), build(img_size=16, in_channels=channels)
    paddle.save(source.state_dict(), str(tmp_path / "m.pdparams"))
    with caplog.at_level(logging.WARNING, logger="ppcls_ext"):
        report = load_pretrained(target, tmp_path / "m")
    grey = paddle.rand([2, 1, 16, 16])
    expected, found = source(grey.tile([1, 3, 1, 1])), target(grey.tile([1, channels, 1, 1]))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)
    if channels != 3:
        assert report.adapted == {"stem.proj.weight": f"input channels from 3 to {channels}"}
        assert f"input channels from 3 to {channels}" in caplog.text
    else:
        assert not report.adapted


def test_channels_by_hand():
    weight = np.array([3.0, 6.0, 9.0], np.float32).reshape(1, 3, 1, 1)
    expected = {1: [18], 2: [9, 9], 4: [1.5, 6, 9, 1.5], 5: [1.5, 3, 9, 1.5, 3], 6: [1.5, 3, 4.5] * 2}
    for channels, values in expected.items():
        assert adapt_input_channels(weight, channels).ravel().tolist() == values


def test_only_the_first_convolution_is_adapted(tmp_path):
    """Another width in the middle of the network is still an error."""
    paddle.save(build(img_size=16).state_dict(), str(tmp_path / "m.pdparams"))
    with pytest.raises(
        WeightMismatchError, match=r"stages\.1\.downsample\.down\.weight: file has shape \[8, 8, 1, 1\]"
    ):
        load_pretrained(build(img_size=16, embed_dims=[16, 8], hidden_sizes=[4, 2]), tmp_path / "m")


@pytest.mark.compat
def test_a_position_table_is_resampled_as_the_model_does_it(tmp_path):
    """Loading at another size gives what the model of the old size computes at the new one; the report lists it."""
    small = {"hidden_sizes": [4, 4], "use_pos_embed": True}
    source, target = build("VSequencer", img_size=16, **small), build("VSequencer", img_size=24, **small)
    paddle.save(source.state_dict(), str(tmp_path / "m.pdparams"))
    report = load_pretrained(target, tmp_path / "m")
    assert report.adapted == {"pos_embed.weight": "resampled from (4, 4) to (6, 6)"}
    images = paddle.rand([2, 3, 24, 24])
    np.testing.assert_allclose(target(images).numpy(), source(images).numpy(), atol=1e-5)
    others = {name: array for name, array in state_arrays(source).items() if name != "pos_embed.weight"}
    assert all(np.array_equal(array, state_arrays(target)[name]) for name, array in others.items())


def test_resampling_equals_opencvs_bicubic():
    """Both use Keys' kernel with a = -0.75 and pixel centres; enlarged only, where no smoothing is in question."""
    table = np.random.default_rng(0).standard_normal((1, 5, 4, 3)).astype(np.float32)
    expected = cv2.resize(table[0], (9, 10), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(resize_position_table(table, 10, 9)[0], expected, atol=1e-5)


def test_swins_bias_tables_are_resampled_for_another_window(tmp_path):
    """As OpenCV resamples them (bicubic), and the log says from which window to which."""
    small = {"class_num": 3, "embed_dim": 8, "depths": [1], "num_heads": [2]}
    source, target = (
        ppcls_ext.create_backbone("ppcls_ext.SwinTransformer", window_size=window, **small) for window in (7, 12)
    )
    name = "stages.0.blocks.0.attn.relative_position_bias_table"
    table = source.state_dict()[name].numpy()
    paddle.save(source.state_dict(), str(tmp_path / "in.pdparams"))
    report = load_pretrained(target, tmp_path / "in")
    assert report.adapted == {name: "resampled for windows of 12, from 7"}
    expected = cv2.resize(table.reshape(13, 13, 2), (23, 23), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(target.state_dict()[name].numpy().reshape(23, 23, 2), expected, atol=1e-6)
