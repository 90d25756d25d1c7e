"""Preprocessing of evaluation at another image size than a model's own, in the proportions of its recipe."""

from __future__ import annotations

import copy
from typing import Sequence, Union

#: Operators whose ``size`` is in pixels of the input.
_SIZED = ("ResizeImage", "CropImage", "RandCropImage")


class ResolutionError(ValueError):
    """Preprocessing that cannot be scaled; the message names the operator."""


def transforms_at_resolution(transform_ops: Sequence[dict], native: Sequence[int], wanted: Sequence[int]) -> list[dict]:
    """Return evaluation's operators for another image size, so that the model sees the same part of each image.

    The crop ratio of the recipe is kept: where 256 pixels of the shorter side lead to a crop of 224, 440 lead to 385.
    ``resize_short`` grows with the side that grows more, every ``size`` with its own axis. Halves of a pixel count as
    whole ones.

    Args:
        transform_ops: operators as in a YAML file.
        native: height and width that they are made for.
        wanted: height and width to scale them to.

    Raises:
        ResolutionError: no operator says the size, or one of them does it in pixels that have no proportion to it.
    """
    factors = [new / old for new, old in zip(wanted, native)]
    scaled, said = [], False
    for operator in copy.deepcopy(list(transform_ops)):
        ((name, arguments),) = operator.items()
        arguments = dict(arguments or {})
        if name == "Pad":
            raise ResolutionError("Pad adds a border of a number of pixels, which says nothing of other image sizes")
        if name in _SIZED and arguments.get("resize_short") is not None:
            arguments["resize_short"] = _rounded(arguments["resize_short"] * max(factors))
            said = True
        elif name in _SIZED and arguments.get("size") is not None:
            arguments["size"] = _scaled_size(arguments["size"], factors)
            said = True
        scaled.append({name: arguments} if name in _SIZED else operator)
    if not said:
        raise ResolutionError(
            "no operator of the preprocessing says the size of an image, so that it stays what it is; add a ResizeImage"
        )
    return scaled


def _scaled_size(size: Union[int, Sequence[int]], factors: Sequence[float]) -> Union[int, list[int]]:
    """Return ``size``, an integer or ``[width, height]``, scaled by the factors of height and width."""
    width, height = (size, size) if isinstance(size, int) else size
    width, height = _rounded(width * factors[1]), _rounded(height * factors[0])
    return width if width == height and isinstance(size, int) else [width, height]


def _rounded(pixels: float) -> int:
    # Not round(), which takes halves to even numbers. The billionth is for what division leaves of a half.
    return max(1, int(pixels + 0.5 + 1e-9))
