"""Recompute under DataParallel: two processes (gloo, CPU) give the gradients of one process with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from ppcls_ext.arch.backbone.sequencer import Sequencer2D

SIZES = {"depths": [1, 2], "patch_sizes": [7, 2], "embed_dims": [8, 12], "hidden_sizes": [2, 3], "mlp_ratios": [3, 3]}
SCRIPT = f"""
import sys
import numpy as np, paddle
from ppcls_ext.arch.backbone.sequencer import Sequencer2D
paddle.distributed.init_parallel_env()
rank = paddle.distributed.get_rank()
model = Sequencer2D(class_num=3, **{SIZES!r})
model.set_state_dict(dict(np.load(sys.argv[1] + "/weights.npz")))
model.set_recompute(True)
parallel = paddle.DataParallel(model)
images = np.load(sys.argv[1] + "/images.npy")[2 * rank : 2 * rank + 2]
parallel(paddle.to_tensor(images)).pow(2).mean().backward()
np.savez(sys.argv[1] + f"/gradients{{rank}}.npz", **{{n: p.grad.numpy() for n, p in model.named_parameters()}})
"""


@pytest.mark.slow
@pytest.mark.compat
def test_two_processes_give_the_gradients_of_one(tmp_path):
    paddle.seed(0)
    model = Sequencer2D(class_num=3, **SIZES)
    for parameter in model.parameters():
        parameter.set_value(parameter + 0.1 * paddle.randn(parameter.shape))
    images = paddle.randn([4, 3, 28, 28])
    np.savez(tmp_path / "weights.npz", **{name: p.numpy() for name, p in model.named_parameters()})
    np.save(tmp_path / "images.npy", images.numpy())
    (tmp_path / "step.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--backend", "gloo"]
    run = subprocess.run(
        [*launch, "--log_dir", str(tmp_path / "log"), str(tmp_path / "step.py"), str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    nn.functional.mse_loss(model(images), paddle.zeros([4, 3])).backward()
    for rank in range(2):
        gradients = np.load(tmp_path / f"gradients{rank}.npz")
        for name, parameter in model.named_parameters():
            np.testing.assert_allclose(gradients[name], parameter.grad.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)


def environment() -> dict:
    """Return this process' environment without what a launcher left in it, with the checkout importable."""
    root = str(Path(__file__).parents[2])
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PADDLE_", "FLAGS_", "OMP_"))}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, [root, kept.get("PYTHONPATH")])), "OMP_NUM_THREADS": "1"}
