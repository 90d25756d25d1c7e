"""Sizes of tensors that may not be known yet."""

from __future__ import annotations

from typing import Union

import paddle


def shape_of(x: paddle.Tensor) -> Union[list, paddle.Tensor]:
    """Return the shape: a list of ints when running, a tensor while a graph with unknown sizes is traced.

    Either can be indexed, sliced and given to ``reshape`` or ``interpolate``.
    """
    return x.shape if paddle.in_dynamic_mode() else paddle.shape(x)
