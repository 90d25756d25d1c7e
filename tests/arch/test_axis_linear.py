"""A linear layer along an axis at other lengths: matrices, rules, gradients, what is kept, exported constants."""

import copy

import numpy as np
import paddle
import pytest
from paddle.nn import functional as F
from PIL import Image

from ppcls_ext.arch.layers.axis_linear import RULES, AxisLinear, interpolation
from ppcls_ext.engine.train.ema import ModelEMA

NATIVE, WIDTH = 6, 3


def layer(rule="resample", bias=True, native=NATIVE, dtype="float32") -> AxisLinear:
    paddle.seed(0)
    made = AxisLinear(native, WIDTH, bias, rule)
    for parameter in made.parameters():
        parameter.set_value(paddle.randn(parameter.shape))
    return made.to(dtype=dtype)


def tokens(length, batch=4, dtype="float32"):
    return paddle.to_tensor(np.random.default_rng(length).standard_normal((batch, length * WIDTH)).astype(dtype))


def expected(made: AxisLinear, x: paddle.Tensor) -> np.ndarray:
    """The resampled layer as sums over named axes, in float64, from the current weights."""
    length = x.shape[-1] // WIDTH
    rule = RULES[made.rule](length, made.native)
    weight = made.weight.numpy().astype(np.float64).reshape([made.native, WIDTH, made.native, WIDTH])
    weight = np.einsum("ip,psqt,jq->isjt", rule.into, weight, rule.out)
    if rule.mask is not None:
        weight *= rule.mask[:, None, :, None]
    y = np.einsum("nis,isjt->njt", x.numpy().reshape([-1, length, WIDTH]), weight)
    if made.bias is not None:
        y += np.einsum("jq,qt->jt", rule.out, made.bias.numpy().reshape([made.native, WIDTH]))
    return y.reshape([x.shape[0], -1])


# ---- matrices ----------------------------------------------------------------------------------------------------


