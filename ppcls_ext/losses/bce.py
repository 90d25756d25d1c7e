"""Binary cross entropy of each class against the rest."""

from __future__ import annotations

from typing import Optional, Sequence, Union

import paddle
import paddle.nn.functional as F
from paddle import nn

from ppcls_ext.losses.targets import check_epsilon, check_reduction, distribution


class BCEWithLogitsLoss(nn.Layer):
    """Sigmoid cross entropy on targets that are one-hot or mixed, summed or averaged over the classes.

    The loss of "ResNet strikes back" (Wightman et al., arXiv 2110.00476, section 2.1) and DeiT III (Touvron et al.,
    arXiv 2204.07118, section 3): classes are independent, so that an image mixed of two classes may have both. A
    target that holds class indices becomes one-hot; with ``epsilon`` it becomes ``(1 - epsilon) t + epsilon / C``. It
    is computed in float32.

    Args:
        epsilon: label smoothing in [0, 1); None and 0 mean none.
        target_threshold: shares above it become 1, others 0; None leaves shares as they are. RSB's recipes A1 and A2
            have 0.2, DeiT III 0.
        pos_weight: factor of the positive terms, a number or one for each class; None means 1.
        sum_classes: add over the classes in place of the mean; the sum is ``C`` times as large.
        reduction: ``mean`` or ``sum`` over the batch.

    Raises:
        ValueError: if an argument is out of its range, or both ``epsilon`` and ``target_threshold`` are given: the
            threshold would undo the smoothing.
    """

    def __init__(
        self,
        epsilon: Optional[float] = None,
        target_threshold: Optional[float] = None,
        pos_weight: Optional[Union[float, Sequence[float]]] = None,
        sum_classes: bool = False,
        reduction: str = "mean",
    ):
        super().__init__()
        self.epsilon = check_epsilon("BCEWithLogitsLoss", epsilon)
        self.reduction = check_reduction("BCEWithLogitsLoss", reduction)
        if target_threshold is not None and not 0 <= target_threshold < 1:
            raise ValueError(f"BCEWithLogitsLoss: target_threshold must be in [0, 1), got {target_threshold!r}")
        if target_threshold is not None and self.epsilon:
            raise ValueError("BCEWithLogitsLoss: target_threshold undoes the smoothing of epsilon; give one of them")
        weights = list(pos_weight) if isinstance(pos_weight, (list, tuple)) else [pos_weight]
        if pos_weight is not None and not (weights and all(weight > 0 for weight in weights)):  # type: ignore[operator]
            raise ValueError(f"BCEWithLogitsLoss: pos_weight must be above 0, got {pos_weight!r}")
        self.target_threshold, self.pos_weight, self.sum_classes = target_threshold, pos_weight, sum_classes

    def forward(self, logits: paddle.Tensor, target: paddle.Tensor) -> paddle.Tensor:
        """Return the loss, a float32 scalar.

        Args:
            logits: ``[N, C]``, any floating-point type.
            target: integer ``[N]`` or ``[N, 1]``, or floating-point ``[N, C]``.

        Raises:
            ValueError: if the shapes do not fit together, or there is not one ``pos_weight`` for each class.
        """
        # Inside auto_cast level O2 the operators below would run in half precision again.
        with paddle.amp.auto_cast(enable=False):
            logits = logits.astype("float32")
            target = distribution("BCEWithLogitsLoss", logits, target, self.epsilon)
            if self.target_threshold is not None:
                target = (target > self.target_threshold).astype("float32")
            # pos_weight is not Paddle's: in 2.6 it multiplies the negative terms of soft targets too.
            negative = F.binary_cross_entropy_with_logits(logits, paddle.zeros_like(target), reduction="none")
            positive = F.binary_cross_entropy_with_logits(logits, paddle.ones_like(target), reduction="none")
            terms = self._pos_weight(logits.shape[1]) * target * positive + (1 - target) * negative
            losses = terms.sum(axis=-1) if self.sum_classes else terms.mean(axis=-1)
            return losses.sum() if self.reduction == "sum" else losses.mean()

    def _pos_weight(self, classes: int) -> Union[float, paddle.Tensor]:
        if self.pos_weight is None:
            return 1.0
        many = isinstance(self.pos_weight, (list, tuple))
        weights = list(self.pos_weight) if many else [self.pos_weight] * classes  # type: ignore[arg-type]
        if len(weights) != classes:
            raise ValueError(
                f"BCEWithLogitsLoss: pos_weight must be a number or one for each of the {classes} classes, got "
                f"{len(weights)}"
            )
        return paddle.to_tensor(weights, "float32")
