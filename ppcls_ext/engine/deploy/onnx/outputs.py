"""Which results of a model a graph gives, by name."""

from __future__ import annotations

from typing import Sequence

import paddle
from paddle import nn

from ppcls_ext.arch.backbone.base import Backbone
from ppcls_ext.engine.deploy.engines.graphs import SCORES
from ppcls_ext.engine.model import logits_of
from ppcls_ext.utils.spelling import nearest

FEATURES = "features"


def output_choices(backbone: nn.Layer) -> list[str]:
    """Return the names of all results that a graph of ``backbone`` can give.

    Stages are named as in ``feature_info``. PaddleClas's own backbones give class scores alone.
    """
    if not isinstance(backbone, Backbone):
        return list(SCORES)
    return [*SCORES, FEATURES, *(row["name"] for row in backbone.feature_info)]


def check_outputs(names: Sequence[str], backbone: nn.Layer) -> list[str]:
    """Return ``names`` with class scores first.

    Raises:
        ValueError: a name is unknown or occurs twice, or none is of class scores.
    """
    choices = output_choices(backbone)
    for name in names:
        if name not in choices:
            hint = nearest(name, choices, 1)
            raise ValueError(
                f"outputs: there is no {name!r}"
                + (f"; did you mean {hint[0]}?" if hint else f"; this model gives {', '.join(choices)}")
            )
        if names.count(name) > 1:
            raise ValueError(f"outputs: {name} is given twice")
    if not set(names) & set(SCORES):
        raise ValueError(f"outputs: one of {' and '.join(SCORES)} has to be among them: it is what predictors read")
    return sorted(names, key=lambda name: name not in SCORES)


class NamedOutputs(nn.Layer):
    """A backbone with several results.

    Args:
        backbone: gives a tensor, a list whose first item counts, or a mapping.
        output_key: which item of a mapping.
        names: of the results, checked by :func:`check_outputs`.
    """

    def __init__(self, backbone: nn.Layer, output_key: str, names: Sequence[str]):
        super().__init__()
        self.backbone = backbone
        self.output_key = output_key
        self.names = list(names)
        inside = [name for name in names if name not in SCORES]
        stages = [row["name"] for row in backbone.feature_info] if inside else []
        self.stages = [stages.index(name) for name in inside if name != FEATURES]
        self.has_inside = bool(inside)
        self.has_features = FEATURES in names

    def forward(self, x: paddle.Tensor) -> list:
        """Take ``[N, C, H, W]``, return the results in the order of the names."""
        found = self.inner(x) if self.has_inside else {"logits": logits_of(self.backbone(x), self.output_key)}
        if "probabilities" in self.names:
            found["probabilities"] = nn.functional.softmax(found["logits"], axis=-1)
        return [found[name] for name in self.names]

    def inner(self, images: paddle.Tensor) -> dict:
        """Run the backbone part by part."""
        model, found = self.backbone, {}
        x = model.forward_stem(images)
        for index, stage in enumerate(model.stages):
            x = stage(x)
            if index in self.stages:
                found[model.feature_info[index]["name"]] = model.as_map(x, images)
        x = model.norm(x)
        if self.has_features:
            found[FEATURES] = model.forward_head(x, pre_logits=True)
        found["logits"] = logits_of(model.forward_head(x), self.output_key)
        return found
