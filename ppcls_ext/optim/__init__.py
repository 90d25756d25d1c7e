"""Optimizers and learning-rate schedules under PaddleClas's names, on top of ``paddle.optimizer``."""

from __future__ import annotations

from .lr import SCHEDULERS, build_lr_scheduler
from .optimizer import OPTIMIZERS, build_optimizer
from .parameters import ParameterSetting, parameter_settings
from .scaling import describe_scaling, scale_learning_rates

__all__ = [
    "OPTIMIZERS",
    "SCHEDULERS",
    "ParameterSetting",
    "build_lr_scheduler",
    "build_optimizer",
    "describe_scaling",
    "parameter_settings",
    "scale_learning_rates",
]
