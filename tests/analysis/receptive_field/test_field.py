"""Receptive fields: worked out by hand, against the definition in NumPy, and by what networks cannot see."""

import numpy as np
import paddle
import pytest
from paddle import nn

from ppcls_ext import create_backbone
from ppcls_ext.analysis.receptive_field.areas import high_contribution_areas, shape_of_field
from ppcls_ext.analysis.receptive_field.errors import ReceptiveFieldError
from ppcls_ext.analysis.receptive_field.field import centre_of, contributions
from ppcls_ext.analysis.receptive_field.picture import shown
from ppcls_ext.analysis.receptive_field.stages import Tap, find_taps

pytestmark = pytest.mark.compat


def field_of(model, images, rectifier="relu", layer=None):
    model.eval()
    ((values, _),) = contributions(model, [Tap("map", layer=layer or model)], images, rectifier)
    return values


def ones(*convolutions):
    """A stack of convolutions whose weights are all 1, without biases."""
    for convolution in convolutions:
        convolution.weight.set_value(paddle.ones_like(convolution.weight))
    return nn.Sequential(*convolutions)


# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_three_convolutions_of_ones_give_trinomial_coefficients():
    """(1 + x + x^2)^3 = 1, 3, 6, 7, 6, 3, 1 along each axis; two channels in the middle double it twice."""
    layers = [nn.Conv2D(a, b, 3, padding=1, bias_attr=False) for a, b in ((3, 2), (2, 2), (2, 1))]
    images = np.random.default_rng(0).standard_normal((2, 3, 11, 11), dtype=np.float32)
    coefficients = np.array([0, 0, 1, 3, 6, 7, 6, 3, 1, 0, 0])
    expected = 2 * 3 * 4 * np.outer(coefficients, coefficients)  # images, colours, paths through the middle
    assert field_of(ones(*layers), images).tolist() == expected.tolist()


def test_the_centre_of_even_and_odd_maps():
    """Patches of 2 pixels: of 4 x 4 the centre is the second, as Sequencer's generator has it; of 3 x 3 the middle."""
    assert [centre_of(4, 4), centre_of(3, 3), centre_of(7, 14)] == [(1, 1), (1, 1), (3, 6)]
    patches = ones(nn.Conv2D(1, 1, 2, stride=2, bias_attr=False))
    for size in (8, 6):
        expected = np.zeros((size, size))
        expected[2:4, 2:4] = 1
        assert field_of(patches, np.zeros((1, 1, size, size), np.float32)).tolist() == expected.tolist()


def test_negative_gradients_count_by_their_size_alone_or_not_at_all():
    layer = nn.Conv2D(1, 1, 3, padding=1, bias_attr=False)
    kernel = np.array([[1, -2, 0], [-3, 4, -5], [0, 6, -7]], np.float32)
    layer.weight.set_value(kernel[None, None])
    image = np.zeros((1, 1, 3, 3), np.float32)
    assert field_of(nn.Sequential(layer), image, "relu").tolist() == kernel.clip(0).tolist()
    assert field_of(nn.Sequential(layer), image, "abs").tolist() == np.abs(kernel).tolist()


# ---- against the definition ------------------------------------------------------------------------------------------


