"""Every family in mixed, half and double precision.

Half precision runs on a stand-in for a GPU, see ``half_precision.py``; double precision has kernels on CPUs, and finds
whatever is float32 by name.
"""

import numpy as np
import paddle
import pytest
from families import CLASSES, FAMILIES
from half_precision import HALVES, half_precision_device
from paddle import nn
from small_models import build, images

from ppcls_ext import registry
from ppcls_ext.arch.layers import run_rnn
from ppcls_ext.arch.layers.attention import attention
from ppcls_ext.engine.precision import Precision
from ppcls_ext.losses import build_loss

#: Backbones whose operators together are those of all families.
NAMES = [name for row in FAMILIES.values() for name in row.precise]
SPECS = {spec.name: spec for spec in registry.specs()}
every_kind = pytest.mark.parametrize("name", NAMES)
every_half = pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
#: Relative distance from float32 that rounding in each layer adds up to; bfloat16 has three bits less than float16.
TOLERANCE = {"float16": 0.02, "bfloat16": 0.16}


def small(name: str, **arguments) -> nn.Layer:
    return build(SPECS[name], perturb=False, **arguments)


def cast(layer: nn.Layer, dtype: str) -> nn.Layer:
    """``layer.to(dtype=dtype)``, but for floating-point tensors: Paddle 2.6 fails at the empty buffer of an LSTM."""
    return layer._to_impl(dtype=dtype, floating_only=True)


def train(model: nn.Layer, precision: Precision, steps: int = 5) -> tuple:
    """Take a few steps on one batch, as the trainer does; return the losses and the last logits."""
    loss = build_loss([{"CELoss": {"weight": 1.0, "epsilon": 0.1}}])
    optimizer = paddle.optimizer.AdamW(1e-3, parameters=model.parameters(), weight_decay=0.05)
    precision.decorate(model, optimizer)
    scaler = precision.scaler()
    model.train()
    losses = []
    for step in range(steps):
        paddle.seed(step)
        with precision.autocast():
            logits = model(images(8, 3, 56, 56))
        value = loss(logits, paddle.arange(8) % CLASSES)["loss"]
        losses.append(float(value))
        if scaler:
            scaler.scale(value).backward()
            scaler.step(optimizer)
            scaler.update()
        else:
            value.backward()
            optimizer.step()
        optimizer.clear_grad()
    return np.array(losses), logits


@pytest.mark.sampled
@pytest.mark.compat
@every_kind
def test_mixed_precision_trains_as_float32_does(name):
    """O1 and O2 in both types, with drop path: the losses fall, and are float32's but for rounding."""
    options = {"drop_path_rate": 0.1} if "drop_path_rate" in SPECS[name].factory.arguments else {}
    expected, _ = train(small(name, **options), Precision())
    assert expected[-1] < expected[0]
    for level in ("O1", "O2"):
        for dtype in ("float16", "bfloat16"):
            with half_precision_device():
                model = small(name, **options)
                precision = Precision(True, level, dtype, init_loss_scaling=256.0, promote=False)
                losses, logits = train(model, precision)
                types = {key: parameter.dtype for key, parameter in model.named_parameters()}
            case = f"{level} {dtype}: {losses} for {expected}"
            assert np.isfinite(losses).all() and losses[-1] < losses[0], case
            # Later steps would compare how the errors of the first ones grow.
            np.testing.assert_allclose(losses[:3], expected[:3], rtol=TOLERANCE[dtype], err_msg=case)
            assert (losses != expected).any(), f"{level} {dtype}: nothing was rounded"
            recurrent = {key for key in types if "rnn" in key and "rnn_tokens.fc" not in key}
            assert all(types[key] == paddle.float32 for key in recurrent), "Paddle has no such kernels"
            if level == "O2":
                assert logits.dtype == getattr(paddle, dtype)
                assert {types[key] for key in types if key.endswith(("head.weight", "proj.weight"))} == {logits.dtype}
            else:
                assert set(types.values()) == {paddle.float32}


@every_half
@every_kind
def test_a_model_cast_to_half_precision_computes_in_it(name, dtype):
    """The whole model cast: no operator meets float32, at the native size or another, and the result is float32's."""
    model = small(name)
    model.eval()
    x = images(2, 3, 56, 56)
    with paddle.no_grad():
        expected = model(x).numpy()
        with half_precision_device():
            cast(model, dtype)
            logits = model(x.astype(dtype))
            other = model(images(2, 3, 112, 84).astype(dtype)) if "ViT" not in name else logits
            features = model.extract_features(x.astype(dtype))
    assert {tensor.dtype for tensor in (logits, other, *features)} == {getattr(paddle, dtype)}
    error = np.abs(logits.astype("float32").numpy() - expected).max()
    assert error < TOLERANCE[dtype] * max(1.0, np.abs(expected).max())


