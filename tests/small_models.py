"""Small instances of the backbones, for tests of all families."""

import json

import numpy as np
import paddle
from families import small_arguments

from ppcls_ext import registry


def representatives() -> list:
    """Return the backbones without those that, made small, are an earlier one (S, M, L and their sizes)."""
    chosen: dict = {}
    for spec in registry.specs():
        small = {**spec.factory.arguments, **small_arguments(spec)}
        chosen.setdefault(json.dumps([spec.family, small]), spec)
    return list(chosen.values())


def build(spec, perturb=True, **kwargs):
    """Build a small instance; ``perturb`` adds noise to every parameter, so that none is zero by initialisation."""
    paddle.seed(1)
    model = spec.factory(**{**small_arguments(spec), **kwargs})
    if perturb:
        for parameter in model.parameters():
            parameter.set_value(parameter + 0.1 * paddle.randn(parameter.shape))
    return model


def images(*shape, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


def multiple(model) -> int:
    """Return a number of pixels whose multiples every network takes as height and width."""
    return max(model.stage_strides)
