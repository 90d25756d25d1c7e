"""The state of a Paddle layer, each tensor once.

Paddle's ``state_dict()`` lists every tensor of an LSTM, GRU or RNN twice, under a flat name (``rnn.weight_ih_l0``) and
under its cell's (``rnn.0.cell_fw.weight_ih``). The flat one, PyTorch's, comes first. Whatever counts, averages, saves
or loads tensors goes through here.
"""

from __future__ import annotations

from typing import Mapping, Union

import numpy as np
import paddle


def unique_tensors(layer: paddle.nn.Layer) -> dict[str, tuple[paddle.Tensor, tuple[str, ...]]]:
    """Return ``first name -> (tensor, all its names)`` for the layer's state."""
    names: dict[int, list[str]] = {}
    tensors: dict[int, paddle.Tensor] = {}
    for name, tensor in layer.state_dict().items():
        names.setdefault(id(tensor), []).append(name)
        tensors.setdefault(id(tensor), tensor)
    return {all_names[0]: (tensors[key], tuple(all_names)) for key, all_names in names.items()}


def state_arrays(layer: paddle.nn.Layer) -> dict[str, np.ndarray]:
    """Return the layer's state as arrays under the first names; a file with these alone holds everything."""
    return {name: tensor_to_array(tensor) for name, (tensor, _) in unique_tensors(layer).items()}


def tensor_to_array(tensor: paddle.Tensor) -> np.ndarray:
    """Return a copy of ``tensor`` as an array; bfloat16, which NumPy lacks, becomes float32."""
    return (tensor.astype("float32") if tensor.dtype == paddle.bfloat16 else tensor).numpy()


@paddle.no_grad()
def non_finite_names(state: Mapping[str, Union[paddle.Tensor, np.ndarray]]) -> list[str]:
    """Return the names of the floating-point tensors and arrays that hold NaN or infinity, in the order of ``state``.

    Each tensor costs one sum, on the device where it is, and all sums are copied to the host at once. A sum that is not
    finite may have overflowed: only then are the elements looked at.
    """
    tensors = {name: value for name, value in state.items() if paddle.is_tensor(value) and _has_floats(value)}
    wrong: set[str] = set()
    if tensors:
        sums = paddle.stack([value.sum().astype("float32").reshape([]) for value in tensors.values()]).numpy()
        suspects = [name for name, is_finite in zip(tensors, np.isfinite(sums)) if not is_finite]
        wrong.update(name for name in suspects if not bool(paddle.isfinite(_single(tensors[name])).all()))
    with np.errstate(all="ignore"):
        for name, value in state.items():
            if isinstance(value, np.ndarray) and value.dtype.kind in "fc" and not np.isfinite(value.sum()):
                if not np.isfinite(value).all():
                    wrong.add(name)
    return [name for name in state if name in wrong]


def _has_floats(tensor: paddle.Tensor) -> bool:
    return tensor.size > 0 and tensor.is_floating_point()


def _single(tensor: paddle.Tensor) -> paddle.Tensor:
    return tensor.astype("float32") if tensor.dtype in (paddle.float16, paddle.bfloat16) else tensor
