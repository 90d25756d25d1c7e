"""Sequencer against the reference implementations: counts, logits, features, gradients, initial values."""

import compare
import numpy as np
import paddle
import pytest
from scipy import stats

from ppcls_ext import registry
from ppcls_ext.analysis.macs import count_macs

SEQUENCERS = [spec for spec in registry.specs() if spec.family == "Sequencer"]
COMPAT = {"Sequencer2D_S", "Sequencer2D_S_unidirectional", "GRUSequencer2D_S", "VSequencer_S_PE", "Sequence_2d"}


def closed_form_macs(config: dict, size: int) -> int:
    """Multiply-adds by the formulas of the paper, from the arguments alone."""
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[config["rnn_type"]]
    directions = 2 if config["bidirectional"] else 1
    union = config.get("union", "vanilla")
    total, side, width_before = 0, size, 3
    for stage, depth in enumerate(config["depths"]):
        patch, c, d = (config[key][stage] for key in ("patch_sizes", "embed_dims", "hidden_sizes"))
        side //= patch
        rnns = 2 if union in ("cat", "add") else 1
        mixer = rnns * directions * gates * d * (c + d)
        if config.get("with_fc"):
            mixer += c * d * directions * (2 if union == "cat" else 1)
        mlp = 2 * c * int(config["mlp_ratios"][stage] * c)
        total += side * side * (patch * patch * width_before * c + depth * (mixer + mlp))
        width_before = c
    return total + width_before * 1000


@pytest.mark.sampled
@pytest.mark.parametrize(
    "spec", [pytest.param(s, id=s.name, marks=[pytest.mark.compat] if s.name in COMPAT else []) for s in SEQUENCERS]
)
def test_equals_the_reference(spec):
    """Parameters, MACs, logits and every stage's features, on the same weights."""
    paddle.seed(0)
    model = spec.factory()
    params, gmacs = compare.COUNTS[spec.name].values()
    assert sum(p.size for p in model.parameters()) == spec.params == params
    assert round(spec.macs / 1e9, 2) == gmacs
    native = spec.preprocessing.input_size[1]
    assert spec.macs == closed_form_macs(model.config(), native)
    small = 28
    assert sum(count_macs(model, (3, small, small)).values()) == closed_form_macs(model.config(), small)
    logits, stages = compare.differences(model, spec)
    assert max(stages) < 1e-4, f"features differ by {stages}"
    assert logits < 2e-5


@pytest.mark.compat
def test_gradients_equal_the_reference():
    """Norm and elements of the gradient of every parameter of Sequencer2D_S, relative 1e-4."""
    spec = registry.get_spec("Sequencer2D_S")
    model = spec.factory()
    assert len(model.parameters()) == 480
    assert len(model.state_dict()) == 768, "18 blocks x 16 second names of LSTM tensors"
    compare.check_gradients(model, spec)


@pytest.fixture(scope="module")
def initial_values():
    paddle.seed(2205)
    # Both directions and both axes draw alike.
    model = registry.get_spec("Sequencer2D_S").factory()
    return compare.initial_values(model, lambda name: name.replace("_reverse", "").replace("rnn_v", "rnn_h"))


@pytest.mark.compat
def test_initial_values_are_distributed_as_the_references(initial_values):
    """Two-sample Kolmogorov-Smirnov test of every kind of parameter against draws of the official code."""
    compare.check_initial_values(initial_values, "Sequencer")


def test_initial_values_have_the_stated_distributions(initial_values):
    """One-sample test against the distributions that the paper's code names, on up to 100,000 values."""
    xavier = np.sqrt(6 / (384 + 1152))
    lecun = 1 / np.sqrt(3 * 7 * 7) / 0.87962566103423978
    stated = {
        "stages.blocks.mlp_channels.fc1.weight 384": stats.uniform(-xavier, 2 * xavier),
        "stages.blocks.mlp_channels.fc1.bias 1152": stats.norm(0, 1e-6),
        "stages.blocks.rnn_tokens.rnn_h.weight_ih_l0 384": stats.uniform(-(96**-0.5), 2 * 96**-0.5),
        "stages.blocks.rnn_tokens.rnn_h.bias_hh_l0 384": stats.uniform(-(96**-0.5), 2 * 96**-0.5),
        "stem.proj.weight 147": stats.truncnorm(-2, 2, scale=lecun),
    }
    for kind, distribution in stated.items():
        assert stats.kstest(initial_values[kind][:100_000], distribution.cdf).pvalue > 1e-3, kind
    assert np.all(initial_values["head.weight 384"] == 0)
    assert np.all(initial_values["norm.weight 384"] == 1)


def test_head_bias_and_the_other_initialisation():
    model = registry.get_spec("Sequencer2D_S").factory(class_num=10, depths=[1, 1, 1, 1], nlhb=True)
    np.testing.assert_allclose(model.head.bias.numpy(), -np.log(10), rtol=1e-6)
    seed_model = registry.get_spec("Sequence_2d").factory(depths=[1, 1, 1, 1])
    truncated = stats.truncnorm(-2, 2, scale=0.02)
    for layer in (seed_model.head, seed_model.stages[1].blocks[0].mlp_channels.fc1):
        assert stats.kstest(layer.weight.numpy().reshape(-1), truncated.cdf).pvalue > 1e-3
        assert np.all(layer.bias.numpy() == 0)
