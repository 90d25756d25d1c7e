"""The maps of a network: its stages by number, or any of its layers by name."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any, Optional, Sequence

import paddle
from paddle import nn

from ppcls_ext.analysis.receptive_field.errors import ReceptiveFieldError
from ppcls_ext.arch.backbone.base import Backbone
from ppcls_ext.utils.spelling import nearest

#: In modules of PaddleClas's backbones: the layers that end a stage, by the name of the backbone.
_PATTERNS = "MODEL_STAGES_PATTERN"
LAST = "-1"


@dataclass(frozen=True)
class Tap:
    """Where a map is taken out.

    Attributes:
        name: as results show it.
        index: of a stage of this package's networks.
        layer: any layer otherwise.
    """

    name: str
    index: Optional[int] = None
    layer: Optional[nn.Layer] = None


def find_taps(model: nn.Layer, arch: str, words: Sequence[str]) -> list[Tap]:
    """Return the maps that words name.

    Args:
        model: the network.
        arch: name of its backbone.
        words: each the number of a stage, from 0 or from the end with -1, or the name of a layer, such as
            ``stages[1].blocks[0]`` or ``stages.1.blocks.0``.

    Raises:
        ReceptiveFieldError: there is no such stage or layer, or it is not known which layers end the stages.
    """
    return [_stage(model, arch, int(word)) if _is_number(word) else _layer(model, word) for word in words]


def _is_number(word: str) -> bool:
    return word.lstrip("-").isdecimal() and word.count("-") <= 1


def _stage(model: nn.Layer, arch: str, number: int) -> Tap:
    names = [row["name"] for row in model.feature_info] if isinstance(model, Backbone) else _patterns(model, arch)
    if not names:
        children = ", ".join(name for name, _ in model.named_children())
        raise ReceptiveFieldError(
            f"PaddleClas does not say which layers of {arch} end its stages; name one with --stage, one of {children} "
            "or a layer in them"
        )
    if not -len(names) <= number < len(names):
        raise ReceptiveFieldError(f"{arch} has the stages 0 to {len(names) - 1}, or -{len(names)} to -1; got {number}")
    index = number % len(names)
    return Tap(names[index], index=index) if isinstance(model, Backbone) else _layer(model, names[index])


def _patterns(model: nn.Layer, arch: str) -> list[str]:
    """Return what PaddleClas calls the layers that end the stages of one of its backbones.

    Its table has names of backbones, or what several of them begin with: ``ResNet50`` stands for ResNet50_vd as well.
    """
    table = getattr(sys.modules.get(type(model).__module__), _PATTERNS, {})
    bare = arch.rpartition(".")[2]
    fitting = [name for name in table if bare.startswith(name)]
    return list(table[max(fitting, key=len)]) if fitting else []


def _layer(model: nn.Layer, word: str) -> Tap:
    layers = dict(model.named_sublayers())
    name = word.replace("[", ".").replace("]", "").replace('"', "").replace("'", "")
    if name not in layers:
        hint = nearest(name, layers)
        raise ReceptiveFieldError(
            f"{type(model).__name__} has no layer {word!r}" + (f"; nearest: {', '.join(hint)}" if hint else "")
        )
    return Tap(word, layer=layers[name])


def maps_of(model: nn.Layer, taps: Sequence[Tap], images: paddle.Tensor) -> list[paddle.Tensor]:
    """Run the network on images ``[N, C, H, W]`` and return its maps as ``[N, C, h, w]``.

    Tokens ``[N, h w, C]`` of other people's networks, with or without a class token first, are taken for a square grid.

    Raises:
        ReceptiveFieldError: a layer did not run, or gives no map.
        ValueError: the network does not take images of this size.
    """
    if all(tap.index is not None for tap in taps) and isinstance(model, Backbone):
        return model.extract_features(images, [tap.index or 0 for tap in taps])
    outputs: dict = {}
    handles = []
    for tap in taps:
        layer = tap.layer if tap.layer is not None else dict(model.named_sublayers())[f"stages.{tap.index}"]
        handles.append(layer.register_forward_post_hook(_keep(outputs, tap.name)))
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return [_as_map(model, tap.name, outputs.get(tap.name), images) for tap in taps]


def _keep(outputs: dict, name: str) -> Any:
    def hook(layer: nn.Layer, inputs: Any, output: Any) -> None:
        outputs[name] = output[0] if isinstance(output, (list, tuple)) and output else output

    return hook


def _as_map(model: nn.Layer, name: str, output: Any, images: paddle.Tensor) -> paddle.Tensor:
    shape = list(getattr(output, "shape", []))
    if output is None:
        raise ReceptiveFieldError(f"the layer {name} did not run")
    if isinstance(model, Backbone):
        try:
            found = model.as_map(output, images)
        except Exception:  # noqa: BLE001 - of a layer inside a block anything may come
            found = None
        if found is not None and found.ndim == 4:
            return found
    elif len(shape) == 4:
        return output
    elif len(shape) == 3:
        side = math.isqrt(shape[1])
        if side and shape[1] - side * side in (0, 1):
            tokens = output[:, shape[1] - side * side :].transpose([0, 2, 1])
            return tokens.reshape([shape[0], shape[2], side, side])
    raise ReceptiveFieldError(f"the layer {name} gives {shape or type(output).__name__}, which is no map of positions")
