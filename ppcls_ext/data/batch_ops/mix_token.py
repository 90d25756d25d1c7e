"""MixToken."""

from __future__ import annotations

import numpy as np

from ppcls_ext.data.batch_ops.operator import BatchOperator, draw_box, positive
from ppcls_ext.utils.validate import MAX_SIDE, positive_int, probability


class MixToken(BatchOperator):
    """CutMix in whole tokens, for token labelling (Jiang et al., arXiv 2104.10858, section 3.2).

    The box is drawn in cells of a grid x grid raster, so each cell, hence each token of a patch embedding with that
    raster, comes from one image. The partners are the batch in reverse order.

    Labels are ``[n, class_num]``; or, with a label for each token, ``[n, 1 + grid * grid, class_num]``: first that of
    the image, then those of the tokens, row by row. Token labels move with their cells; the image's is weighted by the
    number of cells.

    Args:
        alpha: of the Beta distribution, above 0.
        grid: cells along a side.
        prob: probability that a batch is mixed.
    """

    takes_token_labels = True

    def __init__(self, alpha: float = 1.0, grid: int = 14, prob: float = 1.0):
        self.alpha = positive(alpha, "alpha")
        self.grid = positive_int(grid, "grid", MAX_SIDE)
        self.probability = probability(prob, "prob")

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mixed images and labels.

        Raises:
            ValueError: if the grid does not divide the images, or the labels have a different shape.
        """
        grid = self.grid
        height, width = images.shape[-2:]
        if height % grid or width % grid:
            raise ValueError(f"MixToken: grid {grid} does not divide images of {height}x{width} (height x width)")
        if labels.ndim not in (2, 3) or (labels.ndim == 3 and labels.shape[1] != 1 + grid * grid):
            raise ValueError(
                f"MixToken: expected labels [n, class_num] or [n, {1 + grid * grid}, class_num] with grid {grid}, got "
                f"{list(labels.shape)}"
            )
        if rng.random() >= self.probability:
            return images, labels
        top, bottom, left, right = draw_box(grid, grid, rng.beta(self.alpha, self.alpha), rng)
        rows = slice(top * height // grid, bottom * height // grid)
        columns = slice(left * width // grid, right * width // grid)
        images[..., rows, columns] = images[::-1, :, rows, columns].copy()
        kept = np.float32(1 - (bottom - top) * (right - left) / grid**2)
        if labels.ndim == 2:
            return images, labels * kept + labels[::-1] * (1 - kept)
        mixed = labels.copy()
        mixed[:, 0] = labels[:, 0] * kept + labels[::-1, 0] * (1 - kept)
        cells = np.arange(1, 1 + grid * grid).reshape(grid, grid)[top:bottom, left:right].ravel()
        mixed[:, cells] = labels[::-1][:, cells]
        return images, mixed
