"""Write the golden files of the Sequencer family with the reference implementations, in PyTorch.

    python tests/golden/make_sequencer.py --official <checkout of okojoalg/sequencer>

needs PyTorch and timm (extra ``parity``). The official modules are imported from the checkout; S, M and L are also run
in timm, and the two must agree. ``Sequence_2d`` has no official model: a plain module follows its description.
"""

from __future__ import annotations

import functools
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
    "Sequencer2D_S": "sequencer2d_s",
    "Sequencer2D_M": "sequencer2d_m",
    "Sequencer2D_L": "sequencer2d_l",
    "Sequencer2D_S_392": "sequencer2d_s_392",
    "Sequencer2D_M_392": "sequencer2d_m_392",
    "Sequencer2D_L_392": "sequencer2d_l_392",
    "Sequencer2D_L_d4_3x": "sequencer2d_l_d4_3x",
    "Sequencer2D_S_unidirectional": "sequencer2d_s_unidirectional",
    "Sequencer2D_S_add": "sequencer2d_s_add",
    "Sequencer2D_S_h2x": "sequencer2d_s_h2x",
    "Sequencer2D_S_without_fc": "sequencer2d_s_without_fc",
    "Sequencer2D_S_vertical": "sequencer2d_vertical",
    "Sequencer2D_S_horizontal": "sequencer2d_s_horizontal",
    "GRUSequencer2D_S": "gru_sequencer2d_s",
    "RNNSequencer2D_S": "rnn_sequencer2d_s",
    "VSequencer_S": "v_sequencer_s",
    "VSequencer_S_H": "v_sequencer_s_h",
    "VSequencer_S_PE": "v_sequencer_s_pe",
}


def import_official(checkout: Path) -> types.ModuleType:
    """Import the official ``models`` package, written for timm 0.5, under today's timm."""
    from timm.data import constants
    from timm.layers import lecun_normal_
    from timm.models import named_apply

    def build(cls, variant, pretrained, default_cfg, pretrained_filter_fn, **kwargs):
        return cls(**kwargs)

    def install(name: str, **members) -> None:
        module = types.ModuleType(name)
        vars(module).update(members)
        sys.modules[name] = module

    layers = {key: value for key, value in vars(timm.layers).items() if not key.startswith("__")}
    install("timm.models.layers", **{**layers, "lecun_normal_": lecun_normal_})
    install("timm.models.helpers", build_model_with_cfg=build, named_apply=named_apply)
    install("timm.models.registry", register_model=lambda function: function)
    timm.data.DEFAULT_CROP_PCT = constants.DEFAULT_CROP_PCT
    sys.path.insert(0, str(checkout))
    # The checkout's ``utils`` package imports training code; only its helpers are needed.
    package = types.ModuleType("utils")
    package.__path__ = [str(checkout / "utils")]
    sys.modules["utils"] = package
    import models

    return models


def canonical(name: str, depths: list) -> str:
    """Return our name of an official or timm parameter."""
    name = name.replace("head.fc.", "head.").replace("absolute_pos_embed", "pos_embed.weight")
    match = re.match(r"blocks\.(\d+)\.(\d+)\.(.*)", name)
    if match is None:
        return name
    stage, index, rest = int(match[1]), int(match[2]), match[3]
    if index == depths[stage]:
        return f"stages.{stage + 1}.downsample.{rest}"
    return f"stages.{stage}.blocks.{index}.{rest}"


