"""This process's place in a distributed run: device, rank, and the collectives that the engine needs."""

from __future__ import annotations

import os

import numpy as np
import paddle
import paddle.distributed as dist


class Session:
    """This process in a distributed run, or the only one.

    Attributes:
        rank: number of this process, 0 to ``world_size`` - 1.
        world_size: number of processes, on all nodes.
        nodes: number of machines, each with its own launcher.
        device: Paddle's device string, such as ``cpu`` or ``gpu:0``.
    """

    def __init__(self, device: str):
        environment = dist.ParallelEnv()
        self.world_size = environment.world_size
        # The launcher gives each process its card through the environment; on CPU there is no such number.
        self.device = device if device == "cpu" else f"{device}:{environment.device_id}"
        paddle.set_device(self.device)
        if self.world_size > 1 and not dist.is_initialized():
            dist.init_parallel_env()
        self.rank = dist.get_rank() if self.world_size > 1 else 0
        self.nodes = int(os.environ.get("PADDLE_NNODES") or 1)  # set by the launcher

    @property
    def is_main(self) -> bool:
        """Whether this process, the first of the first node, writes files and the console."""
        return self.rank == 0

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of ``values`` over all processes; every process must call it."""
        values = np.asarray(values, dtype=np.float64)
        if self.world_size == 1:
            return values
        tensor = paddle.to_tensor(values)
        dist.all_reduce(tensor)
        return tensor.numpy()

    def gather(self, value: float) -> np.ndarray:
        """Return the ``value`` of each process, by rank; every process must call it."""
        values = np.zeros(self.world_size)
        values[self.rank] = value
        return self.sum(values)

    def gather_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows of all processes, those of rank 0 first; every process must call it.

        Args:
            rows: int64 or float32 ``[n, ...]``; n may differ from process to process, the rest must not.
        """
        if self.world_size == 1:
            return rows
        counts = self.gather(len(rows)).astype(np.int64)
        padded = np.zeros((max(1, int(counts.max())), *rows.shape[1:]), rows.dtype)
        padded[: len(rows)] = rows
        parts: list = []
        dist.all_gather(parts, paddle.to_tensor(padded))
        return np.concatenate([part.numpy()[:count] for part, count in zip(parts, counts)])
