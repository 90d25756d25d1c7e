"""MixupOperator."""

from __future__ import annotations

import numpy as np

from ppcls_ext.data.batch_ops.operator import BatchOperator, positive


class MixupOperator(BatchOperator):
    """Mixup (Zhang et al., arXiv 1710.09412): λ x + (1 - λ) x' with a partner out of the batch, labels alike.

    One λ ~ Beta(alpha, alpha) for the batch; the partners are a permutation of it.

    Args:
        alpha: of the Beta distribution, above 0.
    """

    takes_token_labels = True

    def __init__(self, alpha: float = 1.0):
        self.alpha = positive(alpha, "alpha")

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mixed images and labels; labels may also be maps ``[n, positions, class_num]``."""
        partner = rng.permutation(len(images))
        kept = rng.beta(self.alpha, self.alpha)
        other = images[partner]
        other *= 1 - kept
        images *= kept
        images += other
        return images, labels * np.float32(kept) + labels[partner] * np.float32(1 - kept)
