"""Targets that every loss on class scores takes: class indices, or a distribution over the classes."""

from __future__ import annotations

from typing import Optional

import paddle
import paddle.nn.functional as F

REDUCTIONS = ("mean", "sum")


def check_reduction(loss: str, reduction: str) -> str:
    """Return ``reduction``.

    Raises:
        ValueError: if it is unknown.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"{loss}: reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    return reduction


def check_epsilon(loss: str, epsilon: Optional[float]) -> float:
    """Return the label smoothing; None means 0.

    Raises:
        ValueError: if it is out of its range.
    """
    if epsilon is not None and not 0 <= epsilon < 1:
        raise ValueError(f"{loss}: epsilon must be in [0, 1), got {epsilon!r}")
    return epsilon or 0.0


def check_shapes(loss: str, logits: paddle.Tensor, target: paddle.Tensor) -> bool:
    """Return whether ``target`` is a distribution.

    Args:
        loss: its name, for messages.
        logits: ``[N, C]``.
        target: integer ``[N]`` or ``[N, 1]``, or floating-point ``[N, C]``.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    if logits.ndim != 2:
        raise ValueError(f"{loss}: logits must be [N, C], got {list(logits.shape)}")
    soft = target.is_floating_point()
    samples, classes = logits.shape
    if soft and list(target.shape) != [samples, classes]:
        raise ValueError(
            f"{loss}: a soft target must be [{samples}, {classes}] like the logits, got {list(target.shape)}"
        )
    if not soft and list(target.shape) not in ([samples], [samples, 1]):
        raise ValueError(f"{loss}: an integer target must be [{samples}] or [{samples}, 1], got {list(target.shape)}")
    return soft


def distribution(loss: str, logits: paddle.Tensor, target: paddle.Tensor, epsilon: float = 0.0) -> paddle.Tensor:
    """Return a target as a distribution, smoothed to ``(1 - epsilon) t + epsilon / C``; float32 ``[N, C]``.

    Raises:
        ValueError: if the shapes do not fit together, see :func:`check_shapes`.
    """
    samples, classes = logits.shape if logits.ndim == 2 else (0, 0)
    if not check_shapes(loss, logits, target):
        target = F.one_hot(target.reshape([samples]), classes)
    target = target.astype("float32")
    return (1 - epsilon) * target + epsilon / classes if epsilon else target