def fill(model: nn.Module, depths: list) -> None:
    """Set every parameter by the rule."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(rule.parameter(canonical(name, depths), tuple(parameter.shape))))


class Sequence2d(nn.Module):
    """The model that seed document 000 describes, spelled out without any of our or its code.

    A stage projects patches (stride 7, then 2) or tokens (1 x 1), runs blocks (LSTMs of width C down the columns and
    along the rows, concatenated and projected back; an MLP of ratio 3) and ends with a LayerNorm.
    """

    depths, dims, strides = [4, 3, 8, 3], [64, 128, 128, 128], [7, 2, 1, 1]

    def __init__(self):
        super().__init__()
        layers = {}
        for s, (depth, dim, stride) in enumerate(zip(self.depths, self.dims, self.strides)):
            project = nn.Conv2d(3 if s == 0 else self.dims[s - 1], dim, stride, stride)
            layers["stem.proj" if s == 0 else f"stages.{s}.downsample.down"] = project
            for b in range(depth):
                block = f"stages.{s}.blocks.{b}"
                layers[f"{block}.norm1"] = nn.LayerNorm(dim, eps=1e-6)
                for axis in "vh":
                    rnn = nn.LSTM(dim, dim, batch_first=True, bidirectional=True)
                    layers[f"{block}.rnn_tokens.rnn_{axis}"] = rnn
                layers[f"{block}.rnn_tokens.fc"] = nn.Linear(4 * dim, dim)
                layers[f"{block}.norm2"] = nn.LayerNorm(dim, eps=1e-6)
                layers[f"{block}.mlp_channels.fc1"] = nn.Linear(dim, 3 * dim)
                layers[f"{block}.mlp_channels.fc2"] = nn.Linear(3 * dim, dim)
            layers["norm" if s == 3 else f"stages.{s}.norm"] = nn.LayerNorm(dim, eps=1e-6)
        layers["head"] = nn.Linear(128, 1000)
        self.by_name = layers
        self.layers = nn.ModuleList(layers.values())

    def named_parameters(self, *args, **kwargs):
        for name, layer in self.by_name.items():
            for suffix, parameter in layer.named_parameters():
                yield f"{name}.{suffix}", parameter

    def mix(self, block: str, x: torch.Tensor) -> torch.Tensor:
        n, h, w, c = x.shape
        mixed = torch.empty(n, h, w, 4 * c)
        for column in range(w):
            mixed[:, :, column, : 2 * c] = self.by_name[f"{block}.rnn_tokens.rnn_v"](x[:, :, column].contiguous())[0]
        for row in range(h):
            mixed[:, row, :, 2 * c :] = self.by_name[f"{block}.rnn_tokens.rnn_h"](x[:, row].contiguous())[0]
        return self.by_name[f"{block}.rnn_tokens.fc"](mixed)

    def forward(self, x: torch.Tensor):
        features = []
        for s, depth in enumerate(self.depths):
            x = self.by_name["stem.proj" if s == 0 else f"stages.{s}.downsample.down"](x)
            x = x.permute(0, 2, 3, 1)
            for b in range(depth):
                block = f"stages.{s}.blocks.{b}"
                x = x + self.mix(block, self.by_name[f"{block}.norm1"](x))
                hidden = self.by_name[f"{block}.mlp_channels.fc1"](self.by_name[f"{block}.norm2"](x))
                x = x + self.by_name[f"{block}.mlp_channels.fc2"](nn.functional.gelu(hidden))
            if s < 3:
                x = self.by_name[f"stages.{s}.norm"](x)
            x = x.permute(0, 3, 1, 2)
            features.append(x)
        x = self.by_name["norm"](x.permute(0, 2, 3, 1))
        return self.by_name["head"](x.flatten(1, 2).mean(1)), features


def run_official(model: nn.Module, depths: list, images: torch.Tensor):
    """Return logits and the output of each stage's last block as NCHW maps."""
    features = []
    for stage, depth in zip(model.blocks, depths):
        stage[depth - 1].register_forward_hook(lambda _m, _i, output: features.append(output.permute(0, 3, 1, 2)))
    return model(images), features


def run_timm(name: str, depths: list, images: torch.Tensor):
    """Return the logits and stage outputs of timm's model with the same weights."""
    model = timm.create_model(name, pretrained=False).eval()
    fill(model, depths)
    features = model.forward_intermediates(images, intermediates_only=True, output_fmt="NCHW")
    return model(images), features


def initial_draws(model: nn.Module, depths: list) -> dict:
    """Return up to 300 initial values of each kind of parameter, as the reference draws them.

    A kind is a name with its numbers removed; values of tensors that have the same distribution are drawn from all.
    """

    def kind(name: str) -> str:
        found = re.sub(r"\.\d+(?=\.)", "", canonical(name, depths))
        return found.replace("_reverse", "").replace("rnn_v", "rnn_h")

    return draws((kind(name), parameter) for name, parameter in model.named_parameters())


def main() -> None:
    given = parse(__doc__, "sequencer", official="okojoalg/sequencer")
    official = import_official(given.official)

    torch.manual_seed(0)
    model = official.sequencer2d_s()
    np.savez_compressed(given.out / "initial_draws.npz", **initial_draws(model, [4, 3, 8, 3]))

    for ours, theirs in [*OFFICIAL.items(), ("Sequence_2d", None)]:
        if given.only not in (None, ours):
            continue
        images = torch.from_numpy(rule.images(392 if ours.endswith("_392") else 224))
        if theirs is None:
            model = Sequence2d()
            depths, run = model.depths, model
        else:
            model = getattr(official, theirs)().eval()
            depths = [sum(hasattr(block, "mlp_channels") for block in stage) for stage in model.blocks]
            run = functools.partial(run_official, model, depths)
        fill(model, depths)
        more = {}
        if ours == "Sequencer2D_S":
            logits, features = run(images)
            names = {canonical(name, depths): parameter for name, parameter in model.named_parameters()}
            more["gradients"] = gradients(logits, names)
        else:
            with torch.no_grad():
                logits, features = run(images)
        gap = ""
        if ours in ("Sequencer2D_S", "Sequencer2D_M", "Sequencer2D_L"):
            with torch.no_grad():
                gap = agree(ours, (logits, features), run_timm(theirs, depths, images), "timm")
        write_golden(given.out, ours, logits, features, gap, **more)


if __name__ == "__main__":
    main()
