"""Write the golden files of the Swin family, and the list of keys of timm's layout, with timm, in PyTorch.

    python tests/golden/make_swin.py

needs PyTorch and timm (extra ``parity``). Base at 384 and both Large models are written with two blocks per stage, and
none with 21,841 classes, whose models are the same but for the classifier.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
import rule
import torch
from make_keys import listed, write
from timm.models.swin_transformer import SwinTransformer

T = {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)}
S = {"embed_dim": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24)}
B = {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)}
SHALLOW = {"depths": (2, 2, 2, 2)}
L = {"embed_dim": 192, "num_heads": (6, 12, 24, 48), **SHALLOW}
MODELS = {
    "SwinTransformer_tiny_patch4_window7_224": (T, 224, 7),
    "SwinTransformer_small_patch4_window7_224": (S, 224, 7),
    "SwinTransformer_base_patch4_window7_224": (B, 224, 7),
    "SwinTransformer_base_patch4_window12_384": ({**B, **SHALLOW}, 384, 12),
    "SwinTransformer_large_patch4_window7_224": (L, 224, 7),
    "SwinTransformer_large_patch4_window12_384": (L, 384, 12),
}
GRADIENTS = KEYS = "SwinTransformer_tiny_patch4_window7_224"


def canonical(name: str) -> str:
    """Return our name of a timm parameter."""
    name = name.replace("patch_embed.", "stem.").replace("head.fc.", "head.")
    return re.sub(r"^layers\.", "stages.", name)


def build(name: str) -> tuple:
    """Return a timm model filled by the rule, and images."""
    arguments, size, window = MODELS[name]
    model = SwinTransformer(img_size=size, window_size=window, **arguments).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(rule.parameter(canonical(key), tuple(parameter.shape))))
    return model, torch.from_numpy(rule.images(size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "swin")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    arguments.out.mkdir(exist_ok=True)
    for name, (options, _, _) in MODELS.items():
        model, images = build(name)
        arrays = {}
        if name == KEYS:
            write("swin_timm", {KEYS: listed(dict(model.named_parameters()), canonical)})
        if name == GRADIENTS:
            logits = model(images)
            (logits * torch.from_numpy(rule.unit(rule.LOSS, tuple(logits.shape)))).sum().backward()
            parameters = {canonical(key): parameter for key, parameter in model.named_parameters()}
            rows = [rule.gradient_summary(parameters[key].grad.numpy()) for key in sorted(parameters)]
            arrays["gradients"] = np.stack(rows)  # one row per parameter, by sorted name
        if options["depths"] == SHALLOW["depths"]:
            arrays["arguments"] = np.array(json.dumps(SHALLOW))
        with torch.no_grad():
            logits = model(images)
            maps = model.forward_intermediates(images, intermediates_only=True, output_fmt="NCHW")
        arrays.update({f"stage {i}": rule.summary(map_.numpy()) for i, map_ in enumerate(maps)})
        np.savez_compressed(arguments.out / f"{name}.npz", logits=logits.numpy(), **arrays)
        print(f"{name}: logits of deviation {logits.std().item():.2f}", flush=True)


if __name__ == "__main__":
    main()
