"""Focal loss: cross entropy that counts well classified samples less."""

from __future__ import annotations

from typing import Optional, Sequence

import paddle
import paddle.nn.functional as F
from paddle import nn

from ppcls_ext.losses.class_weights import checked_weights
from ppcls_ext.losses.targets import check_epsilon, check_reduction, distribution

ACTIVATIONS = ("softmax", "sigmoid")
#: Least distance of a probability from 1: below it a float32 probability is 1, and a power of 0 has no slope.
_SMALLEST = 1e-7


class FocalLoss(nn.Layer):
    """Focal loss (Lin et al., arXiv 1708.02002, equations 4 and 5) of class scores.

    ``softmax`` is the form for classes that exclude each other, with the probabilities ``p`` of the softmax:
    ``- sum_c t_c (1 - p_c) ** gamma log p_c`` of a sample, weighted by ``class_weights`` as in
    :class:`~ppcls_ext.losses.celoss.CELoss`, which it is with ``gamma`` 0.

    ``sigmoid`` is the paper's form, one against the rest for each class with ``p = sigmoid(logits)``:
    ``- sum_c [alpha t_c (1 - p_c) ** gamma log p_c + (1 - alpha) (1 - t_c) p_c ** gamma log(1 - p_c)]``. The mean is
    over samples: each image has one class, so this is the paper's normalisation by the number of positives.

    Targets are those of CELoss: indices, or distributions of Mixup and CutMix, in whose shares the terms count. It is
    computed in float32.

    Args:
        gamma: exponent of the focusing factor; 0 means none.
        alpha: ``sigmoid``: share of the positive terms in [0, 1]; None means factors of 1 in place of alpha and
            1 - alpha. The paper's is 0.25.
        activation: ``softmax`` or ``sigmoid``.
        class_weights: ``softmax``: one weight of at least 0 for each class; None means equal ones.
        epsilon: label smoothing in [0, 1); None and 0 mean none.
        reduction: ``mean`` or ``sum`` over the batch.

    Raises:
        ValueError: if an argument is out of its range, or belongs to the other form.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: Optional[float] = None,
        activation: str = "softmax",
        class_weights: Optional[Sequence[float]] = None,
        epsilon: Optional[float] = None,
        reduction: str = "mean",
    ):
        super().__init__()
        if gamma < 0:
            raise ValueError(f"FocalLoss: gamma must be at least 0, got {gamma!r}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"FocalLoss: activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        if alpha is not None and activation == "softmax":
            raise ValueError(
                "FocalLoss: alpha weighs positives against negatives, which activation: sigmoid alone has; weigh "
                "classes by class_weights"
            )
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError(f"FocalLoss: alpha must be in [0, 1], got {alpha!r}")
        if class_weights is not None and activation == "sigmoid":
            raise ValueError("FocalLoss: class_weights belong to activation: softmax; sigmoid has alpha")
        self.gamma, self.alpha, self.activation = gamma, alpha, activation
        self.class_weights = None if class_weights is None else checked_weights("FocalLoss", class_weights)
        self.epsilon = check_epsilon("FocalLoss", epsilon)
        self.reduction = check_reduction("FocalLoss", reduction)

    def forward(self, logits: paddle.Tensor, target: paddle.Tensor) -> paddle.Tensor:
        """Return the loss, a float32 scalar.

        Args:
            logits: ``[N, C]``, any floating-point type.
            target: integer ``[N]`` or ``[N, 1]``, or floating-point ``[N, C]``.

        Raises:
            ValueError: if the shapes do not fit together, or there is not one weight for each class.
        """
        # Inside auto_cast level O2 the operators below would run in half precision again.
        with paddle.amp.auto_cast(enable=False):
            logits = logits.astype("float32")
            target = distribution("FocalLoss", logits, target, self.epsilon)
            if self.activation == "sigmoid":
                return self._reduced(self._sigmoid_terms(logits, target).sum(axis=-1))
            log_p = F.log_softmax(logits, axis=-1)
            terms = -target * log_p
            if self.gamma:
                terms = terms * (1 - log_p.exp()).clip(min=_SMALLEST) ** self.gamma
            losses = terms.sum(axis=-1)
            if self.class_weights is None:
                return self._reduced(losses)
            weights = checked_weights("FocalLoss", self.class_weights, logits.shape[1])
            of_samples = (target * paddle.to_tensor(weights, "float32")).sum(axis=-1)
            total = (losses * of_samples).sum()
            # A batch may hold classes of weight 0 alone; its loss is 0, as cross_entropy has it.
            whole = of_samples.sum()
            return total if self.reduction == "sum" else total / (whole + (whole == 0).astype("float32"))

    def _sigmoid_terms(self, logits: paddle.Tensor, target: paddle.Tensor) -> paddle.Tensor:
        """Return the terms ``[N, C]``; -log p is softplus(-x), which neither overflows nor loses digits."""
        of_positive, of_negative = (1.0, 1.0) if self.alpha is None else (self.alpha, 1 - self.alpha)
        log_p, log_q = F.log_sigmoid(logits), F.log_sigmoid(-logits)
        positive = -of_positive * target * (self.gamma * log_q).exp() * log_p
        return positive - of_negative * (1 - target) * (self.gamma * log_p).exp() * log_q

    def _reduced(self, losses: paddle.Tensor) -> paddle.Tensor:
        return losses.sum() if self.reduction == "sum" else losses.mean()
