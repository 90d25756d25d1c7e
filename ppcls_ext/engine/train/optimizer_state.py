"""Optimizer state under the names of the model's parameters.

Paddle names an accumulator after the parameter's global name, ``linear_14.w_0_moment1_0``, a counter of the process: a
layer built earlier shifts it, and the state then fits nothing. On disk the key is ``head.weight/moment1_0``.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import paddle

from ppcls_ext.utils.state_dict import tensor_to_array

LR_SCHEDULER = "LR_Scheduler"
MASTER_WEIGHTS = "master_weights"


class OptimizerStateError(ValueError):
    """The state belongs to other parameters."""


def to_disk(optimizer: paddle.optimizer.Optimizer, model: paddle.nn.Layer) -> dict[str, Any]:
    """Return the optimizer's state as arrays, under the names that ``model.named_parameters()`` gives.

    Raises:
        OptimizerStateError: if an accumulator belongs to no parameter of ``model``.
    """
    structured = {parameter.name: name for name, parameter in model.named_parameters()}
    by_length = sorted(structured, key=len, reverse=True)  # linear_1.w_0_deepcopy_3 before linear_1.w_0
    state = {}
    for key, value in optimizer.state_dict().items():
        if key == LR_SCHEDULER:
            state[key] = value
        elif key == MASTER_WEIGHTS:
            state[key] = {structured[name]: tensor_to_array(tensor) for name, tensor in value.items()}
        else:
            owner = next((name for name in by_length if key.startswith(name + "_")), None)
            if owner is None:
                raise OptimizerStateError(f"the optimizer's {key} belongs to no parameter of {type(model).__name__}")
            state[f"{structured[owner]}/{key[len(owner) + 1 :]}"] = tensor_to_array(value)
    return state


def from_disk(state: dict[str, Any], optimizer: paddle.optimizer.Optimizer, model: paddle.nn.Layer) -> None:
    """Put what :func:`to_disk` returned into an optimizer that has not stepped yet.

    Raises:
        OptimizerStateError: naming the parameters that the state has and the model has not, or the other way round.
    """
    own = {name: parameter for name, parameter in model.named_parameters() if parameter.trainable}
    of_state = {key.partition("/")[0] for key in state if "/" in key}
    if of_state - set(own):
        raise OptimizerStateError(
            f"the optimizer state has parameters unknown to the model: {_list(of_state - set(own))}"
        )
    if of_state and set(own) - of_state:
        raise OptimizerStateError(f"the optimizer state lacks parameters of the model: {_list(set(own) - of_state)}")
    restored = {}
    for key, value in state.items():
        if key == LR_SCHEDULER:
            restored[key] = value
        elif key == MASTER_WEIGHTS:
            # The names of a master weight's accumulators begin with its own name, which is Paddle's for it.
            restored[key] = {
                own[name].name: _tensor(array, f"{own[name].name}_fp32_master_0") for name, array in value.items()
            }
        else:
            name, _, accumulator = key.partition("/")
            full_name = f"{own[name].name}_{accumulator}"
            restored[full_name] = _tensor(value, full_name)
    with warnings.catch_warnings():
        # A warm-up keeps the state of the schedule after it in its own, and then wonders about it.
        warnings.filterwarnings("ignore", message="There are some unused values in state_dict")
        optimizer.set_state_dict(restored)


def _tensor(array: np.ndarray, name: str) -> paddle.Tensor:
    tensor = paddle.to_tensor(np.asarray(array))
    tensor.name = name
    return tensor


def _list(names: set) -> str:
    shown = sorted(names)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
