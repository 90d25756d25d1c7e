"""MLP-Mixer against timm: counts, logits, features, gradients, initial values; JAX checkpoints; other image sizes."""

import gzip
import json

import compare
import numpy as np
import paddle
import pytest
import rule
from families import GOLDEN, facts
from paddle.nn import functional as F

import ppcls_ext
from ppcls_ext import registry
from ppcls_ext.analysis.macs import count_macs
from ppcls_ext.arch.backbone.mlp_mixer import FromTokens, TokenMixing, ToTokens
from ppcls_ext.weights.conversion import convert_file

MIXERS = [spec for spec in registry.specs() if spec.family == "MLPMixer"]
COMPAT = facts("MLPMixer").compat


def closed_form(config: dict, size: int) -> tuple:
    """Return parameters and multiply-adds by Table 1 of the paper, from the arguments alone."""
    patch, dim, blocks = config["patch_size"], config["embed_dim"], sum(config["depths"])
    tokens, native = (size // patch) ** 2, (config["img_size"] // patch) ** 2
    of_tokens, of_channels = config["tokens_mlp_dim"], config["channels_mlp_dim"]
    block = 2 * 2 * dim + 2 * native * of_tokens + of_tokens + native + 2 * dim * of_channels + of_channels + dim
    params = (3 * patch**2 + 1) * dim + blocks * block + 2 * dim + (dim + 1) * 1000
    macs = tokens * 3 * patch**2 * dim + blocks * 2 * tokens * dim * (of_tokens + of_channels) + dim * 1000
    return params, macs


@pytest.mark.sampled
@pytest.mark.parametrize(
    "spec", [pytest.param(s, id=s.name, marks=[pytest.mark.compat] if s.name in COMPAT else []) for s in MIXERS]
)
def test_equals_timm(spec):
    """Parameters, MACs, logits and features after each group of blocks; L with four blocks of full width."""
    params, gmacs = compare.COUNTS[spec.name].values()
    assert (spec.params, spec.macs) == closed_form(spec.factory.arguments, 224)
    assert spec.params == params and round(spec.macs / 1e9, 2) == gmacs
    paddle.seed(0)
    model = spec.factory(**compare.arguments(spec))
    native, side = closed_form(model.config(), 224), 4 * model.stage_strides[0]
    assert sum(p.size for p in model.parameters()) == native[0]
    assert sum(count_macs(model, (3, side, side)).values()) == closed_form(model.config(), side)[1]
    logits, stages = compare.differences(model, spec)
    assert max(stages) < 1e-4, f"features differ by {stages}"
    assert logits < 2e-5


@pytest.mark.compat
def test_gradients_equal_timms():
    spec = registry.get_spec("Mixer_S_32_224")
    compare.check_gradients(spec.factory(), spec)


def test_initial_values_are_distributed_as_flaxs():
    """timm draws them as the official code does if it is told so."""
    paddle.seed(2105)
    compare.check_initial_values(compare.initial_values(registry.get_spec("Mixer_S_32_224").factory()), "MLPMixer")


def test_logits_of_a_converted_jax_checkpoint(tmp_path):
    """Flax's kernels are [in, out] and [height, width, in, out]; filled by the rule they give timm's logits."""
    keys = json.loads(gzip.decompress((GOLDEN / "keys" / "mlp_mixer_jax.json.gz").read_bytes()))["Mixer_S_32_224"]
    arrays = {}
    for key, (name, shape, _) in keys.items():
        if len(shape) == 4:  # from PyTorch's [out, in, height, width]
            arrays[key] = rule.parameter(name, (shape[3], shape[2], *shape[:2])).transpose(2, 3, 1, 0)
        else:
            arrays[key] = rule.parameter(name, tuple(shape[::-1])).T
    np.savez(tmp_path / "in.npz", **arrays)
    assert convert_file("Mixer_S_32_224", tmp_path / "in.npz", tmp_path / "out.pdparams").layout == "jax"
    model = ppcls_ext.create_backbone("Mixer_S_32_224", pretrained=str(tmp_path / "out"))
    model.eval()
    with paddle.no_grad():
        logits = model(paddle.to_tensor(rule.images(224))).numpy()
    expected = compare.golden(registry.get_spec("Mixer_S_32_224"))["logits"]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5)


def test_resampled_weights_keep_what_the_layers_mean():
    """On a finer grid the sum over the tokens keeps its scale, and what is written to them is interpolated."""
    paddle.seed(0)
    inward, outward = FromTokens((4, 4), 6), ToTokens(6, (4, 4))
    smooth = paddle.ones([2, 4, 4]) * paddle.linspace(0, 1, 4)
    fine = F.interpolate(smooth.unsqueeze(0), size=[8, 8], mode="bicubic").squeeze(0)
    inward.weight.set_value(paddle.ones_like(inward.weight) / 16)  # a mean
    mean = inward(smooth.flatten(1), [4, 4])
    np.testing.assert_allclose(inward(fine.flatten(1), [8, 8]).numpy(), mean.numpy(), atol=1e-2)
    coarse = outward(mean, [4, 4]).reshape([1, 2, 4, 4])
    expected = F.interpolate(coarse, size=[8, 8], mode="bicubic").flatten(2).squeeze(0)
    np.testing.assert_allclose(outward(mean, [8, 8]).numpy(), expected.numpy(), atol=1e-5)


def test_tokens_are_mixed_for_each_channel_alone():
    mixing = TokenMixing((3, 4), 5, "gelu", 0.0)
    x = paddle.randn([1, 3, 4, 6])
    changed = x.clone()
    changed[:, 1, 2, 3] += 1.0
    with paddle.no_grad():
        reached = np.abs((mixing(x) - mixing(changed)).numpy()).max(axis=(0, 1, 2)) > 1e-7
    assert reached.tolist() == [channel == 3 for channel in range(6)]
