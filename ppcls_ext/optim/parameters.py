"""Which parameter decays, and how fast each one learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence

import paddle
from paddle import nn


@dataclass(frozen=True)
class ParameterSetting:
    """How one parameter tensor is to be optimised."""

    parameter: paddle.Tensor
    names: tuple  # every structured name of the tensor: an LSTM of Paddle keeps each of its tensors under two
    decay: bool
    lr_scale: float = 1.0


def structured_names(model: nn.Layer) -> list[tuple]:
    """Return ``(parameter, names)`` once for each parameter tensor, in the order of ``model.parameters()``."""
    names: dict[int, list[str]] = {}
    parameters: dict[int, paddle.Tensor] = {}
    for prefix, layer in model.named_sublayers(include_self=True):
        for name, parameter in layer._parameters.items():
            if parameter is not None:
                parameters.setdefault(id(parameter), parameter)
                names.setdefault(id(parameter), []).append(f"{prefix}.{name}" if prefix else name)
    return [(parameter, tuple(names[key])) for key, parameter in parameters.items()]


def parameter_settings(
    model: nn.Layer,
    one_dim_param_no_weight_decay: bool = False,
    no_weight_decay_name: Optional[str] = None,
    layerwise_decay: Optional[float] = None,
) -> list[ParameterSetting]:
    """Decide decay and learning-rate scale of every parameter tensor of ``model``.

    A tensor does not decay if it has one dimension (with ``one_dim_param_no_weight_decay``), if one of the space
    separated parts of ``no_weight_decay_name`` occurs in one of its names, or if it has more than one dimension and
    the model's own ``no_weight_decay()`` lists it, as models do with position embeddings: whether biases and norms
    decay stays the recipe's choice. With ``layerwise_decay`` r the i-th of the L groups of ``model.layer_groups()``
    (``[(group, [parameter names])]`` from the input on) learns at ``r ** (L - 1 - i)`` times the rate, as in ELECTRA
    (Clark et al., arXiv 2003.10555).

    Args:
        model: the model, not wrapped in ``DataParallel``.
        one_dim_param_no_weight_decay: leave out biases and the scales and shifts of norms.
        no_weight_decay_name: space separated parts of names.
        layerwise_decay: the ratio r in (0, 1], for models that have ``layer_groups()``.

    Raises:
        ValueError: if ``layerwise_decay`` is asked of a model without layer groups, is out of range, or a group names
            a parameter that the model lacks, twice, or leaves one out.
    """
    parts = (no_weight_decay_name or "").split()
    own = set(model.no_weight_decay()) if hasattr(model, "no_weight_decay") else set()
    tensors = structured_names(model)
    scales = _layer_scales(model, tensors, layerwise_decay) if layerwise_decay is not None else {}
    settings = []
    for parameter, names in tensors:
        exempt = (
            (one_dim_param_no_weight_decay and parameter.ndim <= 1)
            or any(part in name for part in parts for name in names)
            or (parameter.ndim > 1 and not own.isdisjoint(names))
        )
        settings.append(ParameterSetting(parameter, names, not exempt, scales.get(id(parameter), 1.0)))
    return settings


def _layer_scales(model: nn.Layer, tensors: Sequence[tuple], ratio: float) -> dict:
    """Return the learning-rate scale by ``id`` of the parameter."""
    if not 0 < ratio <= 1:
        raise ValueError(f"layerwise_decay must be in (0, 1], got {ratio!r}")
    if not hasattr(model, "layer_groups"):
        raise ValueError(
            f"layerwise_decay needs a model that has layer_groups(); {type(model).__name__} has none; "
            "leave layerwise_decay out"
        )
    groups = list(model.layer_groups())
    by_name = {name: parameter for parameter, names in tensors for name in names}
    scales: dict[int, float] = {}
    for index, (_, members) in enumerate(groups):
        for name in members:
            if name not in by_name:
                raise ValueError(
                    f"layer_groups() of {type(model).__name__} names {name!r}, which is no parameter of it"
                )
            key = id(by_name[name])
            if key in scales:
                raise ValueError(f"layer_groups() of {type(model).__name__} holds {name!r} twice")
            scales[key] = ratio ** (len(groups) - 1 - index)
    missing = [names[0] for parameter, names in tensors if id(parameter) not in scales]
    if missing:
        raise ValueError(f"layer_groups() of {type(model).__name__} leaves out {', '.join(missing[:5])}")
    return scales
