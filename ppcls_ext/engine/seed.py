"""Seeding that depends on nothing but the seed, the rank and the step."""

from __future__ import annotations

import random

import numpy as np
import paddle


def seed_everything(seed: int, rank: int = 0, step: int = 0) -> None:
    """Seed Paddle, NumPy and Python from the run's seed, the process and the step.

    The engine calls this before each step, so that the state of the generators follows from the step number: a resumed
    run draws what the unbroken one would have drawn, and there is no state of many processes to gather and keep.
    """
    words = np.random.SeedSequence([seed, rank, step]).generate_state(2)
    paddle.seed(int(words[0]))
    np.random.seed(int(words[1]))
    random.seed(int(words[1]))