def test_interpolation_by_hand():
    np.testing.assert_allclose(interpolation(4, 2, "linear"), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    np.testing.assert_allclose(interpolation(2, 4, "area"), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(interpolation(2, 3, "area"), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], atol=1e-12)
    np.testing.assert_allclose(interpolation(2, 4, "linear"), np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7)
    np.testing.assert_allclose(interpolation(2, 4, "linear", antialias=False), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    for kernel in ("linear", "cubic", "area"):
        np.testing.assert_allclose(interpolation(5, 5, kernel), np.eye(5), atol=1e-12)


@pytest.mark.parametrize("kernel, pillow", [("linear", Image.BILINEAR), ("cubic", Image.BICUBIC), ("area", Image.BOX)])
@pytest.mark.parametrize("native, length", [(8, 12), (8, 16), (12, 8), (16, 5), (7, 3)])
def test_interpolation_is_pillows(kernel, pillow, native, length):
    """Pillow resizes with the same cells, kernels and antialiasing; its box filter is ours for whole factors only."""
    if kernel == "area" and length % native and native % length:
        native, length = (8, 16) if length > native else (15, 5)
    values = np.random.default_rng(0).random((3, native), dtype=np.float32)
    resized = np.asarray(Image.fromarray(values, mode="F").resize((length, 3), pillow))
    np.testing.assert_allclose(values @ interpolation(length, native, kernel).T, resized, atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("length", [1, 2, 4, 6, 7, 12, 15])
def test_matrices_keep_values_and_sums(rule, length):
    """A constant stays one when interpolated, and a sum over the positions keeps its scale unless zeros fill it up."""
    into, out, mask = RULES[rule](length, NATIVE)
    assert into.shape == out.shape == (length, NATIVE)
    np.testing.assert_allclose(out.sum(axis=1), 1)
    np.testing.assert_allclose(into.sum(), length if rule == "pad" else NATIVE)
    assert (mask is not None) == (rule == "pad")
    if length == NATIVE:
        np.testing.assert_allclose(into, np.eye(NATIVE), atol=1e-12)
        np.testing.assert_allclose(out, np.eye(NATIVE), atol=1e-12)


# ---- outputs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_native_length_is_the_plain_layer_bit_for_bit(rule):
    made = layer(rule)
    x = tokens(NATIVE)
    assert np.array_equal(made(x).numpy(), F.linear(x, made.weight, made.bias).numpy())


@pytest.mark.compat
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_other_lengths(rule, training):
    made = layer(rule)
    made.train() if training else made.eval()
    for length in (1, 4, 9, 13):
        x = tokens(length)
        np.testing.assert_allclose(made(x).numpy(), expected(made, x), atol=2e-5)
        with paddle.no_grad():
            np.testing.assert_allclose(made(x).numpy(), expected(made, x), atol=2e-5)


@pytest.mark.parametrize("length", [2, 3, 5, 9, 12, 24])
def test_a_weight_that_is_equal_for_all_positions_gives_the_mean_response(length):
    """Then the layer sums over the positions, whatever their number: the response to a constant must not change."""
    made = layer(bias=False)
    matrix = paddle.randn([WIDTH, WIDTH])
    made.weight.set_value(matrix.tile([NATIVE, NATIVE]))
    token = paddle.randn([1, WIDTH])
    native = made(token.tile([1, NATIVE])).reshape([NATIVE, WIDTH])[0].numpy()
    response = made(token.tile([1, length])).reshape([length, WIDTH]).numpy()
    np.testing.assert_allclose(response, np.tile(native, (length, 1)), rtol=1e-4, atol=1e-4)


def test_twice_as_many_positions_of_the_same_signal():
    """With smooth weights, the signal repeated twice gives about the native response repeated twice."""
    native = 16
    made = AxisLinear(native, 1)
    position = np.arange(native) / native
    smooth = np.cos(2 * np.pi * (position[:, None] - position)) + position[:, None] * position
    made.weight.set_value(smooth.astype("float32"))
    signal = np.sin(2 * np.pi * position[None] + 0.3).astype("float32")
    response = made(paddle.to_tensor(signal)).numpy()
    doubled = made(paddle.to_tensor(np.repeat(signal, 2, axis=1))).numpy()
    averaged = doubled.reshape([native, 2]).mean(axis=1)
    assert np.abs(averaged - response[0]).max() < 0.05 * np.abs(response).max()


def test_pool_is_pooling_the_plain_layer_and_interpolating():
    """For a whole factor, against Paddle's own pooling and interpolation."""
    made = layer("pool", bias=False)
    x = tokens(2 * NATIVE)
    pooled = F.adaptive_avg_pool1d(x.reshape([4, -1, WIDTH]).transpose([0, 2, 1]), NATIVE).transpose([0, 2, 1])
    y = F.linear(pooled.reshape([4, -1]), made.weight).reshape([4, NATIVE, WIDTH]).transpose([0, 2, 1])
    y = F.interpolate(y, size=[2 * NATIVE], mode="linear", data_format="NCW").transpose([0, 2, 1])
    np.testing.assert_allclose(made(x).numpy(), y.reshape([4, -1]).numpy(), atol=2e-5)


def test_pad_is_padding_and_the_plain_layer():
    """A shorter axis is filled up with zeros; a longer one is cut into pieces, each of which stays by itself."""
    made = layer("pad")
    x = tokens(4)
    padded = F.pad(x, [0, 0, 0, 2 * WIDTH])
    np.testing.assert_allclose(
        made(x).numpy(), F.linear(padded, made.weight, made.bias)[:, : 4 * WIDTH].numpy(), atol=2e-5
    )
    x = tokens(2 * NATIVE + 1)
    padded = F.pad(x, [0, 0, 0, (NATIVE - 1) * WIDTH]).reshape([4, 3, NATIVE * WIDTH])
    pieces = F.linear(padded, made.weight, made.bias).reshape([4, -1])[:, : x.shape[1]]
    np.testing.assert_allclose(made(x).numpy(), pieces.numpy(), atol=2e-5)


# ---- gradients ---------------------------------------------------------------------------------------------------


@pytest.mark.compat
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("rule", RULES)
def test_gradients_at_another_length(rule, training):
    """Of weight, bias and input, against central differences in float64."""
    made = layer(rule, dtype="float64")
    made.train() if training else made.eval()
    x = tokens(9, dtype="float64")
    x.stop_gradient = False
    direction = tokens(9, dtype="float64") * 0.7 + 0.1

    def loss() -> paddle.Tensor:
        return (paddle.tanh(made(x)) * direction).sum()

    loss().backward()
    step = 1e-5
    for tensor in (made.weight, made.bias, x):
        gradient = tensor.grad.numpy().reshape(-1)
        values = tensor.numpy()
        for index in np.linspace(0, values.size - 1, 12).astype(int):
            sums = []
            for sign in (1, -1):
                moved = values.copy()
                moved.reshape(-1)[index] += sign * step
                tensor.set_value(moved)
                with paddle.no_grad():
                    sums.append(loss().item())
            tensor.set_value(values)
            np.testing.assert_allclose(gradient[index], (sums[0] - sums[1]) / (2 * step), rtol=1e-6, atol=1e-7)


def test_frozen_weights_pass_gradients_to_the_input():
    made = layer()
    for parameter in made.parameters():
        parameter.stop_gradient = True
    x = tokens(9)
    x.stop_gradient = False
    made(x).sum().backward()
    reference = layer()
    y = x.detach()
    y.stop_gradient = False
    reference(y).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), atol=1e-6)


# ---- what is kept ------------------------------------------------------------------------------------------------


@pytest.fixture
def count_resamplings(monkeypatch):
    """Count how often weights are resampled."""
    counts = []
    original = AxisLinear._resample

    def counting(self, length, native):
        counts.append(length)
        return original(self, length, native)

    monkeypatch.setattr(AxisLinear, "_resample", counting)
    return counts


@pytest.mark.compat
def test_resampled_once_per_length_in_evaluation(count_resamplings):
    """The two lengths used last are kept."""
    made = layer()
    made.eval()
    with paddle.no_grad():
        for length in (4, 4, 9, 4, 9, NATIVE):
            made(tokens(length))
        assert count_resamplings == [4, 9]
        for length in (8, 9, 4):  # 8 drives out 4, which was used before 9
            made(tokens(length))
    assert count_resamplings == [4, 9, 8, 4]
    made(tokens(4))
    assert count_resamplings[4:] == [4], "while gradients are recorded, a pass has to resample"


def adam(made):
    made(tokens(9)).sum().backward()
    optimizer = paddle.optimizer.AdamW(0.1, parameters=made.parameters())
    optimizer.step()
    optimizer.clear_grad()


def momentum(made):
    made(tokens(9)).sum().backward()
    paddle.optimizer.Momentum(0.1, parameters=made.parameters()).step()


def bias_alone(made):
    made.bias.set_value(made.bias * 2)


def set_value(made):
    made.weight.set_value(np.random.default_rng(1).standard_normal(made.weight.shape).astype("float32"))


def set_state_dict(made):
    made.set_state_dict({name: tensor * 2 for name, tensor in made.state_dict().items()})


def in_place(made):
    with paddle.no_grad():
        made.weight.scale_(0.5)


def one_element(made):
    values = made.weight.numpy()
    values[-1, -1] += 1
    made.weight.set_value(values)


def another_parameter(made):
    made.weight = paddle.create_parameter(made.weight.shape, "float32")


@pytest.mark.compat
@pytest.mark.parametrize(
    "change",
    [adam, momentum, bias_alone, set_value, set_state_dict, in_place, one_element, another_parameter],
    ids=lambda change: change.__name__,
)
def test_kept_weights_are_never_stale(change):
    """Whatever changes the parameters; Paddle counts some of these changes and not others."""
    made = layer()
    made.eval()
    x = tokens(9)
    with paddle.no_grad():
        before = made(x).numpy()
    change(made)
    with paddle.no_grad():
        after = made(x).numpy()
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, expected(made, x), atol=2e-5)


