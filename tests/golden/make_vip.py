"""Write the golden files of the Vision Permutator family with the official implementation, in PyTorch.

    python tests/golden/make_vip.py --official <checkout of houqb/VisionPermutator>

needs PyTorch and timm (extra ``parity``). The official code holds the weighted form only. The plain sum, the paper's
ablations and biases come from a module written from Algorithm 1 with sums over named axes, which must agree with the
official code where both can be run.
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
from writing import agree, draws, gradients, parse, write_golden

OFFICIAL = {
    "ViP_Small_14": "vip_s14",
    "ViP_Small_7": "vip_s7",
    "ViP_Medium_7": "vip_m7",
    "ViP_Large_7": "vip_l7",
}
SHALLOW = (1, 1, 2, 1)
#: Small_7 with other options: arguments of :class:`Plain`.
PLAIN = {
    "ViP_Small_7_unweighted": {"weighted": False},
    "height_is_channel": {"depths": SHALLOW, "height": False},
    "width_is_channel": {"depths": SHALLOW, "width": False, "weighted": False},
    "biases_and_skip_lam": {"depths": SHALLOW, "bias": True, "skip_lam": 2.0},
}


def import_official(checkout: Path) -> types.ModuleType:
    """Import the official ``models`` package, written for timm 0.4, under today's timm."""

    def install(name: str, **members) -> None:
        module = types.ModuleType(name)
        vars(module).update(members)
        sys.modules[name] = module

    install("timm.models.layers", DropPath=timm.layers.DropPath, trunc_normal_=timm.layers.trunc_normal_)
    install("timm.models.registry", register_model=lambda function: function)
    sys.path.insert(0, str(checkout))
    import models.vip

    return models.vip


def canonical(model: nn.Module) -> dict:
    """Return the parameters of an official model under our names."""
    stages = [i for i, part in enumerate(model.network) if isinstance(part, nn.Sequential)]
    named = {}
    for name, parameter in model.named_parameters():
        match = re.match(r"network\.(\d+)\.(.*)", name)
        if match is None:
            named[name.replace("patch_embed.", "stem.")] = parameter
        elif int(match[1]) in stages:
            named[f"stages.{stages.index(int(match[1]))}.blocks.{match[2]}"] = parameter
        else:  # a downsampling belongs to the stage after it
            stage = stages.index(int(match[1]) + 1)
            named[f"stages.{stage}.downsample.{match[2].replace('proj', 'down')}"] = parameter
    return named


