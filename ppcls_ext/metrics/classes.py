"""What all metrics of classification ask of logits and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import paddle


class InvalidLogitsError(ValueError):
    """The logits hold NaN or infinity, so a figure computed from them would mean nothing."""


def finite_logits(logits: paddle.Tensor, class_num: int, metric: str) -> paddle.Tensor:
    """Return the logits ``[N, class_num]`` of a batch in float32, without gradients.

    Raises:
        ValueError: if the shape is wrong.
        InvalidLogitsError: if one of them is NaN or infinite.
    """
    import paddle

    if logits.ndim != 2 or logits.shape[1] != class_num:
        raise ValueError(f"{metric}: logits must be [N, {class_num}], got {list(logits.shape)}")
    with paddle.no_grad(), paddle.amp.auto_cast(enable=False):
        logits = logits.detach().astype("float32")
        if logits.shape[0] == 0:
            return logits
        finite = paddle.isfinite(logits).numpy()
    if not finite.all():
        raise InvalidLogitsError(
            f"{metric}: {int((~finite).any(axis=1).sum())} of {len(finite)} samples have NaN or infinite logits; "
            "an accuracy of them would mean nothing"
        )
    return logits


def class_ids(labels: np.ndarray, samples: int, class_num: int, metric: str) -> np.ndarray:
    """Return class ids ``[N]`` for labels ``[N]``, ``[N, 1]`` or, as shares of the classes, ``[N, class_num]``.

    Raises:
        ValueError: if the shape is wrong or a label is no class.
    """
    if np.issubdtype(labels.dtype, np.floating):
        if labels.shape != (samples, class_num):
            raise ValueError(f"{metric}: soft labels must be [{samples}, {class_num}], got {labels.shape}")
        return labels.argmax(axis=1)
    if labels.shape not in ((samples,), (samples, 1)):
        raise ValueError(f"{metric}: labels must be [{samples}] or [{samples}, 1], got {labels.shape}")
    labels = labels.reshape(samples)
    outside = labels[(labels < 0) | (labels >= class_num)]
    if outside.size:
        raise ValueError(f"{metric}: labels must be from 0 to {class_num - 1}, got {outside[0]}")
    return labels
