"""The weighted sum of the losses that a YAML lists."""

from __future__ import annotations

from typing import Mapping, Optional, Sequence, Union

import numpy as np
import paddle
from paddle import nn

from ppcls_ext.losses.bce import BCEWithLogitsLoss
from ppcls_ext.losses.celoss import CELoss
from ppcls_ext.losses.class_weights import resolved_weights
from ppcls_ext.losses.focal import FocalLoss
from ppcls_ext.losses.token_label import TokenLabelLoss
from ppcls_ext.utils.spelling import nearest

LOSSES = {
    "CELoss": CELoss,
    "FocalLoss": FocalLoss,
    "BCEWithLogitsLoss": BCEWithLogitsLoss,
    "TokenLabelLoss": TokenLabelLoss,
}


class CombinedLoss(nn.Layer):
    """A weighted sum of losses, which also reports every term.

    Args:
        terms: one ``(name, weight, loss)`` a term. A second term of the same name is reported as ``<name>_2``.
    """

    def __init__(self, terms: Sequence[tuple]):
        super().__init__()
        self.names: list[str] = []
        self.weights: list[float] = []
        self.losses = nn.LayerList()
        for name, weight, loss in terms:
            repeats = sum(taken.split("_")[0] == name for taken in self.names)
            self.names.append(name if not repeats else f"{name}_{repeats + 1}")
            self.weights.append(float(weight))
            self.losses.append(loss)

    def forward(self, output: Union[paddle.Tensor, Mapping], target: paddle.Tensor) -> dict:
        """Return ``{name: weighted term, ..., "loss": their sum}``.

        Args:
            output: logits ``[N, C]``, or a mapping that holds them under ``logits``; a loss whose ``takes_output`` is
                true gets the whole of it.
            target: integer ``[N]`` or ``[N, 1]``, or floating-point ``[N, C]``; of :class:`TokenLabelLoss` also
                ``[N, 1 + L, C]``.
        """
        logits = output["logits"] if isinstance(output, Mapping) else output
        report = {
            name: weight * loss(output if getattr(loss, "takes_output", False) else logits, target)
            for name, weight, loss in zip(self.names, self.weights, self.losses)
        }
        report["loss"] = sum(report.values())
        return report


def build_loss(section: Sequence[Mapping], class_counts: Optional[np.ndarray] = None) -> CombinedLoss:
    """Build the loss of ``Loss.Train`` or ``Loss.Eval``.

    Args:
        section: one-key mappings ``{name: {"weight": 1.0, **arguments}}``.
        class_counts: training samples of each class ``[class_num]``, which ``class_weights: balanced`` needs.

    Raises:
        ValueError: if the section is empty, an entry is not of that form, an argument is out of its range, or every
            weight is 0.
        KeyError: if a loss is unknown; the message names the nearest.
    """
    if not section:
        raise ValueError("Loss: the list of losses is empty; give at least one, for example - CELoss: {weight: 1.0}")
    terms = []
    for entry in section:
        if not isinstance(entry, Mapping) or len(entry) != 1:
            raise ValueError(f"Loss: each entry must be one mapping {{name: {{weight: ...}}}}, got {entry!r}")
        ((name, arguments),) = entry.items()
        if name not in LOSSES:
            hint = nearest(name, LOSSES) or sorted(LOSSES)
            raise KeyError(f"unknown loss {name!r}; supported: {', '.join(hint)}")
        arguments = dict(arguments or {})
        weight = arguments.pop("weight", 1.0)
        if "class_weights" in arguments:
            arguments["class_weights"] = resolved_weights(name, arguments["class_weights"], class_counts)
        terms.append((name, weight, LOSSES[name](**arguments)))
    if not any(weight for _, weight, _ in terms):
        raise ValueError("Loss: every weight is 0, so the loss is always 0; give at least one weight above 0")
    return CombinedLoss(terms)
