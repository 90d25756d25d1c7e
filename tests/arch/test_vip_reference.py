"""Vision Permutator against the reference implementation: counts, logits, features, gradients, initial values."""

import compare
import numpy as np
import paddle
import pytest
import rule
from scipy import stats

from ppcls_ext import registry
from ppcls_ext.analysis.macs import count_macs

VIPS = [spec for spec in registry.specs() if spec.family == "VisionPermutator"]
GOLDEN = compare.FOLDERS["VisionPermutator"]
COMPAT = {"ViP_Small_7", "ViP_Small_7_unweighted"}
# Small_7 with options that no official model has; the golden files come from a plain module.
OPTIONS = {
    "height_is_channel": {"height_branch": "channel"},
    "width_is_channel": {"width_branch": "channel", "weighted": False},
    "biases_and_skip_lam": {"qkv_bias": True, "skip_lam": 2.0},
}


def closed_form_params(config: dict) -> int:
    """Parameters of a weighted or plain model without biases in the branches, from the arguments alone."""
    dims = config["embed_dims"]
    total = 3 * config["patch_size"] ** 2 * dims[0] + dims[0]
    for stage, (depth, c) in enumerate(zip(config["depths"], dims)):
        halved = stage > 0 and config["transitions"][stage - 1]
        if halved or dims[max(stage - 1, 0)] != c:
            total += (4 if halved else 1) * dims[stage - 1] * c + c
        branches_and_proj = 4 * c * c + c
        reweight = (c * c // 4 + c // 4) + (3 * c * c // 4 + 3 * c) if config["weighted"] else 0
        mlp_and_norms = 6 * c * c + 4 * c + 4 * c
        total += depth * (branches_and_proj + reweight + mlp_and_norms)
    return total + 2 * dims[-1] + 1000 * dims[-1] + 1000


def closed_form_macs(config: dict, size: int) -> int:
    """Multiply-adds by the formulas of the paper; H S and W S are the widths of the layers along height and width."""
    stride = config["patch_size"] * 2 ** sum(config["transitions"])
    side = -(-size // stride) * stride // config["patch_size"]
    total = side * side * config["patch_size"] ** 2 * 3 * config["embed_dims"][0]
    for stage, (depth, c) in enumerate(zip(config["depths"], config["embed_dims"])):
        before = config["embed_dims"][max(stage - 1, 0)]
        if stage and config["transitions"][stage - 1]:
            side //= 2
            total += side * side * 4 * before * c
        elif before != c:
            total += side * side * before * c
        along = side * c // config["segments"][stage]
        tokens = side * side * (2 * c * along + 2 * c * c + 6 * c * c)
        total += depth * (tokens + (c * c if config["weighted"] else 0))
    return total + config["embed_dims"][-1] * 1000


@pytest.mark.sampled
@pytest.mark.parametrize(
    "spec", [pytest.param(s, id=s.name, marks=[pytest.mark.compat] if s.name in COMPAT else []) for s in VIPS]
)
def test_equals_the_reference(spec):
    """Parameters, MACs, strides, channels, logits and every stage's features, on the same weights."""
    paddle.seed(0)
    model = spec.factory()
    params, gmacs, channels, strides = compare.COUNTS[spec.name].values()
    assert sum(p.size for p in model.parameters()) == spec.params == params == closed_form_params(model.config())
    assert round(spec.macs / 1e9, 2) == gmacs
    assert spec.macs == closed_form_macs(model.config(), 224)
    assert [row["channels"] for row in model.feature_info] == channels
    assert [row["stride"] for row in model.feature_info] == strides
    logits, stages = compare.differences(model, spec)
    assert max(stages) < 1e-4, f"features differ by {stages}"
    assert logits < 2e-5
    for size in (224, 61):
        assert sum(count_macs(model, (3, size, size)).values()) == closed_form_macs(model.config(), size)


@pytest.mark.sampled
@pytest.mark.parametrize("name", OPTIONS)
def test_options_equal_the_reference(name):
    """The paper's ablations, biases and the residual divisor, against a module written from Algorithm 1."""
    spec = registry.get_spec("ViP_Small_7")
    model = compare.fill(spec.factory(depths=[1, 1, 2, 1], **OPTIONS[name]))
    logits, features = compare.run(model, rule.images(224))
    golden = np.load(GOLDEN / f"{name}.npz")
    for i, map_ in enumerate(features):
        np.testing.assert_allclose(rule.summary(map_), golden[f"stage {i}"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=2e-5)


@pytest.mark.compat
def test_gradients_equal_the_reference():
    """Norm and elements of the gradient of every parameter of ViP_Small_7, relative 1e-4."""
    spec = registry.get_spec("ViP_Small_7")
    model = spec.factory()
    assert len(model.parameters()) == len(model.state_dict()) == 314
    compare.check_gradients(model, spec)


@pytest.mark.parametrize(
    "name, tensors", [("ViP_Small_14", 312), ("ViP_Small_7", 314), ("ViP_Medium_7", 416), ("ViP_Large_7", 620)]
)
def test_tensor_counts(name, tensors):
    """17 tensors a block, two for stem, final norm, head and each downsampling, as in the published checkpoints."""
    assert len(registry.get_spec(name).factory(embed_dims=[64] * 4).state_dict()) == tensors


@pytest.fixture(scope="module")
def initial_values():
    paddle.seed(2106)
    return compare.initial_values(registry.get_spec("ViP_Small_7").factory())


@pytest.mark.compat
def test_initial_values_are_distributed_as_the_references(initial_values):
    """Two-sample Kolmogorov-Smirnov test of every kind of parameter against draws of the official code."""
    compare.check_initial_values(initial_values, "VisionPermutator")


def test_initial_values_have_the_stated_distributions(initial_values):
    """One-sample test on up to 100,000 values: normal, not cut off at two deviations, and PyTorch's convolution."""
    stem, down = (1 / np.sqrt(fan_in) for fan_in in (3 * 7 * 7, 192 * 2 * 2))
    stated = {
        "stages.blocks.attn.mlp_h.weight 384": stats.norm(0, 0.02),
        "stages.blocks.attn.mlp_c.weight 192": stats.norm(0, 0.02),
        "stages.blocks.attn.reweight.fc2.weight 96": stats.norm(0, 0.02),
        "head.weight 384": stats.norm(0, 0.02),
        "stem.proj.weight 147": stats.uniform(-stem, 2 * stem),
        "stages.downsample.down.weight 768": stats.uniform(-down, 2 * down),
    }
    for kind, distribution in stated.items():
        assert stats.kstest(initial_values[kind][:100_000], distribution.cdf).pvalue > 1e-3, kind
    for kind in ("head.bias 1000", "stages.blocks.mlp.fc1.bias 1152", "norm.bias 384"):
        assert np.all(initial_values[kind] == 0), kind
    assert np.all(initial_values["norm.weight 384"] == 1)
