"""ViT against timm and PaddleClas: counts, logits, features, gradients, initial values."""

import importlib

import compare
import numpy as np
import paddle
import pytest
import rule
from scipy import stats

from ppcls_ext import registry
from ppcls_ext.analysis.macs import count_macs

VITS = [spec for spec in registry.specs() if spec.family == "ViT"]
COMPAT = {"ViT_S_32_224"}
PADDLECLAS = [
    *("ViT_small_patch16_224", "ViT_base_patch16_224", "ViT_base_patch16_384", "ViT_base_patch32_384"),
    *("ViT_large_patch16_224", "ViT_large_patch16_384", "ViT_large_patch32_384"),
]


def closed_form(config: dict, height: int, width: int) -> tuple:
    """Parameters and multiply-adds by the formulas of the paper, from the arguments alone."""
    c, p, depth = config["embed_dim"], config["patch_size"], sum(config["depths"])
    hidden = int(config["mlp_ratio"] * c)
    block = 4 * c + 4 * c * c + c + (3 * c if config["qkv_bias"] else 0) + 2 * c * hidden + hidden + c
    native = (config["img_size"] // p) ** 2 + 1
    params = 3 * p * p * c + c + c + native * c + depth * block + 2 * c + 1000 * c + 1000
    patches = (height // p) * (width // p)
    tokens = patches + 1
    macs = depth * (tokens * (4 * c * c + 2 * c * hidden) + 2 * tokens * tokens * c)
    return params, patches * 3 * p * p * c + macs + 1000 * c


@pytest.mark.sampled
@pytest.mark.parametrize(
    "spec", [pytest.param(s, id=s.name, marks=[pytest.mark.compat] if s.name in COMPAT else []) for s in VITS]
)
def test_equals_timm(spec):
    """Parameters, MACs, logits and features after each group of blocks; L and H with four blocks of full width."""
    params, gmacs = compare.COUNTS[spec.name].values()
    assert spec.params == params and round(spec.macs / 1e9, 2) == gmacs
    native = spec.preprocessing.input_size[1]
    assert (spec.params, spec.macs) == closed_form(spec.factory.arguments, native, native)
    paddle.seed(0)
    model = spec.factory(**compare.arguments(spec))
    patch = model.stage_strides[0]
    params, macs = closed_form(model.config(), 3 * patch, 2 * patch)
    assert sum(p.size for p in model.parameters()) == params
    assert sum(count_macs(model, (3, 3 * patch, 2 * patch)).values()) == macs
    logits, stages = compare.differences(model, spec)
    assert max(stages) < 1e-4, f"features differ by {stages}"
    assert logits < 2e-5


def paddleclas_name(name: str, depths: list) -> str:
    """Return PaddleClas's name of a parameter of ours."""
    parts = name.split(".")
    if parts[0] == "stages":
        return ".".join(["blocks", str(sum(depths[: int(parts[1])]) + int(parts[3])), *parts[4:]])
    return name.replace("stem.proj", "patch_embed.proj").replace("stem.", "")


@pytest.mark.sampled
@pytest.mark.parametrize("name", PADDLECLAS)
def test_equals_paddleclas(name):
    """Its own model takes all our weights, and no others, and gives the same logits; L with four blocks."""
    pytest.importorskip("paddleclas", reason="PaddleClas is not installed")
    module = importlib.import_module("paddleclas.ppcls.arch.backbone.model_zoo.vision_transformer")
    spec = registry.get_spec(name)
    paddle.seed(0)
    ours = spec.factory(**compare.arguments(spec))
    for parameter in [ours.stem.cls_token, *ours.head.parameters()]:  # which are 0 in the beginning
        parameter.set_value(0.03 * paddle.randn(parameter.shape))  # logits have a standard deviation of about 1
    size, depths = spec.preprocessing.input_size[1], ours.config()["depths"]
    if "large" in name:
        theirs = module.VisionTransformer(
            img_size=size,
            patch_size=ours.config()["patch_size"],
            embed_dim=1024,
            depth=4,
            num_heads=16,
            qkv_bias=True,
            epsilon=1e-6,
        )
    else:
        theirs = getattr(module, name)()
    state = {paddleclas_name(key, depths): value for key, value in ours.state_dict().items()}
    missing, unexpected = theirs.set_state_dict(state)
    assert not missing and not unexpected
    ours.eval()
    theirs.eval()
    with paddle.no_grad():
        images = paddle.to_tensor(rule.images(size))
        np.testing.assert_allclose(ours(images).numpy(), theirs(images).numpy(), rtol=0, atol=1e-5)


@pytest.mark.compat
def test_gradients_equal_timm():
    """Norm and elements of the gradient of every parameter of ViT_S_32_224, relative 1e-4."""
    spec = registry.get_spec("ViT_S_32_224")
    model = spec.factory()
    assert len(model.parameters()) == 152
    compare.check_gradients(model, spec)


@pytest.mark.compat
def test_the_form_of_the_original_for_pre_training():
    """GELU by tanh, and a tanh layer before the classifier."""
    spec = registry.get_spec("ViT_S_32_224")
    model = compare.fill(spec.factory(activation="gelu_tanh", representation_size=384))
    logits, features = compare.run(model, rule.images(224))
    golden = np.load(compare.FOLDERS["ViT"] / "original.npz")
    assert np.abs(logits - golden["logits"]).max() < 2e-5
    for i, map_ in enumerate(features):
        assert np.abs(rule.summary(map_) - golden[f"stage {i}"]).max() < 1e-4


def test_initial_values_have_the_stated_distributions():
    """One-sample tests against the distributions of the JAX code; 0 and 1 where it says so."""
    paddle.seed(2010)
    model = registry.get_spec("ViT_S_32_224").factory(depths=[1, 1, 1, 1])
    block = model.stages[1].blocks[0]

    def uniform(bound):
        return stats.uniform(-bound, 2 * bound)

    stated = [
        (block.attn.qkv.weight, uniform(np.sqrt(6 / (384 + 384)))),
        (block.attn.proj.weight, uniform(np.sqrt(6 / (384 + 384)))),
        (block.mlp.fc1.weight, uniform(np.sqrt(6 / (384 + 1536)))),
        (block.mlp.fc2.weight, uniform(np.sqrt(6 / (384 + 1536)))),
        (block.mlp.fc2.bias, stats.norm(0, 1e-6)),
        (model.stem.pos_embed, stats.norm(0, 0.02)),
        (model.stem.proj.weight, stats.truncnorm(-2, 2, scale=1 / np.sqrt(3 * 32 * 32) / 0.87962566103423978)),
    ]
    for parameter, distribution in stated:
        assert stats.kstest(parameter.numpy().reshape(-1)[:100_000], distribution.cdf).pvalue > 1e-3, parameter.name
    for parameter in (*model.head.parameters(), model.stem.cls_token, model.stem.proj.bias, block.attn.qkv.bias):
        assert np.all(parameter.numpy() == 0)
    assert np.all(model.norm.weight.numpy() == 1)
    other = registry.get_spec("ViT_S_32_224").factory(depths=[1, 1, 1, 1], init="trunc_normal")
    for parameter in (other.head.weight, other.stages[0].blocks[0].attn.qkv.weight, other.stem.pos_embed):
        distribution = stats.truncnorm(-2, 2, scale=0.02)
        assert stats.kstest(parameter.numpy().reshape(-1)[:100_000], distribution.cdf).pvalue > 1e-3
