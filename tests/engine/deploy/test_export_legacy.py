"""The operators that the legacy format needs help with on Paddle 3.3, against NumPy."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ppcls_ext.engine.deploy.exporter import PIR_FLAG
from ppcls_ext.engine.deploy.pdmodel_format import BINARY, UNARY

# Each is an expression of x [2, 3, 4], positive and below 1, and of y, another such.
EXPRESSIONS = {
    **{name: f"paddle.{name}(x)" for name in UNARY if name not in ("acosh", "logical_not", "sigmoid")},
    "acosh": "paddle.acosh(x + 1)",
    "logical_not": "paddle.logical_not(x > 0.5).astype('float32')",
    "sigmoid": "F.sigmoid(x)",
    "gelu": "F.gelu(x)",
    "gelu tanh": "F.gelu(x, approximate=True)",
    **{name: f"paddle.{name}(x, y)" for name in ("multiply", "maximum", "minimum")},
    **{name: f"paddle.{name}(x > 0.5, y > 0.5).astype('float32')" for name in BINARY if name.startswith("logical")},
    "greater_than": "paddle.greater_than(x, y).astype('float32')",
    "multiply broadcast": "paddle.multiply(x, y[:, :1, :1])",
    "matmul": "paddle.matmul(x, y, transpose_y=True)",
    "matmul method": "x.matmul(y.transpose([0, 2, 1]))",
    "matmul transpose_x": "paddle.matmul(x, y, transpose_x=True)",
    "bmm": "paddle.bmm(x, y.transpose([0, 2, 1]))",
    "sum": "paddle.sum(x).reshape([1])",
    "sum axis": "paddle.sum(x, axis=1)",
    "sum axes": "x.sum(axis=[0, -1], keepdim=True)",
    "roll": "paddle.roll(x, 1).reshape([-1])",
    "roll axes": "paddle.roll(x, [1, -2], axis=[1, 2])",
}
SCRIPT = """\
import json, sys
from pathlib import Path
from ppcls_ext.engine.deploy.engines.graphs import paddle_graph
from ppcls_ext.engine.deploy.engines.paddle_engine import PaddleEngine
from ppcls_ext.engine.deploy.paddle_writing import _write, uses_pir
import numpy as np, paddle
import paddle.nn.functional as F

class Net(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.one = self.create_parameter([1], default_initializer=paddle.nn.initializer.Constant(1.0))

    @paddle.jit.not_to_static
    def compute_at_once(self):
        # what a layer does that hands the graph a constant
        with paddle.base.dygraph.guard():
            self.computed = paddle.matmul(paddle.full([1, 3], 2.0), paddle.full([3, 1], 5.0)).item()

    def forward(self, x):
        self.compute_at_once()
        x, y = x[:, 0] * self.one, x[:, 1]
        return paddle.concat([part.reshape([-1]) for part in (EXPRESSIONS)])

net = Net()
x = np.random.default_rng(0).uniform(0.05, 0.95, (2, 2, 3, 4)).astype("float32")
eager = net(paddle.to_tensor(x)).numpy()
assert not uses_pir()
net.computed = None
_write(net, Path(sys.argv[1]), (2, 3, 4))
assert net.computed == 30
graph = paddle_graph(sys.argv[1])
assert graph.path.suffix == ".pdmodel"
assert type(paddle._C_ops.gelu).__name__ == "builtin_function_or_method"  # put back
json.dump([eager.tolist(), PaddleEngine(graph)(x)["probabilities"].tolist()], open(sys.argv[1] + "/out.json", "w"))
"""


@pytest.mark.slow
@pytest.mark.compat
def test_the_operators_compute_in_the_graph_what_they_compute_in_dygraph(tmp_path):
    script = tmp_path / "trace.py"  # a file, because tracing reads the source
    script.write_text(SCRIPT.replace("EXPRESSIONS", ", ".join(EXPRESSIONS.values())))
    root = str(Path(__file__).parents[3])
    environment = {**os.environ, PIR_FLAG: "0", "PYTHONPATH": root}
    subprocess.run([sys.executable, str(script), str(tmp_path)], env=environment, check=True, timeout=200)
    eager, graph = map(np.array, json.loads((tmp_path / "out.json").read_text()))
    np.testing.assert_allclose(graph, eager, rtol=0, atol=1e-6)
    # and eager is what the names mean
    x = np.random.default_rng(0).uniform(0.05, 0.95, (2, 2, 3, 4)).astype("float32")[:, 0]
    np.testing.assert_allclose(eager[: x.size], np.abs(x).ravel(), atol=0)
    assert list(EXPRESSIONS)[0] == "abs" and list(EXPRESSIONS)[-1] == "roll axes"
    np.testing.assert_allclose(eager[-x.size :], np.roll(x, [1, -2], axis=[1, 2]).ravel(), atol=0)