@pytest.mark.compat
def test_kept_weights_follow_the_moving_average():
    made = layer()
    ema = ModelEMA(made, decay=0.5)
    made.eval()
    x = tokens(9)
    with paddle.no_grad():
        made(x)
        made.weight.set_value(made.weight * 3)
        ema.update()
        raw = made(x).numpy()
        with ema.applied():
            averaged = made(x).numpy()
            np.testing.assert_allclose(averaged, expected(made, x), atol=2e-5)
        assert np.abs(averaged - raw).max() > 1e-2
        np.testing.assert_allclose(made(x).numpy(), raw, atol=1e-6)


def test_copies_and_state_hold_the_parameters_alone():
    made = layer()
    made.eval()
    with paddle.no_grad():
        made(tokens(9))
    assert set(made.state_dict()) == {"weight", "bias"}
    twin = copy.deepcopy(made)
    assert not twin._resampled.by_length
    twin.weight.set_value(paddle.zeros_like(twin.weight))
    with paddle.no_grad():
        np.testing.assert_allclose(made(tokens(9)).numpy(), expected(made, tokens(9)), atol=2e-5)
        np.testing.assert_allclose(twin(tokens(9)).numpy(), expected(twin, tokens(9)), atol=2e-5)


def test_half_precision_weights_are_resampled_in_single_precision():
    made = layer()
    reference = made.at_length(9)[0].numpy()
    made.to(dtype="bfloat16")
    weight, bias = made.at_length(9)
    assert weight.dtype == bias.dtype == paddle.bfloat16
    np.testing.assert_allclose(weight.astype("float32").numpy(), reference, rtol=0.01, atol=0.02)


