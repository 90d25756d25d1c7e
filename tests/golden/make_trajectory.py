"""Write the losses of twenty training steps of the reference implementations, in PyTorch.

    python tests/golden/make_trajectory.py

needs PyTorch and timm (extra ``parity``). Weights follow the rule, images are :func:`rule.photographs`; the recipe is
that of ``tests/engine/train/test_trajectory.py``: AdamW with linear warm-up and cosine decay, label smoothing, clipping
by the global norm, no decay of vectors and position tables, layer-wise decay for ViT, and nothing random. Depths,
widths and images are reduced; the operators are those of the full models.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Callable

import make_sequencer
import make_swin
import make_vit
import numpy as np
import rule
import torch
from timm.models.sequencer import LSTM2d, Sequencer2d
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_weight_decay
from torch import nn

EPOCHS, BATCHES, BATCH = 5, 4, 8
WARMUP, START, PEAK, DECAY, LAYER_DECAY = 5, 1e-5, 1e-3, 0.05, 0.75
CLASSES, SMOOTHING, CLIP = 10, 0.1, 1.0


def build(name: str) -> tuple[nn.Module, Callable[[str], str], int]:
    """Return a timm model, the rule that makes our names of its parameters' names, and the side of its images."""
    if name == "Sequencer2D_S":
        depths = [1, 1, 1, 1]
        widths = {"embed_dims": (48, 96, 96, 96), "hidden_sizes": (12, 24, 24, 24)}
        options = {"patch_sizes": (7, 2, 1, 1), "mlp_ratios": (3.0,) * 4, "rnn_layer": LSTM2d, **widths}
        model = Sequencer2d(layers=depths, num_classes=CLASSES, **options)
        return model, lambda key: make_sequencer.canonical(key, depths), 56
    if name == "SwinTransformer_tiny_patch4_window7_224":
        options = {"embed_dim": 48, "depths": (2, 2), "num_heads": (3, 6), "window_size": 4}
        model = SwinTransformer(img_size=64, num_classes=CLASSES, drop_path_rate=0.0, **options)
        return model, make_swin.canonical, 64
    options = {"embed_dim": 96, "depth": 4, "num_heads": 3, "patch_size": 8}
    model = VisionTransformer(img_size=32, num_classes=CLASSES, **options)
    return model, lambda key: make_vit.canonical(key, 4), 32


def learning_rate(step: int) -> float:
    """Return the rate of the step, from 0: a line to the peak, then half a cosine over all steps."""
    if step < WARMUP:
        return START + (PEAK - START) * step / WARMUP
    return PEAK * (1 + math.cos(math.pi * (step - WARMUP) / (EPOCHS * BATCHES - WARMUP))) / 2


def groups(name: str, model: nn.Module) -> list:
    """Return timm's groups of parameters that decay and that do not; for ViT, split by layer as BEiT's code does.

    The stem is layer 0, block i is layer i + 1, the norm and the head are the last. (timm's own layer-wise decay counts
    the norm to the last block.)
    """
    exempt = getattr(model, "no_weight_decay", set)()
    plain = param_groups_weight_decay(model, DECAY, no_weight_decay_list=exempt)
    if not name.startswith("ViT"):
        return plain
    last = len(model.blocks) + 1
    layers = {}
    for key, parameter in model.named_parameters():
        block = re.match(r"blocks\.(\d+)", key)
        is_stem = key.startswith(("patch_embed", "cls_token", "pos_embed"))
        layers[parameter] = int(block[1]) + 1 if block else 0 if is_stem else last
    return [
        {
            "params": [parameter],
            "weight_decay": group["weight_decay"],
            "lr_scale": LAYER_DECAY ** (last - layers[parameter]),
        }
        for group in plain
        for parameter in group["params"]
    ]


def losses(name: str) -> list[float]:
    """Train and return the loss of each step."""
    model, canonical, side = build(name)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(rule.parameter(canonical(key), tuple(parameter.shape))))
    model.train()
    optimizer = torch.optim.AdamW(groups(name, model), lr=PEAK)
    images = torch.from_numpy(rule.photographs(BATCHES * BATCH, side)).permute(0, 3, 1, 2).float()
    images = (images / 255 - 0.5) / 0.5
    labels = torch.arange(BATCHES * BATCH) % CLASSES
    criterion = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    found = []
    for step in range(EPOCHS * BATCHES):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step) * group.get("lr_scale", 1.0)
        batch = slice(step % BATCHES * BATCH, (step % BATCHES + 1) * BATCH)
        loss = criterion(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        found.append(loss.item())
    return found


def main() -> None:
    torch.set_num_threads(1)
    trajectories = {}
    for name in ("Sequencer2D_S", "SwinTransformer_tiny_patch4_window7_224", "ViT_base_patch16_224"):
        trajectories[name] = np.array(losses(name))
        print(name, trajectories[name].round(4).tolist(), flush=True)
    np.savez(Path(__file__).parent / "trajectories.npz", **trajectories)


if __name__ == "__main__":
    main()
