"""CutmixOperator."""

from __future__ import annotations

import numpy as np

from ppcls_ext.data.batch_ops.operator import BatchOperator, draw_box, one_label_an_image, positive


class CutmixOperator(BatchOperator):
    """CutMix (Yun et al., arXiv 1905.04899): a box of each image comes from a partner, and so much of the label.

    One λ ~ Beta(alpha, alpha) and one box for the batch; the partners are a permutation of it. The labels are weighted
    by the area that the box really has.

    Args:
        alpha: of the Beta distribution, above 0.
    """

    def __init__(self, alpha: float = 0.2):
        self.alpha = positive(alpha, "alpha")

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mixed images and labels."""
        one_label_an_image(labels, "CutmixOperator")
        height, width = images.shape[-2:]
        partner = rng.permutation(len(images))
        top, bottom, left, right = draw_box(height, width, rng.beta(self.alpha, self.alpha), rng)
        images[..., top:bottom, left:right] = images[partner, :, top:bottom, left:right]
        kept = np.float32(1 - (bottom - top) * (right - left) / (height * width))
        return images, labels * kept + labels[partner] * (1 - kept)
