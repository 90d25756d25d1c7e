"""Corrections to Paddle's kernels: frozen weights, RNNs in evaluation and in half precision."""

from __future__ import annotations

import paddle
from paddle import nn
from paddle.nn import functional as F


def is_recording() -> bool:
    """Return whether operations are being recorded for a backward pass."""
    return paddle.in_dynamic_mode() and paddle.is_grad_enabled()


def thawed(weight: paddle.Tensor) -> paddle.Tensor:
    """Return ``weight``, or if it is frozen a tensor with the same memory that takes a gradient, which is dropped."""
    if not weight.stop_gradient:
        return weight
    alias = weight.detach()
    alias.stop_gradient = False
    return alias


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` that passes the right gradient to its input when its weight is frozen.

    Paddle's CPU kernel (2.6 and 3.3) leaves the weight out of the input's gradient then, without a word.
    """

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Normalise the last axis of ``[..., dim]``."""
        weight = thawed(self.weight) if is_recording() and not x.stop_gradient else self.weight
        return F.layer_norm(x, self._normalized_shape, weight, self.bias, self._epsilon)


def run_rnn(rnn: nn.Layer, tokens: paddle.Tensor, training: bool) -> paddle.Tensor:
    """Return the outputs ``[time, batch, D]`` of a time-major RNN without dropout for ``[time, batch, C]``.

    Paddle's kernels keep what the backward pass needs in training mode only. Without dropout the mode changes nothing
    else, so it is switched on whenever a backward pass may follow: saliency maps and receptive fields need gradients in
    evaluation. And their backward pass fails when some of the weights are frozen; here it does not.

    There are kernels for float32 and float64 alone, on CPUs and on GPUs. Half precision is therefore taken to float32
    and the outputs are given the type of the tokens.
    """
    weights = rnn._all_weights
    weight_dtype = weights[0].dtype
    precision = weight_dtype if weight_dtype in (paddle.float32, paddle.float64) else paddle.float32
    if tokens.dtype != precision:
        return run_rnn(rnn, tokens.astype(precision), training).astype(tokens.dtype)
    rnn.training = training or is_recording()
    used = weights if precision == weight_dtype else [weight.astype(precision) for weight in weights]
    frozen = [weight.stop_gradient for weight in weights]
    if is_recording() and any(frozen) and not (all(frozen) and tokens.stop_gradient):
        used = [thawed(weight) for weight in used]
    if used is weights:
        return rnn(tokens)[0]
    rnn._all_weights = used
    try:
        return rnn(tokens)[0]
    finally:
        rnn._all_weights = weights
