"""Every operator of Paddle that is translated to ONNX, one by one: ONNX Runtime gives what Paddle gives.

A case is a function of images ``[N, 4, H, W]`` (and some weights). It is converted with batch, height and width open
and run at two shapes.
"""

import math

import numpy as np
import onnxruntime
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F

from ppcls_ext.engine.deploy.onnx.conversion import convert
from ppcls_ext.engine.deploy.onnx.errors import UnsupportedOperatorError
from ppcls_ext.engine.deploy.onnx.serialization import to_model

pytestmark = pytest.mark.compat

SHAPES = ((1, 4, 6, 8), (3, 4, 9, 5))


class Case(nn.Layer):
    """A function as a layer, with weights and sublayers of its own."""

    def __init__(self, function, **members):
        super().__init__()
        self.function = function
        for name, member in members.items():
            if isinstance(member, (list, tuple)):
                member = self.create_parameter(list(member), default_initializer=nn.initializer.Normal())
            setattr(self, name, member)

    def forward(self, x):
        return self.function(self, x)


def size(x, axis):
    """Return a size as model code gets it: a number in dygraph, a tensor in a graph."""
    return x.shape[axis] if paddle.in_dynamic_mode() else paddle.shape(x)[axis]


def positive(x):
    return x.abs() + 0.5


def shuffled(x):
    """Give a batch norm statistics that change something."""
    x._mean.set_value(paddle.linspace(-1, 1, x._mean.shape[0]))
    x._variance.set_value(paddle.linspace(0.5, 2, x._mean.shape[0]))
    x.weight.set_value(paddle.linspace(0.5, 1.5, x._mean.shape[0]))
    x.bias.set_value(paddle.linspace(1, 2, x._mean.shape[0]))
    return x


