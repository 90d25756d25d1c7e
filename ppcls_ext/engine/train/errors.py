"""How a run can diverge."""

from __future__ import annotations


class NonFiniteLossError(FloatingPointError):
    """The loss became NaN or infinite; the message says at which step, learning rate and files."""


class NonFiniteGradientError(FloatingPointError):
    """The gradients stayed NaN or infinite however small the loss scale."""


class NonFiniteStateError(FloatingPointError):
    """Weights, buffers, optimizer state or average hold NaN or infinity, though the loss may be finite."""
