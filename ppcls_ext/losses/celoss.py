"""Cross entropy over class indices or over class probabilities, with label smoothing and class weights."""

from __future__ import annotations

from typing import Optional, Sequence

import paddle
import paddle.nn.functional as F
from paddle import nn

from ppcls_ext.losses.class_weights import checked_weights
from ppcls_ext.losses.targets import check_epsilon, check_reduction, check_shapes, distribution


class CELoss(nn.Layer):
    """Softmax cross entropy.

    A floating-point target is a distribution over the classes (Mixup, CutMix) and is taken as it is; an integer
    target holds class indices. With ``epsilon`` the target ``t`` becomes ``(1 - epsilon) t + epsilon / C``
    (Szegedy et al., arXiv 1512.00567, section 7), for both kinds of target. The loss is computed in float32 whatever
    the precision of the logits. (On a CPU Paddle bounds the loss of a class whose logit lies more than 64 below the
    greatest one; its gradient is not affected.)

    With ``class_weights`` ``w`` it is that of ``paddle.nn.functional.cross_entropy``: the cross entropy of a sample
    counts ``sum_c t_c w_c`` times, of its smoothed or mixed target ``t``, and the mean divides by the sum of these
    weights in the batch. Of class indices without smoothing that is the weight of the sample's class.

    Args:
        reduction: ``mean`` or ``sum`` over the batch.
        epsilon: label smoothing in [0, 1); None and 0 mean none.
        class_weights: one weight of at least 0 for each class; None means equal ones.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        reduction: str = "mean",
        epsilon: Optional[float] = None,
        class_weights: Optional[Sequence[float]] = None,
    ):
        super().__init__()
        self.reduction = check_reduction("CELoss", reduction)
        self.epsilon = check_epsilon("CELoss", epsilon)
        self.class_weights = None if class_weights is None else checked_weights("CELoss", class_weights)

    def forward(self, logits: paddle.Tensor, target: paddle.Tensor) -> paddle.Tensor:
        """Return the loss, a float32 scalar.

        Args:
            logits: ``[N, C]``, any floating-point type.
            target: integer ``[N]`` or ``[N, 1]``, or floating-point ``[N, C]``.

        Raises:
            ValueError: if the shapes do not fit together, or there is not one weight for each class.
        """
        soft = check_shapes("CELoss", logits, target)
        samples, classes = logits.shape
        weight = None
        if self.class_weights is not None:
            weight = paddle.to_tensor(checked_weights("CELoss", self.class_weights, classes), "float32")
        # Inside auto_cast level O2 the operators below would run in half precision again.
        with paddle.amp.auto_cast(enable=False):
            logits = logits.astype("float32")
            if soft or self.epsilon:
                target, soft = distribution("CELoss", logits, target, self.epsilon), True
            else:
                target = target.reshape([samples, 1])
            return F.cross_entropy(logits, target, weight=weight, soft_label=soft, reduction=self.reduction)
