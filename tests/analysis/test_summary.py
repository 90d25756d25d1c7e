"""Layer tables: sums are the counts of the whole, whatever the depth."""

import json

import numpy as np
import paddle
import pytest
from paddle import nn
from small_models import build, representatives

from ppcls_ext import cli, registry
from ppcls_ext.analysis.macs import count_macs
from ppcls_ext.analysis.summary import summarise

ONE_OF_EACH = list({spec.family: spec for spec in reversed(representatives())}.values())


@pytest.mark.parametrize("spec", ONE_OF_EACH, ids=lambda spec: spec.name)
def test_sums_are_those_of_the_network(spec):
    model = build(spec, perturb=False)
    params = sum(int(np.prod(p.shape)) for p in model.parameters())
    macs = sum(count_macs(model, (3, 56, 56)).values())
    for depth in (None, 1, 2):
        found = summarise(model, (3, 56, 56), depth)
        assert (found.params, found.macs) == (params, macs) and found.uncounted is None
        assert all(row.name.count(".") < (depth or 99) for row in found.rows)
    # Paddle's own table works on every family too, and counts the same parameters (its LSTMs' are in no row of it).
    assert paddle.summary(model, (1, 3, 56, 56))["total_params"] <= params


def test_rows_by_hand():
    class Net(nn.Layer):
        """A convolution, an LSTM over its pixels, and a scale of its own; the last layer never runs."""

        def __init__(self):
            super().__init__()
            self.scale = self.create_parameter([5])
            self.body = nn.Sequential(nn.Conv2D(2, 3, 1), nn.ReLU())
            self.lstm = nn.LSTM(3, 5)
            self.unused = nn.Identity()

        def forward(self, x):
            x = self.body(x).flatten(2).transpose([0, 2, 1])
            return self.lstm(x)[0] * self.scale

    model = Net()
    model.body[0].bias.stop_gradient = True
    rows = summarise(model, (2, 4, 6)).rows
    lstm = 4 * 5 * (3 + 5)  # gates x hidden x (input + hidden), and two biases a gate
    assert [(row.name, row.type, row.output, row.params, row.trainable, row.macs) for row in rows] == [
        ("", "Net", None, 5, 5, 0),
        ("body.0", "Conv2D", [1, 3, 4, 6], 9, 6, 24 * 6),
        ("body.1", "ReLU", [1, 3, 4, 6], 0, 0, 0),
        ("lstm", "LSTM", [1, 24, 5], lstm + 40, lstm + 40, 24 * lstm),
    ]
    names = [(row.name, row.params) for row in summarise(model, (2, 4, 6), depth=1).rows]
    assert names == [("", 5), ("body", 9), ("lstm", lstm + 40)]


def test_a_layer_that_cannot_be_counted():
    class Odd(nn.Layer):
        def __init__(self):
            super().__init__()
            self.weight = self.create_parameter([3, 3])

        def forward(self, x):
            return x.mean(axis=[2, 3]) @ self.weight

    found = summarise(nn.Sequential(Odd()), (3, 4, 4))
    assert found.macs is None and found.params == 9 and "no rule" in found.uncounted


@pytest.mark.parametrize("name", ["Sequencer2D_S", "ViP_Small_7"])
def test_the_command_agrees_with_the_registry(capsys, name):
    assert cli.main(["summary", name, "--json", "--depth", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    spec = registry.get_spec(name)
    assert found["params"] == spec.params and round(found["macs"] / 1e9, 2) == round(spec.macs / 1e9, 2)
    assert found["input"] == list(spec.preprocessing.input_size) and len(found["layers"]) >= 3


def test_the_command_as_a_table(capsys):
    pytest.importorskip("paddleclas")
    assert cli.main(["summary", "paddleclas.ResNet18", "--size", "64", "--class_num", "7"]) == 0
    out = capsys.readouterr().out
    assert "Conv2D" in out and "1×7" in out and "input 3×64×64" in out
    assert cli.main(["summary", "RsNet18"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert cli.main(["summary", "ViT_S_16_224", "--size", "50"]) == 1
    assert "multiples of 16" in capsys.readouterr().err
