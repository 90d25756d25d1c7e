"""Optimizer steps against hand computation."""

from typing import get_args

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.regularizer import L2Decay

from ppcls_ext.config.schema import training
from ppcls_ext.optim import OPTIMIZERS, build_optimizer, parameter_settings
from ppcls_ext.optim.optimizer import ALIASES

pytestmark = pytest.mark.compat

LR, DECAY = 0.1, 0.05
OF_PADDLE_3 = pytest.mark.skipif(
    not hasattr(paddle.optimizer, "NAdam"), reason="Paddle 2.6 has neither NAdam nor RAdam"
)


class Tiny(nn.Layer):
    """A linear layer, a norm, an LSTM and a table, with the members that a backbone of ours has."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.norm = nn.LayerNorm(4)
        self.rnn = nn.LSTM(4, 2, direction="bidirect")
        self.table = self.create_parameter([5, 4])

    def forward(self, x):
        y, _ = self.rnn(self.norm(self.fc(x)) + self.table)
        return y.square().sum()


class WithGroups(Tiny):
    def no_weight_decay(self):
        return ["table", "fc.bias"]

    def layer_groups(self):
        rest = [name for name, _ in self.named_parameters() if not name.startswith("fc.")]
        return [("stem", ["fc.weight", "fc.bias"]), ("tail", rest)]


@pytest.fixture
def model():
    paddle.seed(0)
    return WithGroups()


def step(model, section, steps=1, grads=None):
    """Take ``steps`` steps; return parameters before, their last gradients, parameters after, and the optimizer."""
    optimizer, _ = build_optimizer({"lr": {"learning_rate": LR}, **section}, model, 3, 5)
    for _ in range(steps):
        before = {name: p.numpy().astype(np.float64) for name, p in model.named_parameters()}
        model(paddle.ones([2, 5, 3])).backward()
        gradients = {name: p.grad.numpy().astype(np.float64) for name, p in model.named_parameters()}
        optimizer.step()
        optimizer.clear_grad()
    after = {name: p.numpy().astype(np.float64) for name, p in model.named_parameters()}
    return before, gradients, after, optimizer


def assert_close(after, expected):
    assert set(after) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(after[name], value, rtol=2e-5, atol=2e-6, err_msg=name)


def exempt(name):
    """Return whether the recipe "one-dimensional parameters, and the model's table" leaves a parameter out."""
    return name == "table" or "bias" in name or name == "norm.weight"


# ---- which parameters ------------------------------------------------------------------------------------------


def test_each_lstm_tensor_occurs_once_and_its_biases_do_not_decay(model):
    settings = parameter_settings(model, one_dim_param_no_weight_decay=True)
    assert len(settings) == len({id(s.parameter) for s in settings}) == len(model.parameters()) == 13
    lstm = [s for s in settings if s.names[0].startswith("rnn.")]
    assert len(lstm) == 8 and all(len(s.names) == 2 for s in lstm)
    assert {s.names[0]: s.decay for s in lstm} == {s.names[0]: "bias" not in s.names[0] for s in lstm}


@pytest.mark.parametrize(
    ("arguments", "without_decay"),
    [
        ({}, {"table"}),
        (
            {"no_weight_decay_name": "norm .bias_hh"},
            {"table", "norm.weight", "norm.bias", "rnn.bias_hh_l0", "rnn.bias_hh_l0_reverse"},
        ),
        ({"no_weight_decay_name": "cell_fw.weight_ih"}, {"table", "rnn.weight_ih_l0"}),
    ],
    ids=["the model's own", "two parts", "second name of an LSTM tensor"],
)
def test_names_without_decay(model, arguments, without_decay):
    settings = parameter_settings(model, **arguments)
    assert {s.names[0] for s in settings if not s.decay} == without_decay


def test_learning_rate_falls_from_layer_to_layer(model):
    scales = {s.names[0]: s.lr_scale for s in parameter_settings(model, layerwise_decay=0.5)}
    assert {name for name, scale in scales.items() if scale == 0.5} == {"fc.weight", "fc.bias"}
    assert {scale for name, scale in scales.items() if not name.startswith("fc.")} == {1.0}


def test_layerwise_decay_of_a_model_without_groups_is_refused():
    with pytest.raises(ValueError, match="Tiny has none"):
        parameter_settings(Tiny(), layerwise_decay=0.5)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([("a", ["fc.weigh"])], "names 'fc.weigh'"),
        ([("a", ["fc.weight"]), ("b", ["fc.weight"])], "holds 'fc.weight' twice"),
        ([("a", ["fc.weight"])], "leaves out"),
    ],
    ids=["unknown", "twice", "left out"],
)
def test_wrong_layer_groups(model, groups, message):
    model.layer_groups = lambda: groups
    with pytest.raises(ValueError, match=message):
        parameter_settings(model, layerwise_decay=0.5)


# ---- one step by hand ------------------------------------------------------------------------------------------


def adamw(before, gradients, lr, decay):
    """Return the parameters after AdamW's first step, in which both moments' corrections cancel."""
    return {
        name: value * (1 - lr(name) * decay(name)) - lr(name) * gradients[name] / (np.abs(gradients[name]) + 1e-8)
        for name, value in before.items()
    }


def test_adamw_decays_matrices_once_and_leaves_out_what_is_exempt(model):
    before, gradients, after, _ = step(
        model, {"name": "AdamW", "weight_decay": DECAY, "one_dim_param_no_weight_decay": True}
    )
    assert_close(after, adamw(before, gradients, lambda n: LR, lambda n: 0.0 if exempt(n) else DECAY))


def test_adamw_without_weight_decay(model):
    """Defect 33: Paddle 3.3.1 refuses None."""
    before, gradients, after, _ = step(model, {"name": "AdamW"})
    assert_close(after, adamw(before, gradients, lambda n: LR, lambda n: 0.0))


@pytest.mark.parametrize("name", ["AdamW", "AdamWDL"])
def test_layerwise_decay_scales_the_rate_and_decays_once(model, name):
    """Defect 29: PaddleClas's AdamWDL decays twice."""
    section = {"name": name, "weight_decay": DECAY, "layerwise_decay": 0.5, "one_dim_param_no_weight_decay": True}
    before, gradients, after, _ = step(model, section)
    rate = lambda n: LR * (0.5 if n.startswith("fc.") else 1.0)  # noqa: E731
    assert_close(after, adamw(before, gradients, rate, lambda n: 0.0 if exempt(n) else DECAY))


