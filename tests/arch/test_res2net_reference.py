"""Res2Net against the official code and timm: counts, logits, features; and what its two forms do."""

import compare
import numpy as np
import paddle
import pytest
import rule
from paddle import nn

from ppcls_ext import registry
from ppcls_ext.analysis.macs import count_macs
from ppcls_ext.arch.backbone.res2net import SplitConvolution
from ppcls_ext.arch.backbone.res2net_bl import BigLittleStage
from ppcls_ext.arch.backbone.res2net_dla import left_siblings

RES2NETS = [spec for spec in registry.specs() if spec.family == "Res2Net"]
COMPAT = {"Res2Net50_vd_26w_4s", "Res2Net_DLA60", "bLRes2Net50"}
#: Networks of other classes than Res2Net, whose counts are not those of the closed form.
OTHERS = ("Res2Net_DLA60", "Res2NeXt_DLA60", "bLRes2Net50")


def closed_form(config: dict, size: int) -> tuple:
    """Return parameters and multiply-adds of a Res2Net by the paper's table, from the arguments alone."""
    planes, scale, cardinality = config["planes"], config["scale"], config["cardinality"]
    side = -(-size // 2)
    half, whole = planes[0] // 2, planes[0]
    stem = [(27 * half, half), (9 * half * half, half), (9 * half * whole, whole)]
    layers = [(*conv, side) for conv in (stem if config["stem"] == "deep" else [(147 * whole, whole)])]
    side, width, extra = -(-side // 2), planes[0], [0, 0]
    for stage, (depth, base) in enumerate(zip(config["depths"], planes)):
        part, out = base * config["base_width"] // 64 * cardinality, 4 * base
        for block in range(depth):
            before, side = side, -(-side // 2) if stage and not block else side
            layers.append((width * part * scale, part * scale, before))
            layers += [(9 * part * part // cardinality, part, side)] * (scale - 1)
            layers.append((part * scale * out, out, side))
            if not block:
                layers.append((width * out, out, side))
            if config["use_se"]:
                extra[0] += 2 * out * out // 16 + out + out // 16
                extra[1] += 2 * out * out // 16
            width = out
    params = sum(weights + 2 * norm for weights, norm, _ in layers) + width * 1000 + 1000 + extra[0]
    return params, sum(weights * pixels**2 for weights, _, pixels in layers) + width * 1000 + extra[1]


@pytest.mark.parametrize("spec", RES2NETS, ids=lambda spec: spec.name)
def test_counts(spec):
    """The registry's row, the closed form and the published figures."""
    params, gmacs = compare.COUNTS[spec.name].values()
    assert spec.params == params and gmacs in (None, round(spec.macs / 1e9, 2))
    if spec.name not in OTHERS:
        assert (spec.params, spec.macs) == closed_form(spec.factory.arguments, 224)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "spec", [pytest.param(s, id=s.name, marks=[pytest.mark.compat] if s.name in COMPAT else []) for s in RES2NETS]
)
def test_equals_the_reference(spec):
    """Logits and every stage's features, on the same weights; what was counted is what was built."""
    model = spec.factory(**compare.arguments(spec))
    if spec.name in OTHERS:
        assert sum(parameter.size for parameter in model.parameters()) == spec.params
        assert sum(count_macs(model, (3, 224, 224)).values()) == spec.macs
    else:
        params, macs = closed_form(model.config(), 64)
        assert sum(parameter.size for parameter in model.parameters()) == params
        assert sum(count_macs(model, (3, 64, 64)).values()) == macs
    logits, stages = compare.differences(model, spec)
    assert max(stages) < 1e-4, f"features differ by {stages}"
    assert logits < 2e-5


def split(restarts: bool, counts_padding: bool = True, stride: int = 1) -> SplitConvolution:
    """Return three parts of one channel, whose convolutions take the sum of their window."""
    layer = SplitConvolution(1, 3, stride, 1, restarts, counts_padding)
    for conv in layer.convs:
        conv.conv.weight.set_value(paddle.ones([1, 1, 3, 3]))
    layer.eval()
    return layer


def test_a_part_is_added_to_the_one_before_it():
    """On constant maps of 1, 10 and 100 an inner pixel has 9 x 1, 9 x (10 + 9), and 100 as it is."""
    x = paddle.to_tensor([1.0, 10.0, 100.0]).reshape([1, 3, 1, 1]).expand([1, 3, 5, 5])
    with paddle.no_grad():
        added, alone = split(False)(x).numpy()[0], split(True)(x).numpy()[0]
    scale = 1 / np.sqrt(1 + 1e-5)  # of a BatchNorm as it begins
    np.testing.assert_allclose(added[:, 2, 2], [9 * scale, 9 * (10 + 9 * scale) * scale, 100], rtol=1e-6)
    np.testing.assert_allclose(alone[:, 2, 2], [9 * scale, 90 * scale, 100], rtol=1e-6)


@pytest.mark.parametrize(("counts_padding", "corner"), [(True, 100 * 4 / 9), (False, 100)])
def test_what_the_pooling_counts(counts_padding, corner):
    """At a corner five of nine pixels are padding."""
    with paddle.no_grad():
        out = split(True, counts_padding, stride=2)(paddle.full([1, 3, 4, 4], 100.0)).numpy()[0, 2]
    assert out.shape == (2, 2)
    np.testing.assert_allclose([out[0, 0], out[1, 1]], [corner, 100], rtol=1e-6)


def test_the_forms_share_weights_and_differ_in_the_results():
    """In stage 0 by the first block, where PaddleClas adds the parts; the argument's default is the name's own."""
    spec = registry.get_spec("Res2Net50_26w_4s")
    sizes = {"depths": [1, 1, 1, 1], "planes": [16, 32, 64, 128]}
    models = {form: compare.fill(spec.factory(form=form, **sizes)) for form in ("official", "paddleclas")}
    assert spec.factory(**sizes).config()["form"] == "paddleclas"
    assert registry.get_spec("Res2Net50_26w_8s").factory.arguments["form"] == "official"
    states = [model.state_dict() for model in models.values()]
    assert list(states[0]) == list(states[1])
    maps = [compare.run(model, rule.images(64))[1][0] for model in models.values()]
    assert np.abs(maps[0] - maps[1]).max() > 0.1


def test_left_siblings():
    """Of a tree of eight leaves: the last closes the whole tree, and with it three subtrees."""
    assert [left_siblings(leaf) for leaf in range(8)] == [[], [0], [], [1, 2], [], [4], [], [3, 5, 6]]


def big_little_stage() -> BigLittleStage:
    """Return a stage of one channel: the little branch passes its input on, the big one takes every other pixel."""
    stage = BigLittleStage([nn.Identity()], [nn.MaxPool2D(1, 2), nn.Identity()], 1, 1)
    stage.expand.conv.weight.set_value(paddle.ones([1, 1, 1, 1]))
    stage.eval()
    return stage


@pytest.mark.parametrize("side", [4, 5])
def test_the_branches_of_a_stage_meet_pixel_by_pixel(side):
    """Each pixel of the big branch stands for the four (fewer at an odd edge) that it came from; then ReLU."""
    x = np.arange(side * side, dtype=np.float32).reshape(1, 1, side, side) - 7
    with paddle.no_grad():
        out = big_little_stage()(paddle.to_tensor(x)).numpy()[0, 0]
    for row in range(side):
        for column in range(side):
            corner = x[0, 0, row - row % 2, column - column % 2]
            expected = max(x[0, 0, row, column] / np.sqrt(1 + 1e-5) + corner, 0)
            np.testing.assert_allclose(out[row, column], expected, rtol=1e-5, atol=1e-5)


def test_what_a_big_little_net_is_made_of():
    """Width and blocks of the little branch, and where the resolution halves."""
    model = registry.factories()["BigLittleRes2Net"](
        depths=[2, 9, 2], planes=[16, 32, 64], alpha=4, beta=3, base_width=32, class_num=3
    )
    assert [len(stage.little) for stage in model.stages[:2]] == [1, 2]
    assert model.stages[1].little[0].conv3.conv.weight.shape[0] == 4 * 32 // 4
    assert model.stage_strides == [8, 8, 16] and model.stage_channels == [64, 128, 256]
    maps = model.extract_features(paddle.zeros([1, 3, 33, 47]))
    assert [map_.shape[2:] for map_ in maps] == [[5, 6], [5, 6], [3, 3]]


def test_wrong_arguments():
    factories = registry.factories()
    with pytest.raises(ValueError, match=r"depths must be of two stages or more, .*: \[3, 1, 3\]"):
        factories["BigLittleRes2Net"](depths=[3, 1, 3], planes=[8, 8, 8])
    with pytest.raises(ValueError, match=r"planes must be multiples of alpha = 3, got \[64, 128, 256, 512\]"):
        factories["BigLittleRes2Net"](alpha=3)
    with pytest.raises(ValueError, match="scale must be at least 2, got 1"):
        factories["Res2Net"](scale=1)
    with pytest.raises(ValueError, match="base_width 1 leaves no channel to a group when planes is 8"):
        factories["Res2Net"](planes=[8, 8, 8, 8], base_width=1)
    with pytest.raises(ValueError, match="base_width 1 leaves no channel to a part of 64 channels"):
        factories["Res2NetDLA"](channels=[8, 8, 64, 64, 64, 64], base_width=1)
    with pytest.raises(TypeError, match="use_se must be True or False, got 'yes'"):
        factories["Res2Net"](use_se="yes")
    with pytest.raises(ValueError, match="form must be one of official, paddleclas; got 'oficial', did you mean off"):
        factories["Res2Net"](form="oficial")
