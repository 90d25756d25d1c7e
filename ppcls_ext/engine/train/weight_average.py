"""An average of the weights beside the model: what moving averages and stochastic weight averaging share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import paddle

from ppcls_ext.utils.state_dict import tensor_to_array, unique_tensors


class WeightAverage:
    """Keeps ``average = average + share · (weight - average)`` for every floating-point tensor, in float32.

    In this form a tensor that does not change, such as a frozen weight, is its own average bit for bit.

    Each tensor counts once, though Paddle lists LSTM tensors under two names. The weights are read from the parameters
    themselves, or from the optimizer's float32 master weights under AMP O2.

    Args:
        model: the model to follow; the average begins as its weights.

    Attributes:
        updates: how often weights were taken in.
    """

    def __init__(self, model: paddle.nn.Layer):
        self.updates = 0
        self._model = model
        self._shadow = {name: tensor.detach().astype("float32").clone() for name, tensor in self._followed().items()}

    def _followed(self) -> dict[str, paddle.Tensor]:
        tensors = {name: tensor for name, (tensor, _) in unique_tensors(self._model).items()}
        return {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}

    @paddle.no_grad()
    def take_in(self, share: float, master_weights: dict[str, paddle.Tensor] | None = None) -> None:
        """Move the average towards the weights.

        Args:
            share: of the way, from 0 to 1.
            master_weights: float32 weights by global parameter name, as the optimizer keeps them under AMP O2.
        """
        self.updates += 1
        for name, tensor in self._followed().items():
            weight = (master_weights or {}).get(tensor.name, tensor)
            shadow = self._shadow[name]
            shadow.add_((weight.astype("float32") - shadow) * share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averaged weights into the model for the length of a ``with`` block."""
        backup = {name: tensor.clone() for name, tensor in self._followed().items()}
        self._put(self._shadow)
        try:
            yield
        finally:
            self._put(backup)

    @paddle.no_grad()
    def _put(self, tensors: dict[str, paddle.Tensor]) -> None:
        for name, tensor in self._followed().items():
            tensor.set_value(tensors[name].astype(tensor.dtype))

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the averaged weights as a complete model state (integer buffers are the model's own)."""
        state = {name: tensor_to_array(tensor) for name, (tensor, _) in unique_tensors(self._model).items()}
        state.update({name: tensor.numpy() for name, tensor in self._shadow.items()})
        return state

    def tensors(self) -> dict[str, paddle.Tensor]:
        """Return the averages themselves, by the names of the model's tensors."""
        return dict(self._shadow)

    def load_state_dict(self, state: dict[str, np.ndarray], updates: int) -> None:
        """Restore what :meth:`state_dict` returned, and the number of updates done.

        Raises:
            ValueError: naming a tensor that ``state`` lacks or has in a different shape.
        """
        for name, shadow in self._shadow.items():
            array = state.get(name)
            if not isinstance(array, np.ndarray) or list(array.shape) != list(shadow.shape):
                found = list(array.shape) if isinstance(array, np.ndarray) else "nothing"
                raise ValueError(f"the average of {name} should be {list(shadow.shape)}, and there is {found}")
        for name, shadow in self._shadow.items():
            shadow.set_value(state[name])
        self.updates = updates
