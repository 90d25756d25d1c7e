"""Write the golden files of the DilateFormer family with the official implementation, in PyTorch.

    python tests/golden/make_dilateformer.py --official <checkout of JIAOJIAYUASD/dilateformer>

needs PyTorch and timm (extra ``parity``). The official module is imported from the checkout. Its dilated attention
writes its result into slices of the input of its first convolution, which PyTorch refuses when gradients are wanted:
that convolution gets a copy of its input here.
"""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import numpy as np
import rule
import timm
import torch
from torch import nn
from writing import draws, gradients, parse, write_golden

OFFICIAL = {
    "DilateFormer_Tiny": ("dilateformer_tiny", 224),
    "DilateFormer_Small": ("dilateformer_small", 224),
    "DilateFormer_Base": ("dilateformer_base", 224),
    "DilateFormer_Base_384": ("dilateformer_base", 384),
}
GRADIENTS = "DilateFormer_Tiny"
TRAINING_SIZE = 64  # of the images of the pass in training mode


def import_official(checkout: Path) -> types.ModuleType:
    """Import the official module, written for timm 0.5, under today's timm."""

    def install(name: str, **members) -> None:
        module = types.ModuleType(name)
        vars(module).update(members)
        sys.modules[name] = module

    layers = {key: value for key, value in vars(timm.layers).items() if not key.startswith("__")}
    install("timm.models.layers", **layers)
    install("timm.models.registry", register_model=lambda function: function)
    install("timm.models.vision_transformer", _cfg=dict)
    sys.path.insert(0, str(checkout / "models"))
    import dilateformer

    return dilateformer


def canonical(name: str) -> str:
    """Return our name of an official parameter or running statistic."""
    name = name.replace("patch_embed.", "stem.").replace(".pos_embed.", ".cpe.")
    name = name.replace("running_mean", "_mean").replace("running_var", "_variance")
    match = re.match(r"stages\.(\d+)\.downsample\.proj\.(\d)\.(.*)", name)
    if match is None:
        return name
    return f"stages.{int(match[1]) + 1}.downsample.{('conv', 'norm')[int(match[2])]}.{match[3]}"


def fill(model: nn.Module) -> None:
    """Set every parameter and running statistic by the rule."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            shape = tuple(tensor.shape)
            if name.endswith("attn.qkv.weight"):  # a 1 x 1 convolution or a linear layer: the same numbers
                shape = shape[:2]
            tensor.copy_(torch.from_numpy(rule.parameter(canonical(name), shape)).reshape(tensor.shape))


def build(official: types.ModuleType, name: str, **arguments) -> nn.Module:
    """Return an official model with the rule's weights."""
    factory, size = OFFICIAL[name]
    model = getattr(official, factory)(**{"img_size": size, **arguments})
    fill(model)
    for module in model.modules():
        if isinstance(module, official.MultiDilatelocalAttention):
            module.qkv.register_forward_pre_hook(lambda _module, inputs: inputs[0].clone())
    return model


def run(model: nn.Module, images: torch.Tensor) -> tuple:
    """Return logits and the output of each stage's last block, ``[N, C, H, W]``."""
    features: list = []
    for stage in model.stages:
        stage.blocks[-1].register_forward_hook(lambda _m, _i, output: features.append(output))
    return model(images), features


def initial_draws(model: nn.Module) -> dict:
    """Return up to 300 initial values of each kind of parameter, as the official code draws them.

    A kind is a name with its numbers removed, whether its attention is dilated, and its width; values of tensors that
    have the same distribution are drawn from all.
    """

    def kind(name: str) -> str:
        found = re.sub(r"\.\d+(?=\.)", "", canonical(name))
        if ".attn.qkv." not in name:
            return found
        return found.replace("qkv", "dilated qkv" if name.startswith(("stages.0.", "stages.1.")) else "global qkv")

    return draws((kind(name), parameter) for name, parameter in model.named_parameters())


def main() -> None:
    given = parse(__doc__, "dilateformer", official="JIAOJIAYUASD/dilateformer")
    official = import_official(given.official)

    torch.manual_seed(0)
    np.savez_compressed(given.out / "initial_draws.npz", **initial_draws(official.dilateformer_tiny()))

    for name, (_, size) in OFFICIAL.items():
        if given.only not in (None, name):
            continue
        images = torch.from_numpy(rule.images(size))
        model = build(official, name).eval()
        more = {}
        if name == GRADIENTS:
            logits, features = run(model, images)
            more["gradients"] = gradients(logits, {canonical(key): value for key, value in model.named_parameters()})
            with torch.no_grad():  # batch statistics; no drop path, whose draws differ
                training = build(official, name, img_size=TRAINING_SIZE, drop_path=0.0).train()
                more["training logits"] = training(torch.from_numpy(rule.images(TRAINING_SIZE, batch=4))).numpy()
                more["stem mean"] = training.patch_embed.proj[1].running_mean.numpy()
                more["stem variance"] = training.patch_embed.proj[1].running_var.numpy()
        else:
            with torch.no_grad():
                logits, features = run(model, images)
        write_golden(given.out, name, logits, features, **more)


if __name__ == "__main__":
    main()
