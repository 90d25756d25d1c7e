"""Running an exported graph of Paddle without a predictor around it."""

from ppcls_ext.engine.deploy.engines.graphs import paddle_graph
from ppcls_ext.engine.deploy.engines.paddle_engine import PaddleEngine


def run_paddle(folder, images):
    """Return the only result of the graph in ``folder``."""
    (result,) = PaddleEngine(paddle_graph(folder))(images).values()
    return result