def convolve(x, weight, padding):
    """Return the cross-correlation [C_out, H, W] of x [C_in, H, W], in float64."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(1, 2))
    return np.einsum("chwij,ocij->ohw", windows, weight)


def test_equal_to_the_definition_of_the_official_generator():
    """It takes the sum over channels at h / 2 - 1, w / 2 - 1, and sums ReLU of the gradients over images and colours.

    The gradients here are central differences of a convolutional network in NumPy.
    """
    rng = np.random.default_rng(1)
    weights = [rng.standard_normal(shape) for shape in ((4, 2, 3, 3), (3, 4, 3, 3))]
    images = rng.standard_normal((3, 2, 6, 8))

    def centre(image):
        features = convolve(np.tanh(convolve(image, weights[0], 1)), weights[1], 1)
        return features[:, features.shape[1] // 2 - 1, features.shape[2] // 2 - 1].sum()

    gradients = np.zeros_like(images)
    for place in np.ndindex(images.shape):
        step = np.zeros_like(images[place[0]])
        step[place[1:]] = 1e-5
        gradients[place] = (centre(images[place[0]] + step) - centre(images[place[0]] - step)) / 2e-5
    expected = np.maximum(gradients, 0).sum(axis=(0, 1))

    layers = [nn.Conv2D(2, 4, 3, padding=1, bias_attr=False), nn.Conv2D(4, 3, 3, padding=1, bias_attr=False)]
    for layer, weight in zip(layers, weights):
        layer.weight.set_value(weight.astype(np.float32))
    found = field_of(nn.Sequential(layers[0], nn.Tanh(), layers[1]), images.astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_high_contribution_areas_by_hand():
    """A uniform field of 10 x 10: the squares of side 3, 5, 7 and 9 hold 9, 25, 49 and 81 % of it."""
    areas = high_contribution_areas(np.full((10, 10), 5.0), images=5)
    assert [area.side for area in areas] == [5, 7, 9, None]
    assert [area.ratio for area in areas] == [pytest.approx(value) for value in (0.25, 0.49, 0.81)] + [None]
    point = np.zeros((20, 20))
    point[10, 10] = 1
    assert {area.side for area in high_contribution_areas(point)} == {3}


def test_logarithms_of_the_mean_are_what_areas_add():
    """log10(1 + 9) = 1 in the centre and log10(1 + 99) = 2 at a corner far away: the square holds one third."""
    field = np.zeros((12, 12))
    field[6, 6], field[0, 0] = 4 * 9, 4 * 99
    sides = [area.side for area in high_contribution_areas(field, images=4, thresholds=(0.33, 0.34))]
    assert sides == [3, None]


def test_shapes_by_hand():
    """Map 4 x 4 of 8 x 8 pixels: the bands are rows 2 and 3, and columns 2 and 3."""
    uniform = shape_of_field(np.ones((8, 8)), (4, 4))
    assert (uniform.row, uniform.column, uniform.cell, uniform.reached) == (0.25, 0.25, 1 / 16, 1)
    assert uniform.cross == uniform.uniform_cross == 7 / 16
    column = np.zeros((8, 8))
    column[:, 3] = 1
    only = shape_of_field(column, (4, 4))
    assert (only.column, only.row, only.cross, only.reached) == (1, 0.25, 1, 1 / 8)


def test_scales():
    fields = {"a": np.array([[0.0, 9.0]]), "b": np.array([[0.0, 99.0]])}
    absolute, relative = shown(fields, "absolute"), shown(fields, "relative")
    assert absolute["a"].tolist() == [[0, 0.5]] and absolute["b"].tolist() == [[0, 1]]
    assert relative["a"].tolist() == relative["b"].tolist() == [[0, 1]]


# ---- what networks cannot see ----------------------------------------------------------------------------------------


def reached(name, size, stage, **arguments):
    """Which pixels contribute to the centre of a stage."""
    paddle.seed(3)
    model = create_backbone(name, **arguments)
    model.eval()
    images = np.random.default_rng(0).standard_normal((2, 3, size, size), dtype=np.float32)
    ((values, _),) = contributions(model, find_taps(model, name, [stage]), images, "abs")
    return values > 0


def test_one_block_of_sequencer_sees_a_cross():
    """4-pixel patches, 8 x 8 of them: the centre is the fourth row and column."""
    seen = reached(
        "Sequencer2D",
        32,
        "0",
        **dict(img_size=32, depths=[1], patch_sizes=[4], embed_dims=[8], hidden_sizes=[2], mlp_ratios=[1.0]),
    )
    expected = np.zeros((32, 32), bool)
    expected[12:16, :] = expected[:, 12:16] = True
    assert (seen == expected).all()


def test_one_block_of_vip_sees_a_cross_and_its_ablations_a_line():
    arguments = dict(
        img_size=32, depths=[1], patch_size=4, embed_dims=[8], segments=[8], transitions=[], mlp_ratios=[1]
    )
    cross = np.zeros((32, 32), bool)
    cross[12:16, :] = cross[:, 12:16] = True
    assert (reached("VisionPermutator", 32, "0", weighted=False, **arguments) == cross).all()
    line = reached("VisionPermutator", 32, "0", weighted=False, height_branch="channel", **arguments)
    assert line[12:16].all() and line.sum() == 4 * 32


def test_the_first_stage_of_dilateformer_sees_a_patch_and_vit_sees_all():
    """Dilation 3 of a 3 x 3 window reaches 3 tokens each way, 4 with the position embedding's convolution, of 16."""
    patch = reached(
        "DilateFormer",
        64,
        "0",
        **dict(img_size=64, depths=[1, 1], embed_dim=12, num_heads=[3, 6], dilate_attention=[True, False]),
    )
    rows, columns = patch.any(axis=1).nonzero()[0], patch.any(axis=0).nonzero()[0]
    assert 12 <= rows.max() - rows.min() < 48 and 12 <= columns.max() - columns.min() < 48
    sees_all = reached("VisionTransformer", 32, "-1", img_size=32, patch_size=8, embed_dim=8, depths=[1], num_heads=2)
    assert sees_all.all()


