"""Optimizer state under the names of the model's parameters.

Paddle names an accumulator after the parameter's global name, ``linear_14.w_0_moment1_0``, a counter of the process: a
layer built earlier shifts it, and the state then fits nothing. On disk the key is ``head.weight/moment1_0``.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any, Container, Optional

import numpy as np
import paddle

from ppcls_ext.utils.state_dict import tensor_to_array

logger = logging.getLogger("ppcls_ext")

LR_SCHEDULER = "LR_Scheduler"
MASTER_WEIGHTS = "master_weights"


class OptimizerStateError(ValueError):
    """The state belongs to other parameters, or is damaged."""


def named_accumulators(optimizer: paddle.optimizer.Optimizer, model: paddle.nn.Layer) -> dict[str, paddle.Tensor]:
    """Return the optimizer's tensors under their names on disk; master weights as ``<parameter>/master_weight``.

    Raises:
        OptimizerStateError: if an accumulator belongs to no parameter of ``model``.
    """
    structured = {parameter.name: name for name, parameter in model.named_parameters()}
    tensors = {}
    for key, value in optimizer.state_dict().items():
        if key == MASTER_WEIGHTS:
            tensors.update({f"{structured[name]}/master_weight": tensor for name, tensor in value.items()})
        elif key != LR_SCHEDULER:
            owner = _owner(key, structured)
            if owner is None:
                raise OptimizerStateError(f"the optimizer's {key} belongs to no parameter of {type(model).__name__}")
            tensors[f"{structured[owner]}/{key[len(owner) + 1 :]}"] = value
    return tensors


def _owner(key: str, names: Container) -> Optional[str]:
    """Return the longest of ``names`` that ``key`` begins with: linear_1.w_0_deepcopy_3 rather than linear_1.w_0."""
    while "_" in key:
        key = key.rpartition("_")[0]
        if key in names:
            return key
    return None


def to_disk(optimizer: paddle.optimizer.Optimizer, model: paddle.nn.Layer) -> dict[str, Any]:
    """Return the optimizer's state as arrays, under the names that ``model.named_parameters()`` gives.

    Raises:
        OptimizerStateError: if an accumulator belongs to no parameter of ``model``.
    """
    state: dict[str, Any] = {}
    for key, tensor in named_accumulators(optimizer, model).items():
        name, _, accumulator = key.partition("/")
        if accumulator == "master_weight":
            state.setdefault(MASTER_WEIGHTS, {})[name] = tensor_to_array(tensor)
        else:
            state[key] = tensor_to_array(tensor)
    schedule = optimizer.state_dict().get(LR_SCHEDULER)
    return {**state, LR_SCHEDULER: schedule} if schedule is not None else state


def from_disk(state: dict[str, Any], optimizer: paddle.optimizer.Optimizer, model: paddle.nn.Layer) -> None:
    """Put what :func:`to_disk` returned into an optimizer that has not stepped yet.

    The state of a different kind of optimizer or schedule is left out: that one begins afresh.

    Raises:
        OptimizerStateError: naming the parameters that only one of state and model has, or what is damaged.
    """
    parameters = dict(model.named_parameters())
    trained = {name for name, parameter in parameters.items() if parameter.trainable}
    of_state = {key.partition("/")[0] for key in state if "/" in key}
    if of_state - set(parameters):
        raise OptimizerStateError(
            f"the optimizer state has parameters unknown to the model: {_list(of_state - set(parameters))}"
        )
    if of_state and trained - of_state:
        raise OptimizerStateError(f"the optimizer state lacks parameters of the model: {_list(trained - of_state)}")
    schedule, own_schedule = state.get(LR_SCHEDULER), optimizer.state_dict().get(LR_SCHEDULER)
    is_same_kind = isinstance(schedule, dict) and own_schedule is not None and set(schedule) == set(own_schedule)
    restored = {} if own_schedule is None else {LR_SCHEDULER: schedule if is_same_kind else own_schedule}
    own = _own_accumulators(optimizer)
    if own and not own.issuperset(key.partition("/")[2].rpartition("_")[0] for key in state if "/" in key):
        logger.warning("the checkpoint has the state of a different optimizer; %s begins afresh", _kind(optimizer))
        state = {}
    for key, value in state.items():
        if key == LR_SCHEDULER:
            continue
        if key == MASTER_WEIGHTS:
            # The names of a master weight's accumulators begin with its own name, which is Paddle's for it.
            restored[key] = {
                parameters[name].name: _tensor(array, f"{parameters[name].name}_fp32_master_0", parameters[name], name)
                for name, array in _mapping(value, key).items()
                if name in trained
            }
        else:
            name, _, accumulator = key.partition("/")
            if name not in trained:
                continue  # frozen since
            full_name = f"{parameters[name].name}_{accumulator}"
            restored[full_name] = _tensor(value, full_name, parameters[name], key)
    with warnings.catch_warnings():
        # A warm-up keeps the state of the schedule after it in its own, and Paddle warns of the entries it adds.
        warnings.filterwarnings("ignore", message="There are some unused values in state_dict")
        optimizer.set_state_dict(restored)


def _kind(optimizer: paddle.optimizer.Optimizer) -> str:
    return type(optimizer).__name__


def _own_accumulators(optimizer: paddle.optimizer.Optimizer) -> set:
    """Return the names of the accumulators of this kind of optimizer, such as ``moment1``; SGD has none.

    Paddle creates them in the first step, but their names are attributes of the class.
    """
    names = {getattr(optimizer, name) for name in dir(type(optimizer)) if name.endswith("_acc_str")}
    return {name for name in names if isinstance(name, str)} | {f"fp32_master_0_{name}" for name in names}


def _mapping(value: Any, key: str) -> dict:
    if not isinstance(value, dict):
        raise OptimizerStateError(f"the optimizer state's {key} holds a {type(value).__name__}, not a mapping")
    return value


def _tensor(array: Any, name: str, parameter: paddle.Tensor, key: str) -> paddle.Tensor:
    """Return the accumulator of a parameter: it has the parameter's shape, or a single element."""
    array = np.asarray(array)
    if array.dtype.kind not in "fiub" or (list(array.shape) != list(parameter.shape) and array.size != 1):
        raise OptimizerStateError(
            f"the optimizer state's {key} is {array.dtype}{list(array.shape)}; its parameter is {list(parameter.shape)}"
        )
    tensor = paddle.to_tensor(array)
    tensor.name = name
    return tensor


def _list(names: set) -> str:
    shown = sorted(names)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
