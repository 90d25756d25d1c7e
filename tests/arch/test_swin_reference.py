"""Swin against timm and PaddleClas: counts, logits, features, gradients, initial values."""

import importlib

import compare
import numpy as np
import paddle
import pytest
import rule
from scipy import stats

from ppcls_ext import registry
from ppcls_ext.analysis.macs import count_macs

SWINS = [spec for spec in registry.specs() if spec.family == "SwinTransformer"]
GOLDEN = [spec for spec in SWINS if not spec.name.endswith("_22k")]  # those differ in the classifier alone
TINY = "SwinTransformer_tiny_patch4_window7_224"


def closed_form(config: dict, height: int, width: int) -> tuple:
    """Parameters and multiply-adds by the formulas of the paper, from the arguments alone; padding is work too."""
    c, patch, window, classes = (config[key] for key in ("embed_dim", "patch_size", "window_size", "class_num"))
    sides = [-(-side // patch) for side in (height, width)]
    params = 3 * patch * patch * c + c + 2 * c
    macs = sides[0] * sides[1] * 3 * patch * patch * c
    for stage, (depth, heads) in enumerate(zip(config["depths"], config["num_heads"])):
        if stage:
            sides = [(side + 1) // 2 for side in sides]
            params += 2 * 4 * c + 4 * c * 2 * c
            macs += sides[0] * sides[1] * 4 * c * 2 * c
            c *= 2
        hidden = int(config["mlp_ratio"] * c)
        table = (2 * window - 1) ** 2 * heads
        params += depth * (4 * c + table + 3 * c * c + 3 * c + c * c + c + 2 * c * hidden + hidden + c)
        padded = [-(-side // window) * window for side in sides]
        attention = padded[0] * padded[1] * (4 * c * c + 2 * window * window * c)
        macs += depth * (attention + sides[0] * sides[1] * 2 * c * hidden)
    return params + 2 * c + c * classes + classes, macs + c * classes


@pytest.mark.parametrize("spec", SWINS, ids=lambda spec: spec.name)
def test_published_figures(spec):
    params, gmacs = compare.COUNTS[spec.name].values()
    native = spec.preprocessing.input_size[1]
    assert (spec.params, spec.macs) == closed_form(spec.factory.arguments, native, native)
    assert spec.params == params and round(spec.macs / 1e9, 2) == gmacs


@pytest.mark.sampled
@pytest.mark.parametrize(
    "spec", [pytest.param(s, id=s.name, marks=[pytest.mark.compat] if s.name == TINY else []) for s in GOLDEN]
)
def test_equals_timm(spec):
    """Parameters, MACs, logits and features of each stage; B at 384 and L with two blocks per stage of full width."""
    paddle.seed(0)
    model = spec.factory(**compare.arguments(spec))
    params, macs = closed_form(model.config(), 39, 70)
    assert sum(p.size for p in model.parameters()) == params
    assert sum(count_macs(model, (3, 39, 70)).values()) == macs
    logits, stages = compare.differences(model, spec)
    assert max(stages) < 1e-4, f"features differ by {stages}"
    assert logits < 2e-5


def paddleclas_name(name: str) -> str:
    """Return PaddleClas's name of a parameter of ours: a stage ends there with the merging that begins one here."""
    parts = name.replace("stem.", "patch_embed.").replace("stages.", "layers.").split(".")
    if len(parts) > 2 and parts[2] == "downsample":
        parts[1] = str(int(parts[1]) - 1)
    return ".".join(parts)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "name, sizes",
    [
        (TINY, [(224, 224), (200, 204)]),
        ("SwinTransformer_small_patch4_window7_224", [(224, 224)]),
        ("SwinTransformer_base_patch4_window7_224", [(224, 224)]),
        ("SwinTransformer_base_patch4_window12_384", [(384, 384)]),
        ("SwinTransformer_large_patch4_window7_224", [(224, 224)]),
    ],
)
def test_equals_paddleclas(name, sizes):
    """Its own model takes all our weights, and no others, and gives the same logits, also where maps are padded.

    B at 384 and L have two blocks per stage; L at 384 is L with the windows of B at 384. The form is PaddleClas's: its
    last stage is shifted.
    """
    pytest.importorskip("paddleclas", reason="PaddleClas is not installed")
    module = importlib.import_module("paddleclas.ppcls.arch.backbone.legendary_models.swin_transformer")
    spec = registry.get_spec(name)
    shallow = compare.arguments(spec)
    paddle.seed(0)
    ours = spec.factory(always_shift=True, **shallow)
    if shallow:
        config = {key: ours.config()[key] for key in ("img_size", "embed_dim", "num_heads", "window_size")}
        theirs = module.SwinTransformer(depths=shallow["depths"], **config)
    else:
        theirs = getattr(module, name)()
    for parameter in ours.parameters():
        if parameter.name.startswith("window_attention"):  # the tables: too small in the beginning to tell anything
            parameter.set_value(paddle.randn(parameter.shape))
    state = {paddleclas_name(key): value for key, value in ours.state_dict().items()}
    missing, unexpected = theirs.set_state_dict(state)
    assert all(key.endswith(".relative_position_index") for key in missing) and not unexpected
    ours.eval()
    theirs.eval()
    with paddle.no_grad():
        for height, width in sizes:
            images = paddle.to_tensor(rule.unit("images", (1, 3, height, width)))
            np.testing.assert_allclose(ours(images).numpy(), theirs(images).numpy(), rtol=0, atol=1e-5)


@pytest.mark.compat
def test_gradients_equal_timm():
    """Norm and elements of the gradient of every parameter of Swin-T, relative 1e-4."""
    model = compare.fill(registry.get_spec(TINY).factory())
    logits = model(paddle.to_tensor(rule.images(224)))
    (logits * paddle.to_tensor(rule.unit(rule.LOSS, tuple(logits.shape)))).sum().backward()
    golden = np.load(compare.FOLDERS["SwinTransformer"] / f"{TINY}.npz")["gradients"]
    parameters = dict(model.named_parameters())
    assert len(parameters) == len(golden) == len(model.state_dict()) == 173
    for name, expected in zip(sorted(parameters), golden):
        gradient = parameters[name].grad.numpy()
        actual = rule.gradient_summary(gradient.T if compare.is_transposed(name, parameters[name]) else gradient)
        rms = expected[0] / np.sqrt(gradient.size)
        assert abs(actual[0] - expected[0]) <= 1e-4 * expected[0], name
        assert np.all(np.abs(actual[1:] - expected[1:]) <= 1e-4 * np.maximum(np.abs(expected[1:]), rms)), name


def test_initial_values_have_the_stated_distributions():
    """One-sample tests against the distributions of the official code; 0 and 1 where it says so."""
    paddle.seed(2103)
    model = registry.get_spec(TINY).factory(depths=[1, 2, 1, 1])
    block = model.stages[1].blocks[1]
    normal = stats.norm(0, 0.02)
    bound = 1 / np.sqrt(3 * 4 * 4)
    stated = [
        *((layer.weight, normal) for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2)),
        (block.attn.relative_position_bias_table, normal),
        (model.stages[2].downsample.reduction.weight, normal),
        (model.head.weight, normal),
        (model.stem.proj.weight, stats.uniform(-bound, 2 * bound)),
        (model.stem.proj.bias, stats.uniform(-bound, 2 * bound)),
    ]
    for parameter, distribution in stated:
        assert stats.kstest(parameter.numpy().reshape(-1)[:100_000], distribution.cdf).pvalue > 1e-3, parameter.name
    for parameter in (model.head.bias, block.attn.qkv.bias, block.mlp.fc2.bias):
        assert np.all(parameter.numpy() == 0)
    assert np.all(model.norm.weight.numpy() == 1)