@pytest.mark.compat
@every_kind
def test_a_model_cast_to_double_precision_computes_in_it(name):
    """In float64 nothing is rounded to float32 on the way: a step of 1e-6 gives the derivative to eight digits."""
    model = cast(small(name), "float64")
    model.eval()
    x = images(2, 3, 56, 56).astype("float64")
    x.stop_gradient = False
    direction = images(2, 3, 56, 56, seed=1).astype("float64")
    weights = images(2, CLASSES, seed=2).astype("float64")
    model.reset_head(CLASSES)
    cast(model, "float64")
    for parameter in model.head.parameters():
        parameter.set_value(images(*parameter.shape, seed=3).astype("float64"))
    value = (model(x) * weights).sum()
    assert value.dtype == paddle.float64
    value.backward()
    slope = float((x.grad * direction).sum())
    with paddle.no_grad():
        step = 1e-6
        ahead, behind = ((model(x + sign * step * direction) * weights).sum() for sign in (1, -1))
    np.testing.assert_allclose(float(ahead - behind) / (2 * step), slope, rtol=1e-6, atol=1e-8)
    if "ViT" not in name:
        assert model(images(2, 3, 112, 84).astype("float64")).dtype == paddle.float64


@every_half
@pytest.mark.parametrize("name", ["ViP_Small_7", "DilateFormer_Tiny"])
def test_token_labels_are_learnt_in_half_precision(name, dtype):
    """Both classifiers are in half precision, their loss is float32's but for rounding, and both learn from it."""
    loss = build_loss([{"TokenLabelLoss": {"cls_weight": 1.0, "dense_weight": 0.5}}])
    labels = paddle.arange(4) % CLASSES
    with paddle.no_grad():
        expected = float(loss(small(name, token_label=True)(images(4, 3, 56, 56)), labels)["loss"])
    with half_precision_device():
        model = small(name, token_label=True)
        precision = Precision(True, "O2", dtype, promote=False)
        precision.decorate(model, paddle.optimizer.AdamW(1e-3, parameters=model.parameters()))
        with precision.autocast():
            output = model(images(4, 3, 56, 56))
        value = loss(output, labels)["loss"]
        value.backward()
    assert {logits.dtype for logits in output.values()} == {getattr(paddle, dtype)}
    assert value.dtype == paddle.float32
    np.testing.assert_allclose(float(value), expected, rtol=TOLERANCE[dtype])
    for head in (model.head, model.aux_head):
        assert head.weight.grad.astype("float32").abs().max() > 0


@every_half
def test_rnns_compute_in_float32_whatever_they_are_given(dtype):
    """Paddle's kernels of RNNs are for float32 and float64, on GPUs too."""
    lstm = nn.LSTM(4, 3, direction="bidirect", time_major=True)
    x = images(5, 2, 4)
    with half_precision_device():
        rounded = x.astype(dtype)
        with pytest.raises(TypeError, match="rnn has no kernel"):
            cast(lstm, dtype)(rounded)
        cast(lstm, "float32")
        expected = run_rnn(lstm, rounded.astype("float32"), training=True)
        found = run_rnn(lstm, rounded, training=True)
        assert found.dtype == rounded.dtype
        assert (found == expected.astype(dtype)).all()
        found.sum().backward()
        assert all(weight.grad.dtype == paddle.float32 for weight in lstm.parameters())
        half = run_rnn(cast(lstm, dtype), rounded, training=False)
    assert half.dtype == rounded.dtype and half.astype("float32").isfinite().all()


def test_products_of_attention_do_not_overflow_before_they_are_scaled():
    """64 channels of 40 · 40 add up to more than float16 holds; divided by the root of 64 they do not."""
    query = paddle.full([1, 1, 2, 64], 40.0)
    with half_precision_device():
        query, key = query.astype("float16"), query.astype("float16")
        out = attention(query, key, key)
    assert (out.astype("float32").numpy() == 40).all()


def test_the_device_refuses_what_a_gpu_would():
    """The stand-in itself: types do not mix, halves overflow, autocast chooses by Paddle's lists."""
    x = paddle.ones([2, 2])
    with half_precision_device():
        half = x.astype("float16")
        with pytest.raises(TypeError, match="add has no kernel for"):
            half + x
        assert (half * 60000 + half * 60000).isinf().all()
        with paddle.amp.auto_cast(level="O1", dtype="bfloat16"):
            assert paddle.matmul(x, x).dtype == paddle.bfloat16  # white
            assert nn.functional.softmax(half).dtype == paddle.float32  # black
            assert (x.astype("bfloat16") + x).dtype == paddle.float32  # promoted
        with paddle.amp.auto_cast(level="O2", dtype="float16", use_promote=False):
            assert (half + x).dtype == paddle.float16
        assert paddle.matmul(x, x).dtype == paddle.float32
    assert HALVES and x.dtype == paddle.float32
    with pytest.raises(RuntimeError, match="not registered"):
        half + half
