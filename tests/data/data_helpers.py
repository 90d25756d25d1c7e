"""Small image files and the sections of a configuration that read them."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image


def smooth_pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random RGB image, uint8 [height, width, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


NORMALISE = {"NormalizeImage": {"scale": "1.0/255.0", "order": ""}}
TRAIN_OPS = [
    {"DecodeImage": {"to_rgb": True, "channel_first": False}},
    {"RandCropImage": {"size": 12, "scale": [0.3, 1.0], "interpolation": "random"}},
    {"RandFlipImage": {"flip_code": 1}},
    NORMALISE,
]
EVAL_OPS = [{"DecodeImage": None}, {"ResizeImage": {"resize_short": 14}}, {"CropImage": {"size": 12}}, NORMALISE]


class ImageSet:
    """A folder of small PNG files with a label list, and the ``DataLoader`` section that reads it."""

    def __init__(self, root: Path, count: int):
        self.root, self.count = root, count
        (root / "images").mkdir()
        for index in range(count):
            Image.fromarray(smooth_pixels(14 + index % 5, 16, index)).save(self.path(index))
        self.list = root / "train_list.txt"
        self.list.write_text("".join(f"images/{i:03d}.png {i % 3}\n" for i in range(count)))

    def path(self, index: int) -> Path:
        return self.root / "images" / f"{index:03d}.png"

    def section(self, ops=None, batch_size=4, shuffle=True, drop_last=False, workers=0, shared=True) -> dict:
        return {
            "dataset": {
                "name": "ImageNetDataset",
                "image_root": str(self.root),
                "cls_label_path": str(self.list),
                "transform_ops": TRAIN_OPS if ops is None else ops,
            },
            "sampler": {
                "name": "DistributedBatchSampler",
                "batch_size": batch_size,
                "shuffle": shuffle,
                "drop_last": drop_last,
            },
            "loader": {"num_workers": workers, "use_shared_memory": shared},
        }
