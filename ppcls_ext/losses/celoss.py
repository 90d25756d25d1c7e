"""Cross entropy over class indices or over class probabilities, with label smoothing."""

from __future__ import annotations

from typing import Optional

import paddle
import paddle.nn.functional as F
from paddle import nn

REDUCTIONS = ("mean", "sum")


class CELoss(nn.Layer):
    """Softmax cross entropy.

    A floating-point target is a distribution over the classes (Mixup, CutMix) and is taken as it is; an integer
    target holds class indices. With ``epsilon`` the target ``t`` becomes ``(1 - epsilon) t + epsilon / C``
    (Szegedy et al., arXiv 1512.00567, section 7), for both kinds of target. The loss is computed in float32 whatever
    the precision of the logits. (On a CPU Paddle bounds the loss of a class whose logit lies more than 64 below the
    greatest one; its gradient is not affected.)

    Args:
        reduction: ``mean`` or ``sum`` over the batch.
        epsilon: label smoothing in [0, 1); None and 0 mean none.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(self, reduction: str = "mean", epsilon: Optional[float] = None):
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f"CELoss: reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
        if epsilon is not None and not 0 <= epsilon < 1:
            raise ValueError(f"CELoss: epsilon must be in [0, 1), got {epsilon!r}")
        self.reduction = reduction
        self.epsilon = epsilon or 0.0

    def forward(self, logits: paddle.Tensor, target: paddle.Tensor) -> paddle.Tensor:
        """Return the loss, a float32 scalar.

        Args:
            logits: ``[N, C]``, any floating-point type.
            target: integer ``[N]`` or ``[N, 1]``, or floating-point ``[N, C]``.

        Raises:
            ValueError: if the shapes do not fit together.
        """
        if logits.ndim != 2:
            raise ValueError(f"CELoss: logits must be [N, C], got {list(logits.shape)}")
        soft = target.is_floating_point()
        samples, classes = logits.shape
        if soft and list(target.shape) != [samples, classes]:
            raise ValueError(
                f"CELoss: a soft target must be [{samples}, {classes}] like the logits, got {list(target.shape)}"
            )
        if not soft and list(target.shape) not in ([samples], [samples, 1]):
            raise ValueError(
                f"CELoss: an integer target must be [{samples}] or [{samples}, 1], got {list(target.shape)}"
            )
        # Inside auto_cast level O2 the operators below would run in half precision again.
        with paddle.amp.auto_cast(enable=False):
            logits = logits.astype("float32")
            if self.epsilon and not soft:
                target, soft = F.one_hot(target.reshape([samples]), classes), True
            if soft:
                target = target.astype("float32")
                if self.epsilon:
                    target = (1 - self.epsilon) * target + self.epsilon / classes
            else:
                target = target.reshape([samples, 1])
            return F.cross_entropy(logits, target, soft_label=soft, reduction=self.reduction)