def test_lamb_scales_the_step_of_a_tensor_by_its_norm(model):
    """Algorithm 2 of the paper, first step; what is exempt from decay is not scaled either, as Paddle has it."""
    section = {"name": "Lamb", "weight_decay": DECAY, "layerwise_decay": 0.5, "one_dim_param_no_weight_decay": True}
    before, gradients, after, _ = step(model, section)
    expected = {}
    for name, weight in before.items():
        direction = gradients[name] / (np.abs(gradients[name]) + 1e-6)
        direction = direction + (0.0 if exempt(name) else DECAY) * weight
        trust = 1.0 if exempt(name) else np.linalg.norm(weight) / np.linalg.norm(direction)
        expected[name] = weight - LR * (0.5 if name.startswith("fc.") else 1.0) * trust * direction
    assert_close(after, expected)


@OF_PADDLE_3
def test_nadam_heeds_groups(model):
    """First step with mu = beta1 (1 - 0.5 * 0.96 ** (t * 0.004)) of Dozat's paper; L2 is added to the gradient."""
    section = {"name": "NAdam", "weight_decay": DECAY, "layerwise_decay": 0.5, "one_dim_param_no_weight_decay": True}
    before, gradients, after, _ = step(model, section)
    mu, mu_next = (0.9 * (1 - 0.5 * 0.96 ** (t * 0.004)) for t in (1, 2))
    expected = {}
    for name, weight in before.items():
        gradient = gradients[name] + (0.0 if exempt(name) else DECAY) * weight
        moment = mu_next * 0.1 * gradient / (1 - mu * mu_next) + (1 - mu) * gradient / (1 - mu)
        rate = LR * (0.5 if name.startswith("fc.") else 1.0)
        expected[name] = weight - rate * moment / (np.abs(gradient) + 1e-8)
    assert_close(after, expected)


@OF_PADDLE_3
def test_radam_heeds_groups(model):
    """In the first steps the variance is not tractable, and the step is the corrected first moment."""
    section = {"name": "RAdam", "weight_decay": DECAY, "layerwise_decay": 0.5, "one_dim_param_no_weight_decay": True}
    before, gradients, after, _ = step(model, section)
    rate = lambda n: LR * (0.5 if n.startswith("fc.") else 1.0)  # noqa: E731
    decay = lambda n: 0.0 if exempt(n) else DECAY  # noqa: E731
    assert_close(after, {n: v - rate(n) * (gradients[n] + decay(n) * v) for n, v in before.items()})


@pytest.mark.skipif(hasattr(paddle.optimizer, "NAdam"), reason="Paddle 3 has it")
@pytest.mark.parametrize("name", ["NAdam", "RAdam"])
def test_what_this_paddle_lacks_is_refused_by_name(model, name):
    with pytest.raises(ValueError, match=f"name: {name} needs Paddle 3; this is 2"):
        build_optimizer({"name": name, "lr": {"learning_rate": LR}}, model, 3, 5)


