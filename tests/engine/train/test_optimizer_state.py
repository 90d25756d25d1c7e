"""Optimizer state under structured names."""

import numpy as np
import paddle
import pytest
from paddle import nn

from ppcls_ext.engine.train.optimizer_state import OptimizerStateError, from_disk, to_disk


def build(seed=0):
    paddle.seed(seed)
    model = nn.LayerDict({"rnn": nn.LSTM(3, 2, direction="bidirect"), "head": nn.Linear(4, 2)})
    schedule = paddle.optimizer.lr.CosineAnnealingDecay(0.1, 10)
    return model, paddle.optimizer.AdamW(schedule, parameters=model.parameters(), weight_decay=0.05)


def step(model, optimizer, k):
    x = paddle.to_tensor(np.random.default_rng(k).standard_normal((2, 5, 3)).astype("float32"))
    model["head"](model["rnn"](x)[0]).square().mean().backward()
    optimizer.step()
    optimizer.clear_grad()
    optimizer._learning_rate.step()


@pytest.mark.compat
def test_resumed_steps_are_equal_bit_for_bit_though_global_names_moved():
    """Defect of §3.3: a layer built earlier in the process shifts Paddle's names; the state fits all the same."""
    model, optimizer = build()
    for k in range(3):
        step(model, optimizer, k)
    state = to_disk(optimizer, model)
    weights = {name: parameter.numpy() for name, parameter in model.named_parameters()}
    assert state["head.weight/moment1_0"].shape == (4, 2)
    assert sum(key.startswith("rnn.weight_ih_l0/") for key in state) == 4  # two moments, two powers: once each
    nn.Linear(3, 3), nn.LSTM(2, 2)  # shift the counters
    resumed, new_optimizer = build(seed=1)
    for name, parameter in resumed.named_parameters():
        parameter.set_value(weights[name])
    from_disk(state, new_optimizer, resumed)
    for k in (3, 4):
        step(model, optimizer, k)
        step(resumed, new_optimizer, k)
    assert new_optimizer.get_lr() == optimizer.get_lr()
    for (name, parameter), other in zip(model.named_parameters(), resumed.parameters()):
        assert np.array_equal(parameter.numpy(), other.numpy()), name


def test_master_weights_travel_under_structured_names():
    """AMP O2's master weights; Paddle has no half-precision kernels on CPU, so an optimizer's answer stands in."""
    model, other = nn.LayerDict({"head": nn.Linear(2, 1)}), nn.LayerDict({"head": nn.Linear(2, 1)})

    class Optimizer:
        def __init__(self, model):
            names = [parameter.name for parameter in model.parameters()]
            self.state = {
                "master_weights": {name: paddle.full([1], float(k)) for k, name in enumerate(names)},
                f"{names[0]}_fp32_master_0_moment1_0": paddle.ones([2, 1]),
                f"{names[1]}_fp32_master_0_moment1_0": paddle.zeros([1]),
            }

        def state_dict(self):
            return self.state

        def set_state_dict(self, state):
            self.state = state

    state = to_disk(Optimizer(model), model)
    assert {name: array.item() for name, array in state["master_weights"].items()} == {"head.weight": 0, "head.bias": 1}
    restored = Optimizer(other)
    expected = set(restored.state)
    from_disk(state, restored, other)
    assert set(restored.state) == expected
    assert set(restored.state["master_weights"]) == {parameter.name for parameter in other.parameters()}


def test_state_of_another_model_is_refused():
    model, optimizer = build()
    step(model, optimizer, 0)
    state = to_disk(optimizer, model)
    other = nn.Linear(4, 2)
    with pytest.raises(OptimizerStateError, match="parameters unknown to the model: head.bias"):
        from_disk(state, paddle.optimizer.AdamW(0.1, parameters=other.parameters()), other)
    del state["head.bias/moment1_0"]
    state = {key: value for key, value in state.items() if not key.startswith("head.bias")}
    with pytest.raises(OptimizerStateError, match="lacks parameters of the model: head.bias"):
        from_disk(state, build()[1], build()[0])
