"""Freezing layers of a model by name.

PaddleClas's ``freeze_befor`` wraps a layer, which renames its weights (``stages.0.weight`` becomes
``stages.0.layer.weight``) and lets batch statistics go on. Here a frozen layer keeps its keys, and all its tensors keep
their values: parameters take no gradient, and BatchNorm uses its running statistics without updating them.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Iterator, Sequence, Union

from paddle import nn
from paddle.nn.layer.norm import _BatchNormBase

from ppcls_ext.utils.spelling import nearest

#: Layers that keep running statistics; ``nn.BatchNorm`` is the older class, which PaddleClas uses.
BATCH_NORMS = (_BatchNormBase, nn.BatchNorm)
#: What ``freeze`` takes for a linear probe.
ALL_BUT_HEAD = "all_but_head"
#: Sub-layers that classify.
HEADS = ("head", "aux_head")


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


def freeze(model: nn.Layer, names: Union[str, Sequence[str]]) -> list[str]:
    """Freeze layers and parameters, wherever they stand, and return the names of the frozen parameters.

    A BatchNorm all of whose parameters are frozen keeps its statistics. Dropout and drop path go on as they are.

    Args:
        model: any model.
        names: layers or parameters, separated by spaces if it is a text: ``stem`` or ``stages.0`` (or ``stages[0]``)
            means all below it; ``*`` and ``?`` stand for any text and any character, as in ``stages.*.norm*``;
            :data:`ALL_BUT_HEAD` means all but the classifier, which is a linear probe.

    Raises:
        ValueError: if a name fits nothing, which gives the nearest ones; if nothing is left to train; or if
            the model's classifier is not known.
    """
    frozen: dict[str, None] = {}
    for name in names.split() if isinstance(names, str) else names:
        path = name.replace("[", ".").replace("]", "") if not set("*?") & set(name) else name
        found = _all_but_head(model) if name == ALL_BUT_HEAD else _parameters_of(model, path)
        if not found:
            known = [ALL_BUT_HEAD, *(layer for layer, _ in model.named_sublayers())]
            hint = nearest(path, known)
            raise ValueError(
                f"freeze: there is no layer or parameter {name!r}" + (f"; nearest: {', '.join(hint)}" if hint else "")
            )
        frozen.update(dict.fromkeys(found))
    parameters = dict(model.named_parameters())
    for name in frozen:
        parameters[name].stop_gradient = True
    if all(parameter.stop_gradient for parameter in parameters.values()):
        raise ValueError(f"freeze: {names} leaves nothing to train")
    for layer in frozen_layers(model):
        if isinstance(layer, BATCH_NORMS):
            layer._use_global_stats = True
    return list(frozen)


def _parameters_of(model: nn.Layer, pattern: str) -> list[str]:
    """Return the names of the parameters that are, or are below, what a pattern means."""
    parts = [(name, name.split(".")) for name, _ in model.named_parameters()]
    return [
        name
        for name, steps in parts
        if any(fnmatchcase(".".join(steps[: count + 1]), pattern) for count in range(len(steps)))
    ]


def _all_but_head(model: nn.Layer) -> list[str]:
    """Return the names of the parameters outside the classifier.

    Ours is called ``head``; of PaddleClas's models it is the last layer that has parameters.
    """
    names = [name for name, _ in model.named_parameters()]
    heads = [name for name in names if name.split(".")[0] in HEADS]
    if not heads:
        last = [name for name, layer in model.named_sublayers() if layer.parameters(include_sublayers=False)][-1:]
        heads = [name for name in names if last and name.startswith(f"{last[0]}.")]
        layer = dict(model.named_sublayers())[last[0]] if last else None
        if not isinstance(layer, (nn.Linear, nn.Conv2D)):
            raise ValueError(
                f"freeze: the classifier of {type(model).__name__} is not known; name the layers to freeze"
            )
    return [name for name in names if name not in heads]


def frozen_layers(model: nn.Layer, partly: bool = False) -> Iterator[nn.Layer]:
    """Return the layers that have parameters of their own, all of which are frozen; ``partly``: one at least."""
    for layer in model.sublayers(include_self=True):
        frozen = [parameter.stop_gradient for parameter in layer.parameters(include_sublayers=False)]
        if frozen and (any(frozen) if partly else all(frozen)):
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