@pytest.mark.parametrize("decay", [{"weight_decay": DECAY}, {"regularizer": {"name": "L2", "coeff": DECAY}}])
@pytest.mark.parametrize("name", ["SGD", "Momentum"])
def test_l2_is_added_to_the_gradient(model, name, decay):
    """Defect 32: Momentum heeds one_dim_param_no_weight_decay by itself."""
    section = {"name": name, **decay, "one_dim_param_no_weight_decay": True}
    section.update({"momentum": 0.9} if name == "Momentum" else {})
    before, gradients, after, _ = step(model, section)
    expected = {n: v - LR * (gradients[n] + (0 if exempt(n) else DECAY) * v) for n, v in before.items()}
    assert_close(after, expected)


def test_l1_adds_the_sign(model):
    section = {"name": "SGD", "regularizer": {"name": "L1", "coeff": DECAY}, "no_weight_decay_name": "norm"}
    before, gradients, after, _ = step(model, section)
    expected = {
        n: v - LR * (gradients[n] + (0 if "norm" in n or n == "table" else DECAY) * np.sign(v))
        for n, v in before.items()
    }
    assert_close(after, expected)


def test_momentum_accumulates(model):
    section = {"name": "Momentum", "momentum": 0.9}
    _, first, _, optimizer = step(model, section)
    before = {name: p.numpy().astype(np.float64) for name, p in model.named_parameters()}
    model(paddle.ones([2, 5, 3])).backward()
    second = {name: p.grad.numpy().astype(np.float64) for name, p in model.named_parameters()}
    optimizer.step()
    after = {name: p.numpy().astype(np.float64) for name, p in model.named_parameters()}
    assert_close(after, {n: v - LR * (0.9 * first[n] + second[n]) for n, v in before.items()})


def test_a_regularizer_of_the_model_itself_is_kept():
    """As PaddleClas's PPLCNet does with its norms."""
    model = nn.Linear(2, 2, weight_attr=paddle.ParamAttr(regularizer=L2Decay(0.0)))
    optimizer, _ = build_optimizer(
        {"name": "SGD", "lr": {"learning_rate": LR}, "weight_decay": DECAY}, model, epochs=1, steps_per_epoch=1
    )
    before = model.weight.numpy()
    model(paddle.ones([1, 2])).sum().backward()
    optimizer.step()
    np.testing.assert_allclose(model.weight.numpy(), before - LR, rtol=1e-6)


# ---- clipping --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layerwise", [None, 0.5], ids=["one rate", "layer-wise rates"])
def test_the_global_norm_is_over_all_parameters(model, layerwise):
    """Defect 31: one factor for all gradients, also where parameters differ in rate and decay."""
    section = {"name": "AdamW", "weight_decay": DECAY, "one_dim_param_no_weight_decay": True, "clip_global_norm": 0.5}
    _, gradients, _, optimizer = step(model, {**section, "layerwise_decay": layerwise})
    norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    assert norm > 0.5
    moments = {k[: -len("_moment1_0")]: v for k, v in optimizer.state_dict().items() if k.endswith("_moment1_0")}
    for name, parameter in model.named_parameters():
        expected = 0.1 * gradients[name] * 0.5 / norm
        np.testing.assert_allclose(moments[parameter.name].numpy(), expected, rtol=1e-4, atol=1e-8, err_msg=name)


def test_clip_norm_is_by_tensor_as_in_paddleclas(model):
    before, gradients, after, _ = step(model, {"name": "SGD", "clip_norm": 0.1})
    expected = {n: v - LR * gradients[n] * min(1, 0.1 / np.linalg.norm(gradients[n])) for n, v in before.items()}
    assert_close(after, expected)


