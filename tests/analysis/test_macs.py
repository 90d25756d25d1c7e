"""Multiply-adds against arithmetic by hand."""

import paddle
import pytest
from paddle import nn

from ppcls_ext.analysis.macs import count_macs, rnn_macs


class Tokens(nn.Layer):
    """``[N, 2, H, W]`` -> an RNN over H * W tokens -> Linear."""

    def __init__(self, rnn, width):
        super().__init__()
        self.conv = nn.Conv2D(2, 6, 3, stride=2, padding=1, groups=2)
        self.norm = nn.LayerNorm(6)
        self.rnn = rnn
        self.fc = nn.Linear(width, 5)

    def forward(self, x):
        x = self.conv(x).flatten(2).transpose([0, 2, 1])
        return self.fc(self.rnn(self.norm(x))[0])


@pytest.mark.parametrize(
    "rnn, width, per_token",
    [
        # gates x hidden x (input + hidden), twice if bidirectional; a second layer sees both directions
        (nn.LSTM(6, 4), 4, 4 * 4 * (6 + 4)),
        (nn.LSTM(6, 4, direction="bidirect"), 8, 2 * 4 * 4 * (6 + 4)),
        (nn.GRU(6, 4, direction="bidirect"), 8, 2 * 3 * 4 * (6 + 4)),
        (nn.SimpleRNN(6, 4), 4, 4 * (6 + 4)),
        (nn.LSTM(6, 4, num_layers=2, direction="bidirect"), 8, 2 * 16 * (6 + 4) + 2 * 16 * (8 + 4)),
    ],
    ids=["lstm", "bilstm", "bigru", "rnn", "two layers"],
)
def test_rnn_conv_and_linear(rnn, width, per_token):
    model = Tokens(rnn, width)
    model.train()
    counts = count_macs(model, (2, 8, 12))
    tokens = 4 * 6  # stride 2
    assert counts == {"conv": tokens * 6 * 9, "rnn": tokens * per_token, "fc": tokens * width * 5}
    assert rnn_macs(rnn, 1) == per_token
    assert all(layer.training for layer in model.sublayers(include_self=True)), "the mode must be given back"


def test_a_layer_that_runs_twice_counts_twice():
    class Twice(nn.Layer):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(self.fc(x))

    assert count_macs(Twice(), (3, 2, 4)) == {"fc": 2 * 6 * 16}


def test_a_layer_may_count_its_own_products():
    class Attention(nn.Layer):
        def __init__(self):
            super().__init__()
            self.proj = nn.Linear(4, 4)

        def forward(self, x):  # [N, 3, 2, 4]
            return self.proj(x @ x.transpose([0, 1, 3, 2]) @ x)

        def multiply_adds(self, x, output):
            return 3 * 2 * (2 * 2 * 4)

    assert count_macs(nn.Sequential(Attention()), (3, 2, 4)) == {"0": 96, "0.proj": 6 * 16}


def test_an_unknown_layer_with_weights_is_an_error():
    class Own(nn.Layer):
        def __init__(self):
            super().__init__()
            self.weight = self.create_parameter([4, 4])

        def forward(self, x):
            return paddle.matmul(x, self.weight)

    with pytest.raises(ValueError, match="no rule to count the multiply-adds of '0', a Own with weights"):
        count_macs(nn.Sequential(Own()), (3, 2, 4))
