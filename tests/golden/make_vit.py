"""Write the golden files of the ViT family with timm, in PyTorch.

    python tests/golden/make_vit.py

needs PyTorch and timm (extra ``parity``). It also writes the lists of keys of timm's layout and of the JAX original's,
which timm's own reader is asked to read. The models named ViT_large and ViT_huge are written with four blocks at full
width. ``original`` is ViT-S/32 as the JAX code has it for pre-training: GELU by tanh and a tanh layer before the head,
which timm does not have and which is added here.
"""

from __future__ import annotations

import functools
import json
import re
import tempfile
from pathlib import Path

import numpy as np
import rule
import torch
from make_keys import listed, write
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from writing import gradients, parse, write_golden

S = {"embed_dim": 384, "depth": 12, "num_heads": 6}
B = {"embed_dim": 768, "depth": 12, "num_heads": 12}
L = {"embed_dim": 1024, "depth": 4, "num_heads": 16}
H = {"embed_dim": 1280, "depth": 4, "num_heads": 16, "patch_size": 14}
SMALL = {"embed_dim": 768, "depth": 8, "num_heads": 8, "mlp_ratio": 3, "qkv_bias": False}
MODELS = {
    "ViT_small_patch16_224": (SMALL, 224),
    "ViT_base_patch16_224": (B, 224),
    "ViT_base_patch16_384": (B, 384),
    "ViT_base_patch32_384": ({**B, "patch_size": 32}, 384),
    "ViT_large_patch16_224": (L, 224),
    "ViT_large_patch16_384": (L, 384),
    "ViT_large_patch32_384": ({**L, "patch_size": 32}, 384),
    "ViT_S_16_224": (S, 224),
    "ViT_S_16_384": (S, 384),
    "ViT_S_32_224": ({**S, "patch_size": 32}, 224),
    "ViT_S_32_384": ({**S, "patch_size": 32}, 384),
    "ViT_base_patch32_224": ({**B, "patch_size": 32}, 224),
    "ViT_large_patch32_224": ({**L, "patch_size": 32}, 224),
    "ViT_huge_patch14_224": (H, 224),
    "ViT_huge_patch14_384": (H, 384),
    "original": ({**S, "patch_size": 32, "act_layer": functools.partial(nn.GELU, approximate="tanh")}, 224),
}
GRADIENTS = KEYS = "ViT_S_32_224"
DEPTH = 12  # of ViT-S


def canonical(name: str, depth: int) -> str:
    """Return our name of a timm parameter."""
    match = re.match(r"blocks\.(\d+)\.(.*)", name)
    if match:
        stage, index = divmod(int(match[1]), depth // 4)
        return f"stages.{stage}.blocks.{index}.{match[2]}"
    if name in ("cls_token", "pos_embed"):
        return f"stem.{name}"
    return name.replace("patch_embed.", "stem.").replace("fc_norm.0.", "pre_logits.0.")


def build(name: str) -> tuple:
    """Return a timm model filled by the rule, its depth, and images."""
    arguments, size = MODELS[name]
    epsilon = 1e-5 if name == "ViT_small_patch16_224" else 1e-6
    norm = functools.partial(nn.LayerNorm, eps=epsilon)
    model = VisionTransformer(img_size=size, norm_layer=norm, **arguments).eval()
    for block in model.blocks:
        block.attn.fused_attn = False  # the other way is the one that reads ``scale``
        if name == "ViT_small_patch16_224":
            block.attn.scale = 768**-0.5
    if name == "original":
        model.fc_norm = nn.Sequential(nn.Linear(384, 384), nn.Tanh())
    depth = arguments["depth"]
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(rule.parameter(canonical(key, depth), tuple(parameter.shape))))
    return model, depth, torch.from_numpy(rule.images(size))


def as_jax(state: dict, heads: int) -> dict:
    """Return ``{key: (our name, array)}`` of a timm state dict in the layout of the JAX original."""
    arrays = {}
    last = {"weight": "kernel", "bias": "bias"}
    norms = {"weight": "scale", "bias": "bias"}
    for name, tensor in state.items():
        array, ours, kind = tensor.numpy(), canonical(name, DEPTH), name.rpartition(".")[2]
        match = re.match(r"blocks\.(\d+)\.(.*)\.", name)
        encoder = f"Transformer/encoderblock_{match[1]}" if match else ""
        layer = match[2] if match else name.rpartition(".")[0]
        if name == "cls_token":
            arrays["cls"] = ours, array
        elif name == "pos_embed":
            arrays["Transformer/posembed_input/pos_embedding"] = ours, array
        elif layer == "patch_embed.proj":
            arrays[f"embedding/{last[kind]}"] = ours, array.transpose(2, 3, 1, 0) if kind == "weight" else array
        elif layer == "attn.qkv":
            for part, value in zip(("query", "key", "value"), np.split(array, 3)):
                value = (
                    value.T.reshape(-1, heads, value.shape[0] // heads)
                    if kind == "weight"
                    else value.reshape(heads, -1)
                )
                arrays[f"{encoder}/MultiHeadDotProductAttention_1/{part}/{last[kind]}"] = ours, value
        elif layer == "attn.proj":
            value = array.T.reshape(heads, -1, array.shape[0]) if kind == "weight" else array
            arrays[f"{encoder}/MultiHeadDotProductAttention_1/out/{last[kind]}"] = ours, value
        elif layer in ("norm1", "norm2"):
            arrays[f"{encoder}/LayerNorm_{0 if layer == 'norm1' else 2}/{norms[kind]}"] = ours, array
        elif layer in ("mlp.fc1", "mlp.fc2"):
            arrays[f"{encoder}/MlpBlock_3/Dense_{int(layer[-1]) - 1}/{last[kind]}"] = ours, array.T
        elif layer == "norm":
            arrays[f"Transformer/encoder_norm/{norms[kind]}"] = ours, array
        else:
            arrays[f"head/{last[kind]}"] = ours, array.T
    return arrays


def write_keys() -> None:
    """Write the lists of keys of ViT-S/32, after timm has read a file with those of the JAX original."""
    model, _, images = build(KEYS)
    state = model.state_dict()
    arrays = as_jax(state, S["num_heads"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "original.npz"
        np.savez(path, **{key: array for key, (_, array) in arrays.items()})
        other, _, _ = build(KEYS)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        other.load_pretrained(str(path))
    with torch.no_grad():
        if not torch.equal(model(images), other(images)):
            raise SystemExit("timm reads other values from the JAX layout")
    write("vit_timm", {KEYS: listed(state, lambda key: canonical(key, DEPTH))})
    write("vit_jax", {KEYS: {key: [ours, list(array.shape), "float32"] for key, (ours, array) in arrays.items()}})


def main() -> None:
    given = parse(__doc__, "vit")
    write_keys()
    for name in MODELS:
        if given.only not in (None, name):
            continue
        model, depth, images = build(name)
        arrays = {}
        if name == GRADIENTS:
            parameters = {canonical(key, depth): parameter for key, parameter in model.named_parameters()}
            arrays["gradients"] = gradients(model(images), parameters)
        with torch.no_grad():
            logits = model(images)
            last = [depth // 4 * (stage + 1) - 1 for stage in range(4)]
            maps = model.forward_intermediates(images, indices=last, norm=False, intermediates_only=True)
        if depth == 4:
            arrays["arguments"] = np.array(json.dumps({"depths": [1, 1, 1, 1]}))
        write_golden(given.out, name, logits, maps, **arrays)


if __name__ == "__main__":
    main()
