"""Seeding that depends only on the seed, the rank and the step."""

from __future__ import annotations

import random

import numpy as np
import paddle


def seed_everything(seed: int, rank: int = 0, step: int = 0) -> None:
    """Seed Paddle, NumPy and Python from the run's seed, the process and the step.

    The engine calls this before each step, so the state of the generators follows from the step number: a resumed run
    draws the numbers that the uninterrupted one would have drawn, and no generator state has to be saved.
    """
    words = np.random.SeedSequence([seed, rank, step]).generate_state(2)
    paddle.seed(int(words[0]))
    np.random.seed(int(words[1]))
    random.seed(int(words[1]))
