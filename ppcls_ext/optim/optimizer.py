"""Optimizers with PaddleClas's arguments.

Every parameter goes to Paddle in one flat list. Parameter groups would look more natural, but Paddle clips each group
by its own norm, so that a "global" norm would not be global. What differs between parameters is set on them instead:
Paddle reads the learning-rate scale from ``optimize_attr`` and a parameter's own regularizer from ``regularizer``.
"""

from __future__ import annotations

from typing import Mapping, Optional

import paddle
from paddle import nn
from paddle.regularizer import L1Decay, L2Decay

from ppcls_ext.optim.checks import optimizer_problems
from ppcls_ext.optim.lr import build_lr_scheduler
from ppcls_ext.optim.parameters import ParameterSetting, parameter_settings
from ppcls_ext.utils.spelling import nearest

#: Name in the YAML -> arguments of the class in ``paddle.optimizer`` with their defaults; ``...`` is required.
OPTIMIZERS: dict[str, dict] = {
    "SGD": {"multi_precision": False},
    "Momentum": {"momentum": ..., "use_nesterov": False, "multi_precision": True},
    "RMSProp": {"momentum": 0.0, "rho": 0.95, "epsilon": 1e-6},
    "Adam": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "lazy_mode": False, "multi_precision": False},
    "AdamW": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "multi_precision": False},
    "Lamb": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-6, "always_adapt": False, "multi_precision": False},
    "NAdam": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "momentum_decay": 0.004},
    "RAdam": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
}
#: PaddleClas's name for AdamW with layer-wise decay.
ALIASES = {"AdamWDL": "AdamW"}
#: Optimizers that decay the weights themselves, next to the gradient.
DECOUPLED = ("AdamW", "Lamb")
_REGULARIZERS = {"L1": L1Decay, "L2": L2Decay}


class _NoDecay(L2Decay):
    """Marks a parameter that we exempt, to be told from a regularizer that the model itself has set."""

    def __init__(self):
        super().__init__(0.0)


def build_optimizer(section: Mapping, model: nn.Layer, epochs: int, steps_per_epoch: int) -> tuple:
    """Build the optimizer and the learning-rate schedule of the ``Optimizer`` section.

    Args:
        section: ``{"name": ..., "lr": {...}, **arguments}``; keys that are None count as absent.
        model: the model, not wrapped in ``DataParallel``.
        epochs: length of the run.
        steps_per_epoch: optimizer steps an epoch.

    Returns:
        ``(optimizer, lr_scheduler)``; see :func:`build_lr_scheduler` for the latter.

    Raises:
        KeyError: if the optimizer or schedule is unknown; the message names the nearest.
        ValueError: if arguments are missing or contradict each other, or this Paddle lacks the optimizer.
        TypeError: if an argument does not belong to the optimizer.
    """
    section = {key: value for key, value in section.items() if value is not None}
    name = section.pop("name", None)
    kind = ALIASES.get(name, name)
    if kind not in OPTIMIZERS:
        known = [*OPTIMIZERS, *ALIASES]
        raise KeyError(f"unknown optimizer {name!r}; supported: {', '.join(nearest(str(name), known) or known)}")
    if "lr" not in section:
        raise ValueError(f"the optimizer {name} needs lr")
    for key, problem in optimizer_problems({"name": kind, **section}):
        raise ValueError(f"{key}: {problem}")
    scheduler = build_lr_scheduler(section.pop("lr"), epochs, steps_per_epoch)
    clip = _gradient_clip(section)
    decay = _decay(kind, section)
    exemptions = ("one_dim_param_no_weight_decay", "no_weight_decay_name", "layerwise_decay")
    settings = parameter_settings(model, **{key: section.pop(key) for key in exemptions if key in section})
    arguments = dict(OPTIMIZERS[kind])
    for key, value in section.items():
        if key not in arguments:
            hint = nearest(key, [*arguments, *exemptions, "weight_decay", "regularizer", "clip_global_norm"])
            raise TypeError(f"{name} has no argument {key!r}" + (f"; did you mean {hint[0]}?" if hint else ""))
        arguments[key] = value
    missing = [key for key, value in arguments.items() if value is ...]
    if missing:
        raise ValueError(f"the optimizer {name} needs {', '.join(missing)}")
    _mark(settings, exempt=kind not in DECOUPLED)
    decaying = {setting.parameter.name for setting in settings if setting.decay}
    if kind == "AdamW":
        arguments["apply_decay_param_fun"] = decaying.__contains__
    if kind == "Lamb":
        arguments["lamb_weight_decay"] = decay
        arguments["exclude_from_weight_decay_fn"] = lambda parameter: parameter.name not in decaying
    else:
        arguments["weight_decay"] = decay
    optimizer = getattr(paddle.optimizer, kind)(
        learning_rate=scheduler,
        parameters=[setting.parameter for setting in settings],
        grad_clip=clip,
        **arguments,
    )
    return optimizer, scheduler


def _gradient_clip(section: dict) -> Optional[nn.ClipGradByNorm]:
    """Take the clipping keys out of ``section``."""
    global_norm, tensor_norm = section.pop("clip_global_norm", None), section.pop("clip_norm", None)
    if global_norm is not None:
        return nn.ClipGradByGlobalNorm(global_norm)
    return nn.ClipGradByNorm(tensor_norm) if tensor_norm is not None else None


def _decay(kind: str, section: dict):
    """Take the decay keys out of ``section``; return what ``paddle.optimizer`` takes as ``weight_decay``."""
    weight_decay, regularizer = section.pop("weight_decay", None), section.pop("regularizer", None)
    if kind in DECOUPLED:
        if regularizer is not None:
            raise ValueError(f"{kind} decays the weights themselves: give weight_decay instead of regularizer")
        return float(weight_decay or 0.0)
    if regularizer is not None:
        if regularizer["name"] not in _REGULARIZERS:
            raise KeyError(f"unknown regularizer {regularizer['name']!r}; supported: {', '.join(_REGULARIZERS)}")
        return _REGULARIZERS[regularizer["name"]](float(regularizer["coeff"]))
    return float(weight_decay) if weight_decay else None


def _mark(settings: list[ParameterSetting], exempt: bool) -> None:
    """Write the settings onto the parameters; a second call undoes the first."""
    for setting in settings:
        parameter = setting.parameter
        if isinstance(parameter.regularizer, _NoDecay):
            parameter.regularizer = None
        if exempt and not setting.decay and parameter.regularizer is None:
            parameter.regularizer = _NoDecay()
        attributes = parameter.optimize_attr
        # A model may scale the rate of a parameter itself; ours multiplies that.
        own = attributes.setdefault("own_learning_rate", attributes["learning_rate"])
        attributes["learning_rate"] = own * setting.lr_scale
