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
#: Layers whose maps are ``[N, C, H, W]`` in networks that have their channels last, too.
_CHANNELS_FIRST = (nn.Conv2D, nn.BatchNorm2D, nn.MaxPool2D, nn.AvgPool2D)


@dataclass(frozen=True)
class Tap:
    """Where a map is taken out.

    Attributes:
        name: as results show it.
        index: of a stage of this package's networks, without a layer.
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


def map_of(model: nn.Layer, tap: Tap, images: paddle.Tensor) -> paddle.Tensor:
    """Run the network on images ``[N, C, H, W]`` and return a map as ``[N, C, h, w]``.

    Tokens ``[N, h w, C]`` of other people's networks, with or without a class token first, are taken for a square grid.

    Raises:
        ReceptiveFieldError: the layer did not run, or gives no map.
        ValueError: the network does not take images of this size.
    """
    if tap.layer is None:
        return model.extract_features(images, [tap.index])[0]
    outputs: list = []
    handle = tap.layer.register_forward_post_hook(lambda layer, inputs, output: outputs.append(output))
    try:
        model(images)
    finally:
        handle.remove()
    if not outputs:
        raise ReceptiveFieldError(f"the layer {tap.name} did not run")
    output = outputs[-1][0] if isinstance(outputs[-1], (list, tuple)) and outputs[-1] else outputs[-1]
    found = _as_map(model, tap.layer, output, images)
    if found is None or not _has_proportions_of(images, found):
        given = list(getattr(output, "shape", [])) or type(output).__name__
        raise ReceptiveFieldError(f"the layer {tap.name} gives {given}, which is no map of positions")
    return found


def _as_map(model: nn.Layer, layer: nn.Layer, output: Any, images: paddle.Tensor) -> Optional[paddle.Tensor]:
    shape = list(getattr(output, "shape", []))
    if len(shape) == 4 and (not isinstance(model, Backbone) or isinstance(layer, _CHANNELS_FIRST)):
        return output
    if isinstance(model, Backbone):
        try:
            return model.as_map(output, images)
        except Exception:  # noqa: BLE001 - of a layer inside a block anything may come
            return None
    if len(shape) != 3:
        return None
    side = math.isqrt(shape[1])
    if not side or shape[1] - side * side > 1:
        return None
    tokens = output[:, shape[1] - side * side :].transpose([0, 2, 1])
    return tokens.reshape([shape[0], shape[2], side, side])


def _has_proportions_of(images: paddle.Tensor, found: paddle.Tensor) -> bool:
    """Return whether a map can be one of the images, by its height and width: another layout would differ."""
    if found.ndim != 4 or found.shape[0] != images.shape[0]:
        return False
    (height, width), (rows, columns) = images.shape[2:], found.shape[2:]
    return abs(rows * width - columns * height) < max(height, width)
