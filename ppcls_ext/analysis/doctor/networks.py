"""A small network of each family, filled by a rule, whose results are known."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import paddle

from ppcls_ext.factory import create_backbone

SIZE, BATCH, CLASSES = 56, 2, 5
GOLDEN = Path(__file__).with_name("golden.json")
_DEPTHS = {"depths": [1, 1, 2, 1]}
#: A backbone of each family, and the arguments that make it small.
NETWORKS: dict = {
    "Sequencer2D_S": {**_DEPTHS, "embed_dims": [12, 24, 24, 24], "hidden_sizes": [3, 6, 6, 6], "img_size": SIZE},
    "ViP_Small_7": {
        **_DEPTHS,
        "embed_dims": [24, 48, 48, 48],
        "segments": [8, 4, 4, 4],
        "img_size": SIZE,
    },
    "DilateFormer_Tiny": {**_DEPTHS, "embed_dim": 12, "num_heads": [3, 3, 3, 6], "img_size": SIZE},
    "ResNet50": {**_DEPTHS, "planes": [8, 16, 32, 64]},
    "Res2Net50_26w_4s": {**_DEPTHS, "planes": [8, 16, 32, 64], "base_width": 16, "scale": 3},
    "ViT_S_16_224": {**_DEPTHS, "embed_dim": 24, "num_heads": 3, "img_size": SIZE, "patch_size": 14},
    "SwinTransformer_tiny_patch4_window7_224": {
        "depths": [1, 2, 2, 1],
        "embed_dim": 8,
        "num_heads": [1, 2, 2, 4],
        "window_size": 4,
        "img_size": SIZE,
    },
    "Mixer_S_32_224": {
        **_DEPTHS,
        "embed_dim": 24,
        "tokens_mlp_dim": 12,
        "channels_mlp_dim": 48,
        "img_size": SIZE,
        "patch_size": 14,
    },
}


def build(name: str) -> paddle.nn.Layer:
    """Return the small network of :data:`NETWORKS`, each parameter filled by its name alone, without dropping."""
    model = create_backbone(name, class_num=CLASSES, drop_path_rate=0.0, **NETWORKS[name])
    for key, tensor in model.state_dict().items():
        tensor.set_value(_values(key, tuple(tensor.shape)))
    return model


def images() -> np.ndarray:
    """Return ``[2, 3, 56, 56]``, uniform with mean 0 and variance 1."""
    return _uniform("images", (BATCH, 3, SIZE, SIZE))


def labels() -> np.ndarray:
    """Return the classes of :func:`images`, ``[2]``."""
    return np.arange(BATCH, dtype=np.int64)


def logits(model: paddle.nn.Layer) -> np.ndarray:
    """Return what a network gives for :func:`images`, in evaluation mode, ``[2, 5]``."""
    model.eval()
    with paddle.no_grad():
        return model(paddle.to_tensor(images())).astype("float32").numpy()


def golden() -> dict:
    """Return the logits of every network as they are on a CPU."""
    return {name: np.array(values, np.float32) for name, values in json.loads(GOLDEN.read_text("utf-8")).items()}


def _values(name: str, shape: tuple) -> np.ndarray:
    values = _uniform(name, shape)
    if name.endswith("_variance"):
        return 1 + 0.3 * values
    if "bias" in name or name.endswith("_mean"):
        return 0.1 * values
    if len(shape) == 1:  # the scales of norms
        return 1 + 0.1 * values
    return values / np.float32(math.sqrt(math.prod(shape[1:] if len(shape) > 2 else shape[:1])))


def _uniform(name: str, shape: tuple) -> np.ndarray:
    """Return float32 with mean 0 and variance 1; NumPy promises this stream of numbers for every version."""
    seed = int.from_bytes(hashlib.sha256(f"doctor:{name}".encode()).digest()[:8], "little")
    raw = np.random.PCG64(seed).random_raw(math.prod(shape)).astype(np.uint64)
    unit = (raw >> np.uint64(40)).astype(np.float64) * 2.0**-24
    return ((unit - 0.5) * math.sqrt(12)).astype(np.float32).reshape(shape)


def write_golden() -> None:
    """Write :data:`GOLDEN` anew from this machine."""
    found = {name: [[float(f"{x:.7g}") for x in row] for row in logits(build(name))] for name in NETWORKS}
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    write_golden()