# ---- state -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("SGD", "Momentum", "Adam", "AdamW", "Lamb"),
        *(pytest.param(name, marks=OF_PADDLE_3) for name in ("NAdam", "RAdam")),
    ],
)
def test_state_restores_the_run(model, name):
    section = {"name": name, "weight_decay": DECAY, "clip_global_norm": 1.0, "one_dim_param_no_weight_decay": True}
    section["lr"] = {"name": "Cosine", "learning_rate": LR, "warmup_epoch": 1}
    section.update({"momentum": 0.9} if name == "Momentum" else {})

    def run(optimizer, scheduler, steps):
        for _ in range(steps):
            model(paddle.ones([2, 5, 3])).backward()
            optimizer.step()
            optimizer.clear_grad()
            scheduler.step()

    with paddle.utils.unique_name.guard():
        optimizer, scheduler = build_optimizer(section, model, 3, 5)
        run(optimizer, scheduler, 4)
    # Paddle numbers the accumulators of a process; a resumed run starts from the first number again.
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    state = {
        key: value.clone() if isinstance(value, paddle.Tensor) else value
        for key, value in optimizer.state_dict().items()
    }
    run(optimizer, scheduler, 4)
    through = [p.numpy() for p in model.parameters()]
    model.set_state_dict(weights)
    with paddle.utils.unique_name.guard():
        again, scheduler = build_optimizer(section, model, 3, 5)
        again.set_state_dict(state)
        run(again, scheduler, 4)
    for one, other in zip(through, model.parameters()):
        np.testing.assert_array_equal(one, other.numpy())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rmsprop(model, momentum):
    """Two steps with PaddleClas's defaults, rho 0.95 and an epsilon of 1e-6 under the root; norms do not decay."""
    section = {"name": "RMSProp", "weight_decay": DECAY, "no_weight_decay_name": "norm"}
    section.update({"momentum": momentum} if momentum else {})
    start = {name: p.numpy().astype(np.float64) for name, p in model.named_parameters()}
    _, first, _, _ = step(model, section)
    for name, p in model.named_parameters():
        p.set_value(start[name].astype("float32"))
    before, second, after, optimizer = step(model, section, steps=2)
    assert (optimizer._rho, optimizer._epsilon, optimizer._momentum) == (0.95, 1e-6, momentum)
    expected = {}
    for name, weight in start.items():
        square = velocity = 0.0
        for weights, gradients in ((start, first), (before, second)):
            gradient = gradients[name] + (0.0 if "norm" in name or name == "table" else DECAY * weights[name])
            square = 0.95 * square + 0.05 * gradient**2
            velocity = momentum * velocity + LR * gradient / np.sqrt(square + 1e-6)
            weight = weight - velocity
        expected[name] = weight
    assert_close(after, expected)


def test_building_twice_does_not_scale_or_exempt_twice(model):
    section = {"name": "AdamW", "layerwise_decay": 0.5, "one_dim_param_no_weight_decay": True}
    step(model, {**section, "weight_decay": DECAY})
    before, gradients, after, _ = step(model, {"name": "SGD", "weight_decay": DECAY, "no_weight_decay_name": "norm"})
    left_out = lambda n: n == "table" or "norm" in n  # noqa: E731
    expected = {n: v - LR * (gradients[n] + (0 if left_out(n) else DECAY) * v) for n, v in before.items()}
    assert_close(after, expected)


@pytest.mark.parametrize(("name", "default"), [("SGD", False), ("Momentum", True), ("Adam", False), ("AdamW", False)])
def test_master_weights(model, name, default):
    """A CPU has no step in half precision, so this looks at what Paddle was told."""
    momentum = {"momentum": 0.9} if name == "Momentum" else {}
    for section, expected in (({}, default), ({"multi_precision": not default}, not default)):
        _, _, _, optimizer = step(model, {"name": name, **momentum, **section})
        assert optimizer._multi_precision is expected


def test_defaults_are_those_of_the_configuration():
    """A section that leaves an argument out means the same here and in a YAML file."""
    in_yaml = {}
    for section in get_args(get_args(training.OptimizerSection)[0]):
        for name in get_args(section.model_fields["name"].annotation):
            fields = section.model_fields
            in_yaml[name] = {key: ... if f.is_required() else f.default for key, f in fields.items() if key != "name"}
    for name, defaults in OPTIMIZERS.items():
        assert {key: in_yaml[name][key] for key in defaults} == defaults, name
    assert set(in_yaml) == {*OPTIMIZERS, *ALIASES}


# ---- refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "error", "message"),
    [
        ({"name": "AdmaW"}, KeyError, "unknown optimizer 'AdmaW'; supported: AdamW"),
        ({"name": "Momentum"}, ValueError, "Momentum needs momentum"),
        ({"name": "AdamW", "beta": 0.9}, TypeError, "AdamW has no argument 'beta'; did you mean beta"),
        ({"name": "AdamW", "regularizer": {"name": "L2", "coeff": 1.0}}, ValueError, "give weight_decay instead"),
        ({"name": "SGD", "weight_decay": 1.0, "regularizer": {"name": "L2", "coeff": 1.0}}, ValueError, "not both"),
        ({"name": "SGD", "clip_norm": 1.0, "clip_global_norm": 1.0}, ValueError, "not both"),
        (
            {"name": "SGD", "clip_grad": 1.0},
            TypeError,
            "'clip_grad'; did you mean clip_global_norm",
        ),
    ],
    ids=["name", "momentum", "argument", "adamw regularizer", "two decays", "two clips", "clip_grad"],
)
def test_wrong_section(model, section, error, message):
    """Defects 30 and 33: a key that does nothing, or that Paddle cannot take, is refused with the right one."""
    with pytest.raises(error, match=message):
        build_optimizer({"lr": {"learning_rate": LR}, **section}, model, 3, 5)
