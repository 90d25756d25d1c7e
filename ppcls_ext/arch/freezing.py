"""Freezing the first layers of a model by name.

PaddleClas's ``freeze_befor`` wraps a layer, which renames its weights (``stages.0.weight`` becomes
``stages.0.layer.weight``) and lets batch statistics go on. Here a frozen layer keeps its keys, and all its tensors keep
their values: parameters take no gradient, and BatchNorm uses its running statistics without updating them.
"""

from __future__ import annotations

from typing import Iterator

from paddle import nn
from paddle.nn.layer.norm import _BatchNormBase

from ppcls_ext.utils.spelling import nearest

#: Layers that keep running statistics; ``nn.BatchNorm`` is the older class, which PaddleClas uses.
BATCH_NORMS = (_BatchNormBase, nn.BatchNorm)


def freeze_up_to(model: nn.Layer, name: str) -> None:
    """Freeze a sub-layer and all that comes before it.

    Args:
        model: a model whose sub-layers are registered in the order in which they run.
        name: path of the sub-layer, such as ``stages[0].blocks[1]`` or ``stages.0.blocks.1``. Parameters that belong
            directly to a layer on the path, such as a position embedding, count as coming before it.

    Raises:
        ValueError: if there is no such sub-layer; the nearest names are given.
    """
    path = name.replace("[", ".").replace("]", "").split(".")
    layer, before = model, []
    for step in path:
        children = dict(layer.named_children())
        if step not in children:
            hint = nearest(".".join(path), [found for found, _ in model.named_sublayers()])
            raise ValueError(
                f"freeze_befor: there is no sub-layer {name!r}" + (f"; nearest: {', '.join(hint)}" if hint else "")
            )
        _freeze_parameters(layer, include_sublayers=False)
        names = list(children)
        before += [children[found] for found in names[: names.index(step)]]
        layer = children[step]
    for part in [*before, layer]:
        _freeze_parameters(part, include_sublayers=True)
        for sublayer in part.sublayers(include_self=True):
            if isinstance(sublayer, BATCH_NORMS):
                sublayer._use_global_stats = True


def frozen_layers(model: nn.Layer) -> Iterator[nn.Layer]:
    """Return the layers that have parameters of their own, all of which are frozen."""
    for layer in model.sublayers(include_self=True):
        own = layer.parameters(include_sublayers=False)
        if own and all(parameter.stop_gradient for parameter in own):
            yield layer


def convert_sync_batchnorm(model: nn.Layer) -> nn.Layer:
    """Return the model with its BatchNorm synchronised between processes, but for frozen ones, which stay as they are.

    ``SyncBatchNorm`` cannot keep its running statistics from being updated in training.
    """
    frozen = {id(layer) for layer in frozen_layers(model) if isinstance(layer, BATCH_NORMS)}
    kept = [
        (parent, name, child)
        for parent in model.sublayers(include_self=True)
        for name, child in parent.named_children()
        if id(child) in frozen
    ]
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for parent, name, child in kept:
        parent._sub_layers[name] = child
    return converted


def _freeze_parameters(layer: nn.Layer, include_sublayers: bool) -> None:
    for parameter in layer.parameters(include_sublayers=include_sublayers):
        parameter.stop_gradient = True