def test_layers_by_name_whatever_their_layout():
    """In a network with its channels last: the stem's convolution, a block, and an LSTM, which gives no map."""
    model = create_backbone(
        "Sequencer2D", img_size=24, depths=[1], patch_sizes=[4], embed_dims=[8], hidden_sizes=[2], mlp_ratios=[1.0]
    )
    model.eval()
    images = np.random.default_rng(0).standard_normal((1, 3, 24, 24), dtype=np.float32)
    patch = np.zeros((24, 24), bool)
    patch[8:12, 8:12] = True
    ((stem, size),) = contributions(model, find_taps(model, "", ["stem.proj"]), images, "abs")
    assert size == (6, 6) and ((stem > 0) == patch).all()
    ((block, size),) = contributions(model, find_taps(model, "", ["stages[0].blocks[0]"]), images, "abs")
    ((stage, _),) = contributions(model, find_taps(model, "", ["0"]), images, "abs")
    assert size == (6, 6) and block.tolist() == stage.tolist()
    with pytest.raises(ReceptiveFieldError, match="rnn_v gives .* no map of positions"):
        contributions(model, find_taps(model, "", ["stages[0].blocks[0].rnn_tokens.rnn_v"]), images, "abs")


# ---- mistakes --------------------------------------------------------------------------------------------------------


class Stopped(nn.Layer):
    """No gradient passes."""

    def forward(self, x):
        return x.detach() * 2


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.Sequential(Stopped()), "no gradient leads from map"),
        (lambda: nn.Sequential(Stopped(), nn.Conv2D(3, 1, 1)), "no gradient leads from map"),
        (nn.Flatten, "no map of positions"),
    ],
)
def test_models_without_gradients_or_maps(make, message):
    model = make()
    with pytest.raises(ReceptiveFieldError, match=message):
        field_of(model, np.ones((1, 3, 4, 4), np.float32))


def test_maps_that_are_not_finite():
    layer = nn.Conv2D(3, 1, 1)
    layer.weight.set_value(paddle.full_like(layer.weight, float("nan")))
    with pytest.raises(ReceptiveFieldError, match="map gives NaN or infinity"):
        field_of(nn.Sequential(layer), np.ones((1, 3, 4, 4), np.float32))


@pytest.mark.parametrize(
    "word, message",
    [
        ("4", "stages 0 to 1, or -2 to -1; got 4"),
        ("stages[1].block[0]", "no layer .*nearest: .*stages.1.blocks"),
    ],
)
def test_stages_that_are_not_there(word, message):
    model = create_backbone("VisionTransformer", img_size=16, patch_size=8, embed_dim=8, depths=[1, 1], num_heads=2)
    with pytest.raises(ReceptiveFieldError, match=message):
        find_taps(model, "VisionTransformer", [word])
