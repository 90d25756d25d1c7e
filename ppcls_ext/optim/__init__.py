"""Optimizers and learning-rate schedules under PaddleClas's names, on top of ``paddle.optimizer``."""

from __future__ import annotations

from ppcls_ext.optim.checks import optimizer_problems, schedule_problems
from ppcls_ext.optim.lr import SCHEDULERS, build_lr_scheduler
from ppcls_ext.optim.optimizer import OPTIMIZERS, build_optimizer
from ppcls_ext.optim.parameters import ParameterSetting, parameter_settings
from ppcls_ext.optim.scaling import describe_scaling, scale_learning_rates

__all__ = [
    "OPTIMIZERS",
    "SCHEDULERS",
    "ParameterSetting",
    "build_lr_scheduler",
    "build_optimizer",
    "describe_scaling",
    "optimizer_problems",
    "parameter_settings",
    "scale_learning_rates",
    "schedule_problems",
]
