"""Backbones that can be trained by token labelling: a second classifier, of every token.

Paper: "All Tokens Matter: Token Labeling for Training Better Vision Transformers", Jiang et al., arXiv 2104.10858,
section 3.
"""

from __future__ import annotations

import paddle
from paddle import nn

from ppcls_ext.arch.backbone.base import Backbone
from ppcls_ext.utils.validate import check_flag

#: The share of the strongest token's scores in the result, from the official code.
TOKEN_SHARE = 0.5


class TokenLabelBackbone(Backbone):
    """A backbone with channels-last tokens ``[N, H, W, C]`` and, with ``token_label``, their classifier ``aux_head``.

    With it the model returns ``{"logits": [N, class_num], "token_logits": [N, H W, class_num]}`` in training, tokens
    row by row; in evaluation the class scores ``[N, class_num]``, to which each class's greatest score of all tokens is
    added by half. Without it everything is as in :class:`Backbone`.
    """

    # Plain weights may start token labelling; weights with a token classifier are recognised by its tensors.
    free_arguments = (*Backbone.free_arguments, "token_label")

    def __init__(self, token_label: bool):
        super().__init__()
        self.token_label = check_flag("token_label", token_label)

    def forward_head(self, x: paddle.Tensor, pre_logits: bool = False):
        """Pool the result of :meth:`forward_features` and classify it; with ``token_label`` its tokens as well.

        Args:
            x: The map.
            pre_logits: Stop before the classifiers and return ``[N, num_features]``.
        """
        # Not by ``super()``, which Paddle's conversion to a static graph does not understand.
        features = self.pool(x)
        if pre_logits:
            return features
        logits = self.head(features)
        if not self.token_label or not self.class_num:
            return logits
        tokens = self.aux_head(x.flatten(1, 2))
        if self.training:
            return {"logits": logits, "token_logits": tokens}
        return logits + TOKEN_SHARE * tokens.max(axis=1)

    def reset_head(self, class_num: int) -> None:
        """Replace the classifiers by fresh ones for ``class_num`` classes (0: none); nothing else changes.

        Raises:
            TypeError: if ``class_num`` is no integer.
            ValueError: if it is negative.
        """
        super().reset_head(class_num)
        if self.token_label:
            self.aux_head = self.make_head(self.class_num) if self.class_num else nn.Identity()
