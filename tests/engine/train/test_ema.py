"""The moving average in closed form, each tensor once."""

import numpy as np
import paddle
import pytest
from paddle import nn

from ppcls_ext.engine.train.ema import ModelEMA
from ppcls_ext.utils.state_dict import state_arrays


def small():
    model = nn.LayerDict({"rnn": nn.LSTM(3, 2, direction="bidirect"), "norm": nn.BatchNorm1D(2)})
    return model


def set_all(model, value):
    for parameter in model.parameters():
        parameter.set_value(np.full(parameter.shape, value, dtype=np.float32))


@pytest.mark.compat
def test_closed_form_after_k_steps():
    """ema_k = d^k w_0 + (1 - d) Σ d^(k-i) w_i, for LSTM tensors (listed twice by Paddle) and batch statistics too."""
    decay, values = 0.9, [2.0, -1.0, 4.0, 0.5]
    model = small()
    set_all(model, 1.0)
    ema = ModelEMA(model, decay)
    for value in values:
        set_all(model, value)
        ema.update()
    k = len(values)
    expected = decay**k + (1 - decay) * sum(decay ** (k - i) * v for i, v in enumerate(values, start=1))
    state = ema.state_dict()
    assert set(state) == set(state_arrays(model))
    for array in state.values():
        np.testing.assert_allclose(array, expected, rtol=1e-6)


def test_warmup_uses_the_stated_decays():
    model = nn.Linear(1, 1)
    set_all(model, 0.0)
    ema = ModelEMA(model, 0.9999, warmup=True)
    set_all(model, 1.0)
    expected = 0.0
    for t in (1, 2, 3):
        ema.update()
        decay = (1 + t) / (10 + t)
        expected = decay * expected + (1 - decay)
    np.testing.assert_allclose(ema.state_dict()["weight"], expected, rtol=1e-6)


@pytest.mark.compat
def test_applied_puts_the_average_in_and_the_weights_back():
    model = small()
    set_all(model, 1.0)
    ema = ModelEMA(model, 0.5)
    set_all(model, 3.0)
    ema.update()
    with ema.applied():
        assert all((array == 2.0).all() for array in state_arrays(model).values())
    assert all((array == 3.0).all() for array in state_arrays(model).values())


def test_state_round_trip_goes_on_exactly():
    first, second = small(), small()
    set_all(first, 1.0)
    ema = ModelEMA(first, 0.7)
    set_all(first, 5.0)
    ema.update()
    restored = ModelEMA(second, 0.7)
    restored.load_state_dict(ema.state_dict(), ema.updates)
    set_all(second, 5.0)
    ema.update(), restored.update()
    for name, array in ema.state_dict().items():
        assert np.array_equal(array, restored.state_dict()[name])
    assert restored.updates == 2


def test_follows_master_weights_under_o2():
    """Defect 11: under AMP O2 the average follows the optimizer's float32 master weights, by global parameter name.

    Paddle has no half-precision kernels on CPU, so the master weights are given here as an optimizer would hold them.
    """
    model = nn.Linear(2, 2)
    set_all(model, 1.0)
    ema = ModelEMA(model, 0.5)
    ema.update({model.weight.name: paddle.full([2, 2], 1.0009765625)})  # 1 + 2^-10, which bfloat16 cannot hold
    assert (ema.state_dict()["weight"] == 0.5 + 0.5 * 1.0009765625).all()
    assert (ema.state_dict()["bias"] == 1.0).all()


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_decay_out_of_range(decay):
    with pytest.raises(ValueError, match=r"EMA decay must be in \[0, 1\)"):
        ModelEMA(nn.Linear(1, 1), decay)
