"""The layers of a network: what each returns, how many parameters it has, and how many multiply-adds it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Optional, Sequence

import paddle
from paddle import nn

from ppcls_ext.analysis.macs import count_macs


@dataclass(frozen=True)
class LayerRow:
    """One layer, or all layers below it.

    Attributes:
        name: dotted, as in ``named_sublayers``; empty for parameters of the network itself.
        type: class of the layer.
        output: shape for a batch of one image; None for a layer that did not run by itself.
        params: numbers in its parameters, and in those of the layers below that have no row of their own. A parameter
            that two layers share counts at the first.
        trainable: as many of them as training changes.
        macs: multiply-adds likewise; None where one of its layers cannot be counted.
    """

    name: str
    type: str
    output: Optional[list[int]]
    params: int
    trainable: int
    macs: Optional[int]


@dataclass(frozen=True)
class Summary:
    """All rows, in the order of definition, and their sums.

    Attributes:
        rows: none counts what another one counts.
        uncounted: why multiply-adds are not known; None if they are.
    """

    rows: list[LayerRow]
    uncounted: Optional[str]

    @property
    def params(self) -> int:
        """Parameters of the network."""
        return sum(row.params for row in self.rows)

    @property
    def trainable(self) -> int:
        """Those that training changes."""
        return sum(row.trainable for row in self.rows)

    @property
    def macs(self) -> Optional[int]:
        """Multiply-adds of one image."""
        return None if self.uncounted else sum(row.macs or 0 for row in self.rows)


def summarise(model: nn.Layer, input_size: Sequence[int], depth: Optional[int] = None) -> Summary:
    """Run one image through a network and describe its layers.

    Args:
        model: the network; its parameters do not change.
        input_size: ``[channels, height, width]``.
        depth: how many parts of a name a row has at most; None gives every layer a row that has parameters or
            multiply-adds of its own, or that ran and has no sub-layers.

    Raises:
        ValueError: the network does not take images of this size.
    """
    outputs: dict[str, Any] = {}
    handles = [
        layer.register_forward_post_hook(lambda layer, x, y, name=name: outputs.__setitem__(name, _shape(y)))
        for name, layer in model.named_sublayers()
    ]
    uncounted = None
    try:
        macs = count_macs(model, input_size)
    except ValueError as error:
        if not outputs:
            raise
        macs, uncounted = {}, str(error)
    finally:
        for handle in handles:
            handle.remove()
    layers = dict(model.named_sublayers())
    own = _own_parameters(model)
    groups: dict[str, str] = {}  # name of a layer -> name of the row that counts it
    for name, layer in model.named_sublayers(include_self=True):
        parts = name.split(".") if name else []
        if depth is not None and len(parts) > depth:
            groups[name] = ".".join(parts[:depth])
        elif own[name][0] or macs.get(name) or (not layer.sublayers() and name in outputs):
            groups[name] = name
    rows = []
    for group in dict.fromkeys(groups.values()):
        members = [name for name in groups if groups[name] == group]
        layer = layers.get(group, model)
        rows.append(
            LayerRow(
                group,
                type(layer).__name__,
                outputs.get(group),
                sum(own[name][0] for name in members),
                sum(own[name][1] for name in members),
                None if uncounted else sum(macs.get(name, 0) for name in members),
            )
        )
    return Summary(rows, uncounted)


def _own_parameters(model: nn.Layer) -> dict[str, tuple[int, int]]:
    """Return the parameters of each layer without those below it, all and trainable ones, each counted once."""
    seen: set[int] = set()
    counts = {}
    for name, layer in model.named_sublayers(include_self=True):
        fresh = [p for p in layer.parameters(include_sublayers=False) if id(p) not in seen]
        seen.update(map(id, fresh))
        sizes = [(math.prod(p.shape), p.trainable) for p in fresh]
        counts[name] = (sum(size for size, _ in sizes), sum(size for size, trainable in sizes if trainable))
    return counts


def _shape(output: Any) -> Optional[list[int]]:
    if isinstance(output, paddle.Tensor):
        return list(output.shape)
    if isinstance(output, (list, tuple)) and output:
        return _shape(output[0])  # of an LSTM: the sequence
    return None
