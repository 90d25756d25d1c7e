"""DilateFormer against the official implementation: counts, logits, features, gradients, initial values."""

import compare
import numpy as np
import paddle
import pytest
import rule
from scipy import stats

from ppcls_ext import registry
from ppcls_ext.analysis.macs import count_macs
from ppcls_ext.arch.layers.dilated_attention import DilatedAttention

DILATEFORMERS = [spec for spec in registry.specs() if spec.family == "DilateFormer"]
COMPAT = {"DilateFormer_Tiny"}


def closed_form_macs(config: dict, height: int, width: int) -> int:
    """Multiply-adds by the formulas of the paper, from the arguments alone; a stride of 2 rounds up."""
    c = config["embed_dim"]
    sizes = [(height, width)]
    while len(sizes) < 2 + len(config["depths"]):
        sizes.append(tuple((side + 1) // 2 for side in sizes[-1]))
    full, half, *maps = [h * w for h, w in sizes]
    total = full * 9 * 3 * 16 + half * 9 * (16 * 32 + 32 * 64) + maps[0] * 9 * 64 * c
    for stage, (depth, pixels) in enumerate(zip(config["depths"], maps)):
        if stage:
            total += pixels * 9 * c * 2 * c
            c *= 2
        keys = config["kernel_size"] ** 2 if config["dilate_attention"][stage] else pixels
        linear = 3 * c * c + c * c + 2 * int(config["mlp_ratio"] * c) * c
        total += depth * pixels * (9 * c + linear + 2 * keys * c)
    return total + c * 1000


@pytest.mark.sampled
@pytest.mark.parametrize(
    "spec", [pytest.param(s, id=s.name, marks=[pytest.mark.compat] if s.name in COMPAT else []) for s in DILATEFORMERS]
)
def test_equals_the_reference(spec):
    """Parameters, MACs, logits and every stage's features, on the same weights."""
    paddle.seed(0)
    model = spec.factory()
    params, gmacs = compare.COUNTS[spec.name].values()
    assert sum(p.size for p in model.parameters()) == spec.params == params
    assert round(spec.macs / 1e9, 2) == gmacs
    native = spec.preprocessing.input_size[1]
    assert spec.macs == closed_form_macs(model.config(), native, native)
    assert sum(count_macs(model, (3, 40, 29)).values()) == closed_form_macs(model.config(), 40, 29)
    logits, stages = compare.differences(model, spec)
    assert max(stages) < 1e-4, f"features differ by {stages}"
    assert logits < 2e-5


@pytest.fixture(scope="module")
def golden():
    return np.load(compare.FOLDERS["DilateFormer"] / "DilateFormer_Tiny.npz")


@pytest.mark.compat
def test_gradients_equal_the_reference():
    """Norm and elements of the gradient of every parameter of DilateFormer_Tiny, relative 1e-4."""
    spec = registry.get_spec("DilateFormer_Tiny")
    model = spec.factory()
    assert len(model.parameters()) == 194
    assert len(model.state_dict()) == 206, "and the running statistics of 6 BatchNorms"
    compare.check_gradients(model, spec)


def test_training_mode_equals_the_reference(golden):
    """Logits with batch statistics, and the running statistics after that step.

    PyTorch keeps a running variance with n - 1 in the denominator, Paddle with n.
    """
    model = compare.fill(registry.get_spec("DilateFormer_Tiny").factory())
    model.train()
    images = rule.images(64, batch=4)
    with paddle.no_grad():
        logits = model(paddle.to_tensor(images)).numpy()
    np.testing.assert_allclose(logits, golden["training logits"], atol=2e-5)
    norm = model.stem.proj[1]
    np.testing.assert_allclose(norm._mean.numpy(), golden["stem mean"], atol=1e-6)
    before = rule.parameter("stem.proj.1._variance", (16,))
    seen = (golden["stem variance"] - 0.9 * before) / 0.1
    pixels = images[:, 0].size
    expected = 0.9 * before + 0.1 * seen * (pixels - 1) / pixels
    np.testing.assert_allclose(norm._variance.numpy(), expected, rtol=1e-5)


@pytest.fixture(scope="module")
def initial_values():
    paddle.seed(2302)
    model = registry.get_spec("DilateFormer_Tiny").factory()
    dilated = {f"{name}.qkv" for name, layer in model.named_sublayers() if isinstance(layer, DilatedAttention)}

    def rename(name: str) -> str:
        return name.replace("qkv", "dilated qkv" if name.rpartition(".")[0] in dilated else "global qkv")

    return compare.initial_values(model, rename)


@pytest.mark.compat
def test_initial_values_are_distributed_as_the_references(initial_values):
    """Two-sample Kolmogorov-Smirnov test of every kind of parameter against draws of the official code."""
    compare.check_initial_values(initial_values, "DilateFormer")


def test_initial_values_have_the_stated_distributions(initial_values):
    """One-sample test against the distributions that the official code's calls name, on up to 100,000 values."""

    def within(fan_in: int):
        return stats.uniform(-(fan_in**-0.5), 2 * fan_in**-0.5)

    stated = {
        "stem.proj.weight 27": within(27),
        "stages.blocks.cpe.weight 9": within(9),
        "stages.blocks.cpe.bias 288": within(9),
        "stages.downsample.conv.weight 648": within(648),
        "stages.blocks.attn.dilated qkv.weight 72": within(72),
        "stages.blocks.attn.dilated qkv.bias 216": within(72),
        "stages.blocks.attn.global qkv.weight 288": stats.norm(0, 0.02),
        "stages.blocks.mlp.fc2.weight 2304": stats.norm(0, 0.02),
        "head.weight 576": stats.norm(0, 0.02),
    }
    for kind, distribution in stated.items():
        assert stats.kstest(initial_values[kind][:100_000], distribution.cdf).pvalue > 1e-3, kind
    assert np.all(initial_values["head.bias 1000"] == 0)
    assert np.all(initial_values["norm.weight 576"] == 1)
