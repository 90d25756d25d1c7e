"""SmoothGrad (Smilkov et al., arXiv 1706.03825)."""

from __future__ import annotations

import numpy as np
from paddle import nn

from ppcls_ext.analysis.explanation.gradients import image_gradients


def smoothgrad(
    model: nn.Layer,
    image: np.ndarray,
    class_id: int,
    samples: int = 25,
    noise: float = 0.15,
    seed: int = 0,
    batch_size: int = 5,
) -> np.ndarray:
    """Return the mean gradient over noisy copies of an image, as its largest magnitude over the channels ``[H, W]``.

    Args:
        model: in evaluation mode.
        image: float32 ``[C, H, W]``, preprocessed.
        class_id: the class whose logit is explained.
        samples: noisy copies; the paper finds no improvement beyond 50.
        noise: standard deviation, as a part of the image's range; the paper's 10 to 20 %.
        seed: of the noise.
        batch_size: copies a pass.
    """
    rng = np.random.default_rng(seed)
    deviation = noise * float(image.max() - image.min())
    total = np.zeros(image.shape, np.float64)
    for begin in range(0, samples, batch_size):
        count = min(batch_size, samples - begin)
        copies = image + deviation * rng.standard_normal((count, *image.shape), dtype=np.float32)
        total += image_gradients(model, copies.astype(np.float32), class_id)[1].sum(axis=0)
    return np.abs(total / samples).max(axis=0).astype(np.float32)
