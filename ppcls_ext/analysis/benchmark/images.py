"""What a benchmark runs on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

#: Width and height in pixels: a usual photograph of ImageNet.
PHOTOGRAPH = (500, 375)


def normalised_noise(batch: int, height: int, width: int) -> np.ndarray:
    """Return ``[batch, 3, height, width]`` of float32 like normalised images: standard normal noise."""
    return np.random.default_rng(0).standard_normal((batch, 3, height, width), dtype=np.float32)


def write_photograph(path: Path, seed: int = 0) -> Path:
    """Write a JPEG file that costs what a photograph costs: 500 x 375 pixels, about 100 kB.

    Smooth colours with noise on top, since a plain picture would be decoded too fast and pure noise too slowly.
    """
    rng = np.random.default_rng(seed)
    width, height = PHOTOGRAPH
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    noisy = np.asarray(coarse, dtype=np.float32) + rng.normal(0, 12, (height, width, 1))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=92)
    return path