def check(layer, opset=20, shapes=SHAPES, open_sizes=True, tolerance=2e-6):
    """Convert and compare; return the kinds of the graph's nodes."""
    layer.eval()
    _, channels, height, width = shapes[0]
    shape = (None, channels, None, None) if open_sizes else (None, channels, height, width)
    graph = convert(layer, shape, opset)
    session = onnxruntime.InferenceSession(to_model(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    for tried in shapes if open_sizes else [(batch, channels, height, width) for batch in (1, 3)]:
        images = np.random.default_rng(sum(tried)).standard_normal(tried, dtype=np.float32)
        with paddle.no_grad():
            expected = layer(paddle.to_tensor(images)).numpy()
        found = session.run(None, {"x": images})[0]
        assert found.shape == expected.shape
        scale = max(np.abs(expected).max(), 1e-3) if expected.dtype == np.float32 else 1
        assert np.abs(found - expected).max() <= tolerance * scale
    return [node.operator for node in graph.nodes]


UNARY = "abs ceil cos erf exp floor round sigmoid sign sin sinh square tanh".split()
ACTIVATIONS = {
    "elu": lambda self, x: F.elu(x, 0.7),
    "gelu": lambda self, x: F.gelu(x),
    "gelu_tanh": lambda self, x: F.gelu(x, approximate=True),
    "hardsigmoid": lambda self, x: F.hardsigmoid(x, 0.2, 0.4),
    "hardswish": lambda self, x: F.hardswish(x * 3),
    "hardtanh": lambda self, x: F.hardtanh(x, -0.5, 0.7),
    "leaky_relu": lambda self, x: F.leaky_relu(x, 0.2),
    "log_softmax": lambda self, x: F.log_softmax(x, axis=1),
    "mish": lambda self, x: F.mish(x),
    "relu": lambda self, x: F.relu(x),
    "relu6": lambda self, x: F.relu6(x * 5),
    "selu": lambda self, x: F.selu(x),
    "silu": lambda self, x: F.silu(x),
    "softmax": lambda self, x: F.softmax(x, axis=1),
    "softplus": lambda self, x: F.softplus(x, beta=2),
    "softsign": lambda self, x: F.softsign(x),
    "swish": lambda self, x: F.swish(x),
}
ARITHMETIC = {
    "add": lambda self, x: x + self.w,
    "clip": lambda self, x: x.clip(-0.5, 0.25),
    "divide": lambda self, x: x / positive(self.w),
    "elementwise_pow": lambda self, x: positive(x) ** positive(self.w),
    "log": lambda self, x: paddle.log(positive(x)),
    "maximum": lambda self, x: paddle.maximum(x, self.w),
    "minimum": lambda self, x: paddle.minimum(x, self.w),
    "multiply": lambda self, x: x * self.w,
    "pow": lambda self, x: x.pow(3),
    "reciprocal": lambda self, x: paddle.reciprocal(positive(x)),
    "rsqrt": lambda self, x: paddle.rsqrt(positive(x)),
    "scale_then_add": lambda self, x: x * 2 + 3,
    "scale_of_a_sum": lambda self, x: paddle.scale(x, 2.0, 3.0, bias_after_scale=False),
    "sqrt": lambda self, x: paddle.sqrt(positive(x)),
    "subtract": lambda self, x: x - self.w,
    "where": lambda self, x: paddle.where(x > 0, x, self.w * x),
    "comparisons": lambda self, x: sum(
        compare(x, self.w).astype("float32")
        for compare in (paddle.greater_equal, paddle.less_than, paddle.less_equal, paddle.equal, paddle.not_equal)
    ),
    "logical": lambda self, x: (
        paddle.logical_and(x > 0, x < 1).astype("float32") + paddle.logical_not(x > 0).astype("float32") * 2
    ),
}
REDUCTIONS = {
    "argmax": lambda self, x: paddle.argmax(x, axis=1).astype("float32"),
    "cumsum": lambda self, x: paddle.cumsum(x, axis=2),
    "max": lambda self, x: x.max(axis=[2, 3]),
    "mean": lambda self, x: x.mean(axis=[1, 2]),
    "mean_of_all": lambda self, x: x.mean(),
    "min": lambda self, x: x.min(axis=1, keepdim=True),
    "normalize": lambda self, x: F.normalize(x, axis=1),
    "norm_1": lambda self, x: paddle.norm(x, p=1, axis=1),
    "prod": lambda self, x: x.prod(axis=1),
    "sum": lambda self, x: x.sum(axis=-1, keepdim=True),
    "topk": lambda self, x: paddle.topk(x, 3, axis=1)[0],
    "any": lambda self, x: (x > 1).any(axis=3).astype("float32"),
}
LAYOUTS = {
    "arange": lambda self, x: x * paddle.arange(size(x, 2)).astype("float32").unsqueeze(1),
    "chunk": lambda self, x: paddle.concat(x.chunk(2, axis=1)[::-1], axis=1),
    "crop_negative": lambda self, x: x[:, 1:-1, :-2, 2:],
    "expand": lambda self, x: self.row.expand([size(x, 0), -1, -1]) + x.mean([2, 3]).unsqueeze(1),
    "flatten": lambda self, x: x.flatten(2).transpose([0, 2, 1]),
    "flip": lambda self, x: paddle.flip(x, axis=[2, 3]),
    "full": lambda self, x: x + paddle.full([size(x, 0), 1, 1, 1], 2.5),
    "gather": lambda self, x: paddle.gather(x, paddle.to_tensor([2, 0, 2]), axis=1),
    "index_select": lambda self, x: paddle.index_select(x, self.index, axis=1),
    "last": lambda self, x: x[:, -1],
    "one": lambda self, x: x[:, 2],
    "ones_like": lambda self, x: x + paddle.ones_like(x[:, :1]),
    "pad": lambda self, x: F.pad(x, [1, 2, 0, 3], value=0.5),
    "pad_reflect": lambda self, x: F.pad(x, [1, 2, 0, 3], mode="reflect"),
    "pad_to_multiple": lambda self, x: F.pad(
        x,
        paddle.concat([paddle.zeros([3], "int32"), ((7 - size(x, 2) % 7) % 7 + paddle.zeros([1], "int32"))])
        if not paddle.in_dynamic_mode()
        else [0, 0, 0, (7 - x.shape[2] % 7) % 7],
    ),
    "pixel_shuffle": lambda self, x: F.pixel_shuffle(x, 2),
    "repeat_interleave": lambda self, x: x.repeat_interleave(3, axis=1),
    "reshape_by_shape": lambda self, x: x.reshape([size(x, 0), 2, -1, size(x, 3)]),
    "roll": lambda self, x: paddle.roll(x, [1, -2], axis=[1, 2]),
    "shape_arithmetic": lambda self, x: x[:, :, : size(x, 2) // 2] * (size(x, 3) * 2 - 1),
    "split": lambda self, x: paddle.split(x, [1, 3], axis=1)[1],
    "squeeze": lambda self, x: x.mean(axis=[2, 3], keepdim=True).squeeze([2, 3]),
    "stack": lambda self, x: paddle.stack([x, -x], axis=1),
    "strided": lambda self, x: x[:, ::2, 1::2],
    "take_along_axis": lambda self, x: paddle.take_along_axis(x, paddle.argsort(x, axis=1)[:, :1] * 0 + 1, 1),
    "tile": lambda self, x: paddle.tile(x, [1, 2, 1, 1]),
    "triangle": lambda self, x: paddle.tril(x[:, :, :4, :4]),
    "unbind": lambda self, x: sum(x.unbind(axis=1)),
    "unfold": lambda self, x: F.unfold(x, 3, paddings=1),
    "windows": lambda self, x: x.reshape([0, 2, 2, size(x, 2), -1]).transpose([0, 3, 1, 4, 2]).flatten(1, 2),
}
PRODUCTS = {
    "matmul": lambda self, x: paddle.matmul(x, x, transpose_y=True),
    "matmul_transposed": lambda self, x: paddle.matmul(x, x, transpose_x=True),
    "bmm": lambda self, x: paddle.bmm(x.flatten(2), x.flatten(2).transpose([0, 2, 1])),
    "einsum": lambda self, x: paddle.einsum("nchw,nkhw->nck", x, x),
    "linear": lambda self, x: F.linear(x.mean([2, 3]), self.square),
}
RESAMPLINGS = {
    "average": lambda self, x: F.avg_pool2d(x, 3, 2, 1),
    "average_with_padding": lambda self, x: F.avg_pool2d(x, 3, 2, 1, exclusive=False),
    "max": lambda self, x: F.max_pool2d(x, 3, 2, 1),
    "max_rounded_up": lambda self, x: F.max_pool2d(x, 2, 2, ceil_mode=True),
    "global_average": lambda self, x: F.adaptive_avg_pool2d(x, 1),
    "global_max": lambda self, x: F.adaptive_max_pool2d(x, 1),
    "nearest": lambda self, x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "bilinear": lambda self, x: F.interpolate(x, size=[7, 11], mode="bilinear"),
    "bilinear_aligned": lambda self, x: F.interpolate(x, size=[7, 11], mode="bilinear", align_corners=True),
    "bilinear_asymmetric": lambda self, x: F.interpolate(x, scale_factor=2, mode="bilinear", align_mode=1),
    "bicubic": lambda self, x: F.interpolate(x, size=[size(x, 2) * 2, size(x, 3) + 1], mode="bicubic"),
    "grid_sample": lambda self, x: F.grid_sample(x, paddle.tanh(x[:, :2].transpose([0, 2, 3, 1])), align_corners=False),
}


def named(table):
    return pytest.mark.parametrize("function", list(table.values()), ids=list(table))


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_an_element(name):
    check(Case(lambda self, x: getattr(F if name == "sigmoid" else paddle, name)(x)))


@named(ACTIVATIONS)
@pytest.mark.parametrize("opset", [17, 20])
def test_activations(function, opset):
    check(Case(function), opset)


@named(ARITHMETIC)
def test_arithmetic(function):
    check(Case(function, w=(4, 1, 1)))


@named(REDUCTIONS)
@pytest.mark.parametrize("opset", [17, 18])
def test_reductions(function, opset):
    check(Case(function), opset)


@named(LAYOUTS)
def test_layouts(function):
    check(Case(function, row=(1, 1, 4), index=paddle.to_tensor([3, 1])))


@named(PRODUCTS)
def test_products(function):
    check(Case(function, square=(4, 4)))


@named(RESAMPLINGS)
def test_resampling(function):
    check(Case(function), tolerance=5e-6)


@pytest.mark.parametrize("target", [3, [2, 4]])
def test_adaptive_pooling_at_a_known_size(target):
    """Windows of one size, and windows that overlap."""
    check(Case(lambda self, x: F.adaptive_avg_pool2d(x, target)), open_sizes=False)


# ---- layers with weights -------------------------------------------------------------------------------------------

CONVOLUTIONS = {
    "plain": {"kernel_size": 3, "padding": 1},
    "strided": {"kernel_size": 3, "stride": 2, "padding": [0, 1]},
    "groups": {"kernel_size": 3, "groups": 2, "dilation": 2, "padding": 2},
    "depthwise": {"kernel_size": 5, "groups": 4, "padding": 2},
    "same": {"kernel_size": 3, "stride": 2, "padding": "SAME"},
    "one_sided": {"kernel_size": 3, "padding": [1, 0, 2, 1]},
}


@named(CONVOLUTIONS)
def test_a_convolution_takes_bias_and_batch_norm(function):
    members = {"conv": nn.Conv2D(4, 8, **function), "norm": shuffled(nn.BatchNorm2D(8))}
    assert check(Case(lambda self, x: self.norm(self.conv(x)), **members)) == ["Conv"]


def test_a_convolution_takes_factors_and_padding():
    def function(self, x):
        return self.conv(F.pad(x, [1, 0, 2, 1])) * 2 - self.shift

    assert check(Case(function, conv=nn.Conv2D(4, 6, 3), shift=(6, 1, 1))) == ["Conv"]


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_takes_a_batch_norm(groups):
    conv = nn.Conv2DTranspose(4, 6, 3, stride=2, padding=1, output_padding=1, groups=groups)
    assert check(Case(lambda self, x: self.norm(self.conv(x)), conv=conv, norm=shuffled(nn.BatchNorm2D(6)))) == [
        "ConvTranspose"
    ]


def test_a_convolution_that_others_read_keeps_its_result():
    def function(self, x):
        x = self.conv(x)
        return self.norm(x) + x

    assert "BatchNormalization" in check(Case(function, conv=nn.Conv2D(4, 6, 1), norm=shuffled(nn.BatchNorm2D(6))))


NORMS = {
    "layer_norm": (lambda self, x: self.norm(x.transpose([0, 2, 3, 1])), lambda: nn.LayerNorm(4)),
    "layer_norm_plain": (
        lambda self, x: self.norm(x.transpose([0, 2, 3, 1])),
        lambda: nn.LayerNorm(4, weight_attr=False, bias_attr=False),
    ),
    "group_norm": (lambda self, x: self.norm(x), lambda: nn.GroupNorm(2, 4)),
    "instance_norm": (lambda self, x: self.norm(x), lambda: nn.InstanceNorm2D(4)),
    "batch_norm": (lambda self, x: self.norm(x), lambda: shuffled(nn.BatchNorm2D(4))),
    "batch_norm_1d": (lambda self, x: self.norm(x.mean([2, 3])), lambda: shuffled(nn.BatchNorm1D(4))),
    "prelu": (lambda self, x: self.norm(x), lambda: nn.PReLU(4, init=0.3)),
    "dropout": (lambda self, x: self.norm(x), lambda: nn.Dropout(0.4, mode="downscale_in_infer")),
    "embedding": (lambda self, x: self.norm((x[:, 0, 0] > 0).astype("int64")), lambda: nn.Embedding(2, 5)),
}


@named(NORMS)
def test_normalisations(function):
    run, make = function
    check(Case(run, norm=make()), tolerance=5e-6)


@pytest.mark.parametrize("direction", ["forward", "bidirect"])
@pytest.mark.parametrize("kind, layers", [(nn.LSTM, 1), (nn.LSTM, 2), (nn.GRU, 1), (nn.SimpleRNN, 1)])
def test_recurrent_networks(kind, layers, direction):
    def function(self, x):
        out, state = self.rnn(x.transpose([0, 2, 3, 1]).flatten(1, 2))
        last = state[0] if isinstance(state, tuple) else state
        return paddle.concat([out, last[-1:].transpose([1, 0, 2]).tile([1, 1, out.shape[-1] // 3])], axis=1)

    kinds = check(Case(function, rnn=kind(4, 3, layers, direction=direction)))
    assert sum(name in ("LSTM", "GRU", "RNN") for name in kinds) == layers


# ---- the shape of the graph ----------------------------------------------------------------------------------------


def attention(self, x):
    tokens = x.flatten(2).transpose([0, 2, 1])
    qkv = self.qkv(tokens).reshape([0, 0, 3, 2, 2]).transpose([2, 0, 3, 1, 4])
    query, key, value = qkv.unbind(0)
    weights = F.softmax(paddle.matmul(query, key, transpose_y=True) / math.sqrt(2))
    return paddle.matmul(weights, value).transpose([0, 2, 1, 3]).flatten(2)


def test_attention_has_a_layer_each_for_query_key_and_value():
    kinds = check(Case(attention, qkv=nn.Linear(4, 12)))
    assert kinds.count("MatMul") == 5 and "Split" not in kinds and "Mul" not in kinds and "Div" not in kinds


def test_layer_norm_and_gelu_are_one_operator_each():
    layer = Case(lambda self, x: F.gelu(self.norm(x.transpose([0, 2, 3, 1]))), norm=nn.LayerNorm(4))
    assert check(layer) == ["Transpose", "LayerNormalization", "Gelu"]


def test_layouts_that_undo_each_other_vanish():
    def function(self, x):
        return x.flatten(2).transpose([0, 2, 1]).transpose([0, 2, 1]).reshape([0, 0, size(x, 2), -1]) + 1

    assert check(Case(function)) == ["Add"]


def test_sizes_padded_to_windows_need_no_arithmetic_but_the_padding():
    """H padded to 7 n splits into n windows of 7: known without a look at the sizes."""

    def function(self, x):
        rows = (7 - size(x, 2) % 7) % 7
        zero = paddle.zeros([1], "int32")
        pads = [0, 0, 0, rows] if paddle.in_dynamic_mode() else paddle.concat([zero, zero, zero, rows + zero])
        x = F.pad(x, pads).transpose([0, 2, 3, 1])
        return x.reshape([0, size(x, 1) // 7, 7, size(x, 2), 4]).max(axis=2)

    kinds = check(Case(function))
    assert kinds.count("Reshape") == 1 and "Mod" not in kinds


# ---- what has no translation -------------------------------------------------------------------------------------


def test_an_operator_without_translation_is_named_with_its_layer():
    layer = Case(lambda self, x: paddle.lgamma(self.conv(x).abs() + 1), conv=nn.Conv2D(4, 4, 1))
    with pytest.raises(UnsupportedOperatorError, match=r"'lgamma' \(in or after the layer 'conv'.* has no translation"):
        convert(layer, (None, 4, None, None), 20)


def test_a_form_without_translation_is_named():
    layer = Case(lambda self, x: F.adaptive_avg_pool2d(x, 3))
    with pytest.raises(UnsupportedOperatorError, match=r"'pool2d' .* unknown size .*; export for one height and width"):
        convert(layer, (None, 4, None, None), 20)
