"""The loss of token labelling: cross entropy of the image's class and of every token's."""

from __future__ import annotations

from typing import Mapping, Optional

import paddle
import paddle.nn.functional as F
from paddle import nn


class TokenLabelLoss(nn.Layer):
    """Weighted sum of the cross entropies of an image and of its tokens.

    Jiang et al., "All Tokens Matter", arXiv 2104.10858, section 3: ``cls_weight`` H(logits, image's label) +
    ``dense_weight`` x the mean over all tokens of H(token's logits, token's label). Targets are distributions over the
    classes; with ``epsilon`` a target ``t`` becomes ``(1 - epsilon) t + epsilon / C``. It is computed in float32.

    Args:
        cls_weight: of the image's cross entropy.
        dense_weight: of the tokens'; the default is the official code's.
        epsilon: label smoothing in [0, 1); None and 0 mean none.

    Raises:
        ValueError: if an argument is out of its range.
    """

    #: :class:`~ppcls_ext.losses.combined.CombinedLoss` hands over the model's whole output.
    takes_output = True

    def __init__(self, cls_weight: float = 1.0, dense_weight: float = 1.0, epsilon: Optional[float] = None):
        super().__init__()
        for name, value in (("cls_weight", cls_weight), ("dense_weight", dense_weight)):
            if value < 0:
                raise ValueError(f"TokenLabelLoss: {name} must be at least 0, got {value!r}")
        if cls_weight == dense_weight == 0:
            raise ValueError("TokenLabelLoss: one of cls_weight and dense_weight must be above 0")
        if epsilon is not None and not 0 <= epsilon < 1:
            raise ValueError(f"TokenLabelLoss: epsilon must be in [0, 1), got {epsilon!r}")
        self.cls_weight, self.dense_weight, self.epsilon = cls_weight, dense_weight, epsilon or 0.0

    def forward(self, output: Mapping, target: paddle.Tensor) -> paddle.Tensor:
        """Return the loss, a float32 scalar.

        Args:
            output: ``logits`` ``[N, C]`` and ``token_logits`` ``[N, L, C]``, of any floating-point type.
            target: floating-point ``[N, 1 + L, C]``, the image's label before its tokens'. Or labels of the images
                alone, which each token is then given: floating-point ``[N, C]``, integer ``[N]`` or ``[N, 1]``.

        Raises:
            ValueError: if the output has no token logits, or the shapes do not fit together.
        """
        if not isinstance(output, Mapping) or "token_logits" not in output:
            raise ValueError(
                "TokenLabelLoss: the model returns no token logits; set Arch.token_label: True (ViP, DilateFormer)"
            )
        logits, tokens = output["logits"], output["token_logits"]
        of_image, of_tokens = self._targets(target, *tokens.shape)
        # Inside auto_cast level O2 the operators below would run in half precision again.
        with paddle.amp.auto_cast(enable=False):
            return self.cls_weight * self._entropy(logits, of_image) + self.dense_weight * self._entropy(
                tokens, of_tokens
            )

    def _targets(self, target: paddle.Tensor, samples: int, count: int, classes: int) -> tuple:
        """Return the targets ``[N, C]`` and ``[N, L, C]``."""
        if not target.is_floating_point() and list(target.shape) in ([samples], [samples, 1]):
            target = F.one_hot(target.reshape([samples]), classes)
        if list(target.shape) == [samples, classes]:
            return target, target.unsqueeze(1).expand([samples, count, classes])
        if list(target.shape) != [samples, 1 + count, classes]:
            side = int(count**0.5)
            advice = f"; set DataLoader.Train.dataset.token_label.size: {side}" if side * side == count else ""
            raise ValueError(
                f"TokenLabelLoss: the model has {count} tokens and {classes} classes, so the target must be "
                f"[{samples}, 1 + {count}, {classes}] or labels of the images alone; got {list(target.shape)}{advice}"
            )
        return target[:, 0], target[:, 1:]

    def _entropy(self, logits: paddle.Tensor, target: paddle.Tensor) -> paddle.Tensor:
        target = target.astype("float32")
        if self.epsilon:
            target = (1 - self.epsilon) * target + self.epsilon / logits.shape[-1]
        return -(target * F.log_softmax(logits.astype("float32"), axis=-1)).sum(axis=-1).mean()
