"""ResNet and ResNeXt against torchvision: counts, logits, features, a step of training, initial values."""

import compare
import numpy as np
import paddle
import pytest
import rule
from paddle import nn
from scipy import stats

from ppcls_ext import registry
from ppcls_ext.analysis.macs import count_macs

RESNETS = [spec for spec in registry.specs() if spec.family == "ResNet"]
COMPAT = {"ResNet18", "ResNeXt50_32x4d"}
#: What PaddleClas's projection in the first block of basic networks adds: a 1 x 1 convolution and its BatchNorm.
PROJECTION = 64 * 64 + 2 * 64


def closed_form(config: dict, size: int) -> tuple:
    """Return parameters and multiply-adds by the papers' tables, from the arguments alone."""
    widths, cardinality = config["planes"], config["cardinality"]
    side = -(-size // 2)
    params, macs = 49 * 3 * widths[0] + 2 * widths[0], 49 * 3 * widths[0] * side**2
    side, width = -(-side // 2), widths[0]
    for stage, (depth, planes) in enumerate(zip(config["depths"], widths)):
        for block in range(depth):
            halves = stage > 0 and block == 0
            before, side = side, -(-side // 2) if halves else side
            if config["block"] == "basic":
                out = planes
                layers = [(9 * width * planes, planes, side), (9 * planes * planes, planes, side)]
            else:
                out, inner = 4 * planes, planes * config["base_width"] // 64 * cardinality
                layers = [
                    (width * inner, inner, before),
                    (9 * inner * inner // cardinality, inner, side),
                    (inner * out, out, side),
                ]
            if halves or width != out or (config["form"] == "paddleclas" and stage == block == 0):
                layers.append((width * out, out, side))
            params += sum(weights + 2 * norm for weights, norm, _ in layers)
            macs += sum(weights * pixels**2 for weights, _, pixels in layers)
            width = out
    return params + width * 1000 + 1000, macs + width * 1000


@pytest.mark.parametrize("spec", RESNETS, ids=lambda spec: spec.name)
def test_counts(spec):
    """The registry's row, the closed form and the published figures, in both forms."""
    config = spec.factory.arguments
    params, gmacs = compare.COUNTS[spec.name].values()
    official = closed_form({**config, "form": "official"}, 224)
    assert official[0] == params and round(official[1] / 1e9, 2) == gmacs
    assert (spec.params, spec.macs) == closed_form(config, 224)
    assert spec.params - params == (PROJECTION if config["form"] == "paddleclas" else 0)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "spec", [pytest.param(s, id=s.name, marks=[pytest.mark.compat] if s.name in COMPAT else []) for s in RESNETS]
)
def test_equals_the_reference(spec):
    """Logits and every stage's features, on the same weights; what was counted is what was built."""
    model = spec.factory(**compare.arguments(spec))
    params, macs = closed_form(model.config(), 64)
    assert sum(parameter.size for parameter in model.parameters()) == params
    assert sum(count_macs(model, (3, 64, 64)).values()) == macs
    logits, stages = compare.differences(model, spec)
    assert max(stages) < 1e-4, f"features differ by {stages}"
    assert logits < 2e-5


@pytest.mark.compat
def test_a_step_of_training_equals_the_reference():
    """Gradients with batch statistics, and the running means after it.

    The reference is in double precision, from which PyTorch in single precision is 1.2e-4 of a gradient's norm away.
    """
    spec = registry.get_spec("ResNeXt50_32x4d")
    model = compare.fill(spec.factory(depths=[1, 1, 1, 1]))
    model.train()
    logits = model(paddle.to_tensor(rule.images(64, batch=16)))
    (logits * paddle.to_tensor(rule.unit(rule.LOSS, tuple(logits.shape)))).sum().backward()
    golden = compare.golden(spec)
    parameters = dict(model.named_parameters())
    assert len(parameters) == len(golden["gradients"]) == 53
    for name, expected in zip(sorted(parameters), golden["gradients"]):
        gradient = parameters[name].grad.numpy()
        actual = rule.gradient_summary(gradient.T if compare.is_transposed(name, parameters[name]) else gradient)
        assert np.abs(actual - expected).max() <= 5e-4 * expected[0], name
    means = {name: buffer for name, buffer in model.named_buffers() if name.endswith("._mean")}
    assert len(means) == len(golden["means"]) == 17
    for name, expected in zip(sorted(means), golden["means"]):
        np.testing.assert_allclose(rule.gradient_summary(means[name].numpy()), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.compat
@pytest.mark.parametrize("training", [False, True])
def test_a_block_takes_no_memory_for_its_activation(training):
    """It overwrites the sum, and neither the input nor what hooks see of the branch, which the gradients need too."""
    paddle.seed(0)
    model = registry.get_spec("ResNet18").factory(depths=[2], planes=[8], class_num=3)
    model.train() if training else model.eval()
    block, seen = model.stages[0].blocks[1], {}
    for name in ("conv1", "conv2", "act"):
        getattr(block, name).register_forward_post_hook(
            lambda _layer, inputs, output, name=name: seen.update({name: (inputs[0], output, output.numpy())})
        )
    x = paddle.to_tensor(rule.unit("images", (2, 8, 5, 6)), stop_gradient=False)
    before = x.numpy()
    output = block(x)
    total, activated, _ = seen["act"]
    assert activated.data_ptr() == total.data_ptr()
    assert np.array_equal(x.numpy(), before)
    for name in ("conv1", "conv2"):
        assert np.array_equal(seen[name][1].numpy(), seen[name][2])
    assert (seen["conv2"][2] < 0).any()
    assert np.array_equal(output.numpy(), np.maximum(seen["conv2"][2] + before, 0))
    output.sum().backward()
    # Through the identity alone the gradient is 1 where the sum was positive; the branch's is what autograd adds to it.
    branch = paddle.to_tensor(before, stop_gradient=False)
    (block.conv2(block.conv1(branch)) * (output > 0).astype("float32").detach()).sum().backward()
    expected = branch.grad.numpy() + (output.numpy() > 0)
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_initial_values():
    """He normal for convolutions whatever their groups, 1 and 0 for BatchNorm, a uniform classifier."""
    paddle.seed(1512)
    model = registry.get_spec("ResNeXt50_32x4d").factory(depths=[1, 1, 1, 1])
    for layer in model.sublayers():
        if isinstance(layer, nn.Conv2D):
            deviation = np.sqrt(2 / (layer.weight.shape[0] * np.prod(layer.weight.shape[2:])))
            draws = layer.weight.numpy().reshape(-1)[:20_000]
            assert stats.kstest(draws, stats.norm(0, deviation).cdf).pvalue > 1e-4
        elif isinstance(layer, nn.BatchNorm2D):
            assert np.all(layer.weight.numpy() == 1) and np.all(layer.bias.numpy() == 0)
            assert np.all(layer._mean.numpy() == 0) and np.all(layer._variance.numpy() == 1)
    bound = 2048**-0.5
    for parameter in (model.head.weight, model.head.bias):
        draws = parameter.numpy().reshape(-1)[:20_000]
        assert stats.kstest(draws, stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-4


def test_wrong_arguments():
    factory = registry.factories()["ResNet"]
    with pytest.raises(ValueError, match="with block='basic' they must be 1 and 64, got 32 and 64"):
        factory(block="basic", cardinality=32)
    with pytest.raises(ValueError, match="base_width 4 leaves no channel to a group when planes is 8"):
        factory(planes=[8, 16, 32, 64], base_width=4)
    with pytest.raises(ValueError, match="block must be one of basic, bottleneck; got 'bottlenek', did you mean"):
        factory(block="bottlenek")
    with pytest.raises(ValueError, match="at least 1 x 1 pixel, got 0 x 8"):
        factory(depths=[1, 1, 1, 1], planes=[8, 8, 8, 8])(paddle.zeros([1, 3, 0, 8]))
