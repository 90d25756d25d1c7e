"""Write the golden files of the Swin family, and the list of keys of timm's layout, with timm, in PyTorch.

    python tests/golden/make_swin.py

needs PyTorch and timm (extra ``parity``). Base at 384 and both Large models are written with two blocks per stage, and
none with 21,841 classes, whose models are the same but for the classifier.
"""

from __future__ import annotations

import json
import re

import numpy as np
import rule
import torch
from make_keys import listed, write
from timm.models.swin_transformer import SwinTransformer
from writing import gradients, parse, write_golden

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
    given = parse(__doc__, "swin")
    for name, (options, _, _) in MODELS.items():
        if given.only not in (None, name):
            continue
        model, images = build(name)
        arrays = {}
        if name == KEYS:
            write("swin_timm", {KEYS: listed(dict(model.named_parameters()), canonical)})
        if name == GRADIENTS:
            parameters = {canonical(key): parameter for key, parameter in model.named_parameters()}
            arrays["gradients"] = gradients(model(images), parameters)
        if options["depths"] == SHALLOW["depths"]:
            arrays["arguments"] = np.array(json.dumps(SHALLOW))
        with torch.no_grad():
            logits = model(images)
            maps = model.forward_intermediates(images, intermediates_only=True, output_fmt="NCHW")
        write_golden(given.out, name, logits, maps, **arrays)


if __name__ == "__main__":
    main()