def fill(parameters: dict) -> None:
    """Set every parameter by the rule."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(rule.parameter(name, tuple(parameter.shape))))


class Plain(nn.Module):
    """ViP-Small/7 spelled out from Algorithm 1 and the text, without any of our or the official code."""

    dims, segments = (192, 384, 384, 384), (32, 16, 16, 16)

    def __init__(self, depths=(4, 3, 8, 3), weighted=True, height=True, width=True, bias=False, skip_lam=1.0):
        super().__init__()
        self.depths, self.weighted, self.height, self.width, self.skip_lam = depths, weighted, height, width, skip_lam
        layers = {"stem.proj": nn.Conv2d(3, 192, 7, 7), "stages.1.downsample.down": nn.Conv2d(192, 384, 2, 2)}
        for s, depth in enumerate(depths):
            c = self.dims[s]
            for b in range(depth):
                block = {f"attn.mlp_{axis}": nn.Linear(c, c, bias=bias) for axis in "hwc"}
                if weighted:
                    block["attn.reweight.fc1"] = nn.Linear(c, c // 4)
                    block["attn.reweight.fc2"] = nn.Linear(c // 4, 3 * c)
                block.update({"attn.proj": nn.Linear(c, c), "norm1": nn.LayerNorm(c), "norm2": nn.LayerNorm(c)})
                block.update({"mlp.fc1": nn.Linear(c, 3 * c), "mlp.fc2": nn.Linear(3 * c, c)})
                layers.update({f"stages.{s}.blocks.{b}.{name}": layer for name, layer in block.items()})
        layers.update({"norm": nn.LayerNorm(384), "head": nn.Linear(384, 1000)})
        self.by_name = layers
        self.layers = nn.ModuleList(layers.values())

    def parameters_by_name(self) -> dict:
        return {
            f"{name}.{suffix}": parameter
            for name, layer in self.by_name.items()
            for suffix, parameter in layer.named_parameters()
        }

    def along(self, name: str, x: torch.Tensor, sums: str, segments: int) -> torch.Tensor:
        """Mix positions and the channels s of a group: ``y[i, t] = sum_ps W[i, t, p, s] x[p, s] + b[i, t]``."""
        layer = self.by_name[name]
        size = x.shape[-1] // segments
        x = x.unflatten(-1, (segments, size))
        y = torch.einsum(sums, x, layer.weight.reshape(segments, size, segments, size))
        if layer.bias is not None:
            bias = layer.bias.reshape(segments, size)
            y = y + (bias[:, None, None] if sums.endswith("niwgt") else bias[None, :, None])
        return y.flatten(-2)

    def mix(self, block: str, x: torch.Tensor, segments: int) -> torch.Tensor:
        name = f"{block}.attn.mlp_"
        branches = [
            self.along(name + "h", x, "npwgs,itps->niwgt", segments) if self.height else self.by_name[name + "h"](x),
            self.along(name + "w", x, "nhpgs,itps->nhigt", segments) if self.width else self.by_name[name + "w"](x),
            self.by_name[name + "c"](x),
        ]
        if self.weighted:
            pooled = sum(branches).mean((1, 2))
            hidden = nn.functional.gelu(self.by_name[f"{block}.attn.reweight.fc1"](pooled))
            weights = self.by_name[f"{block}.attn.reweight.fc2"](hidden).unflatten(-1, (-1, 3)).softmax(-1)
            branches = [branch * weights[:, None, None, :, k] for k, branch in enumerate(branches)]
        return self.by_name[f"{block}.attn.proj"](sum(branches))

    def forward(self, x: torch.Tensor):
        features = []
        x = self.by_name["stem.proj"](x)
        for s, depth in enumerate(self.depths):
            if s == 1:
                x = self.by_name["stages.1.downsample.down"](x)
            x = x.permute(0, 2, 3, 1)
            for b in range(depth):
                block = f"stages.{s}.blocks.{b}"
                x = x + self.mix(block, self.by_name[f"{block}.norm1"](x), self.segments[s]) / self.skip_lam
                hidden = self.by_name[f"{block}.mlp.fc1"](self.by_name[f"{block}.norm2"](x))
                x = x + self.by_name[f"{block}.mlp.fc2"](nn.functional.gelu(hidden)) / self.skip_lam
            x = x.permute(0, 3, 1, 2)
            features.append(x)
        x = self.by_name["norm"](x.permute(0, 2, 3, 1))
        return self.by_name["head"](x.flatten(1, 2).mean(1)), features


def run_official(model: nn.Module, images: torch.Tensor):
    """Return logits and stage outputs as NCHW maps."""
    features: list = []
    for part in model.network:
        if isinstance(part, nn.Sequential):
            part.register_forward_hook(lambda _m, _i, output: features.append(output.permute(0, 3, 1, 2)))
    return model(images), features


def initial_draws(model: nn.Module) -> dict:
    """Return up to 300 initial values of each kind of parameter; a kind is a name without numbers, and a width."""
    return draws((re.sub(r"\.\d+(?=\.)", "", name), parameter) for name, parameter in canonical(model).items())


def main() -> None:
    given = parse(__doc__, "vip", official="houqb/VisionPermutator")
    official = import_official(given.official)
    images = torch.from_numpy(rule.images(224))

    torch.manual_seed(0)
    np.savez_compressed(given.out / "initial_draws.npz", **initial_draws(official.vip_s7()))

    for ours in [*OFFICIAL, *PLAIN]:
        if given.only not in (None, ours):
            continue
        gap, more = "", {}
        if ours in OFFICIAL:
            model = getattr(official, OFFICIAL[ours])().eval()
            parameters = canonical(model)
            fill(parameters)
            logits, features = run_official(model, images)
        else:
            model = Plain(**PLAIN[ours])
            parameters = model.parameters_by_name()
            fill(parameters)
            logits, features = model(images)
        if ours == "ViP_Small_7":
            more["gradients"] = gradients(logits, parameters)
            plain = Plain()
            fill(plain.parameters_by_name())
            if set(plain.parameters_by_name()) != set(parameters):
                raise SystemExit(f"{ours}: the official model and the plain one have other parameters")
            gap = agree(ours, (logits, features), plain(images), "the plain module", 1e-4)
        write_golden(given.out, ours, logits, features, gap, **more)


if __name__ == "__main__":
    main()