# ---- static graph ------------------------------------------------------------------------------------------------


def traced(model, length):
    spec = [paddle.static.InputSpec([None, length * WIDTH], "float32")]
    return paddle.jit.to_static(model, input_spec=spec, full_graph=True)


@pytest.mark.compat
def test_folded_weights_are_constants(tmp_path):
    """A graph holds the resampled weight and not the native one; a second export, after a change, the changed one."""
    made = layer()
    made.eval()
    for attempt, length in enumerate((9, 4, 9)):
        set_value(made) if attempt == 2 else None
        made.fold(length)
        path = str(tmp_path / f"{attempt}")
        paddle.jit.save(traced(made, length), path)
        loaded = paddle.jit.load(path)
        shapes = sorted(tuple(tensor.shape) for tensor in loaded.state_dict().values())
        assert shapes == [(length * WIDTH,), (length * WIDTH, length * WIDTH)]
        x = tokens(length)
        np.testing.assert_allclose(loaded(x).numpy(), expected(made, x), atol=2e-5)
    assert set(made.state_dict()) == {"weight", "bias"}


def test_folding_changes_nothing_without_a_graph():
    made = layer()
    made.eval()
    made.fold(9)
    set_value(made)
    with paddle.no_grad():
        for length in (9, 4, NATIVE):
            np.testing.assert_allclose(made(tokens(length)).numpy(), expected(made, tokens(length)), atol=2e-5)


@pytest.mark.compat
def test_a_graph_that_is_not_exported_follows_the_weights():
    """Traced in evaluation and run again after a change, as in a training that evaluates through a graph."""
    made = layer()
    made.eval()
    static = traced(made, 9)
    x = tokens(9)
    for change in (set_value, adam, bias_alone):
        with paddle.no_grad():
            np.testing.assert_allclose(static(x).numpy(), expected(made, x), atol=2e-5)
        change(made)
    made.clear_gradients()
    made.train()
    static(x).sum().backward()
    assert all(np.abs(parameter.grad.numpy()).max() > 0 for parameter in made.parameters())


@pytest.mark.compat
@pytest.mark.parametrize("folded", [True, False])
def test_a_graph_for_training_resamples_itself(folded):
    """Gradients flow to the native weight, as without a graph."""
    made = layer()
    made.train()
    x = tokens(9)
    made(x).pow(2).sum().backward()
    reference = [parameter.grad.numpy() for parameter in made.parameters()]
    made.clear_gradients()
    if folded:
        made.fold(9)
    static = traced(made, 9)
    output = static(x)
    np.testing.assert_allclose(output.numpy(), expected(made, x), atol=2e-5)
    output.pow(2).sum().backward()
    for parameter, gradient in zip(made.parameters(), reference):
        np.testing.assert_allclose(parameter.grad.numpy(), gradient, rtol=1e-4, atol=1e-4)
