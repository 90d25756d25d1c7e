"""Taking out the probabilities of attention. While nobody asks for them, nothing is kept, and nothing changes.

``attention`` and dilated attention hand their probabilities to :func:`note` while somebody records; a fused kernel,
which has none, then gives way to the explicit form.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Callable, Iterator

import paddle
from paddle import nn

_LISTENERS: list[Callable[[paddle.Tensor], None]] = []


def is_recorded() -> bool:
    """Return whether somebody wants the probabilities."""
    return bool(_LISTENERS)


def note(probabilities: paddle.Tensor) -> None:
    """Hand over the probabilities of the layer that runs."""
    _LISTENERS[-1](probabilities)


@contextmanager
def record_attention(model: nn.Layer) -> Iterator[dict[str, list[paddle.Tensor]]]:
    """Record the attention of what runs inside the block, in this thread alone.

    Args:
        model: the network; afterwards it is as before.

    Yields:
        By the dotted name of each attention layer, in the order in which they run, its probabilities; they sum up to 1
        over the last axis:

        - ViT: one ``[N, heads, tokens, tokens]``, the class token first;
        - Swin: one ``[N * windows, heads, window², window²]``, the windows of an image row by row, of the map rolled by
          the layer's shift;
        - DilateFormer: in its first stages one ``[N, H, W, heads, kernel²]`` for each dilation; later as ViT, without a
          class token.
    """
    maps: dict[str, list[paddle.Tensor]] = {}
    running: list[str] = []
    handles = []
    for name, layer in model.named_sublayers():
        handles.append(layer.register_forward_pre_hook(lambda layer, x, name=name: running.append(name)))
        handles.append(layer.register_forward_post_hook(lambda layer, x, y: running.pop() and None))
    _LISTENERS.append(lambda probabilities: maps.setdefault(running[-1], []).append(probabilities))
    try:
        yield maps
    finally:
        _LISTENERS.pop()
        for handle in handles:
            handle.remove()
