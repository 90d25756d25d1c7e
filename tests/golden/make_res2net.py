r"""Write the golden files of Res2Net with the official code, in PyTorch.

    python tests/golden/make_res2net.py --official <checkout of Res2Net/Res2Net-PretrainedModels> \
        --big-little <checkout of IBM/BigLittleNet>

needs PyTorch and timm (extra ``parity``). Where timm has the model too, the two must agree. SE-Res2Net has no official
code: timm's block with its squeeze-and-excitation stands for it. Nor has bLRes2Net: it is the official block in the
official Big-Little Net. All are in the official form. Some run on small images, and the large ones with one or two
blocks per stage: their blocks and widths are whole, their depths are checked by their numbers of parameters.
"""

from __future__ import annotations

import importlib
import json
import re
import sys

import make_resnet  # before timm: it makes torchvision importable
import rule
import timm
import torch
from timm.layers import SEModule
from timm.models.res2net import Bottle2neck
from timm.models.resnet import ResNet
from torch import nn
from writing import agree, parse, write_golden

_SHORT, _50 = [1, 2, 1, 1], [3, 4, 6, 3]
#: ours: (official module, class, block, blocks per stage, options, image size, timm's name)
VARIANTS = {
    "Res2Net50_26w_4s": ("res2net", "Res2Net", _50, {"baseWidth": 26, "scale": 4}, 224, "res2net50_26w_4s"),
    "Res2Net50_14w_8s": ("res2net", "Res2Net", _SHORT, {"baseWidth": 14, "scale": 8}, 64, "res2net50_14w_8s"),
    "Res2Net50_48w_2s": ("res2net", "Res2Net", _SHORT, {"baseWidth": 48, "scale": 2}, 64, "res2net50_48w_2s"),
    "Res2Net50_26w_6s": ("res2net", "Res2Net", _SHORT, {"baseWidth": 26, "scale": 6}, 64, "res2net50_26w_6s"),
    "Res2Net50_26w_8s": ("res2net", "Res2Net", _SHORT, {"baseWidth": 26, "scale": 8}, 64, "res2net50_26w_8s"),
    "Res2Net101_26w_4s": ("res2net", "Res2Net", _SHORT, {"baseWidth": 26, "scale": 4}, 64, "res2net101_26w_4s"),
    "Res2Net50_vd_26w_4s": ("res2net_v1b", "Res2Net", _50, {"baseWidth": 26, "scale": 4}, 224, "res2net50d"),
    "Res2Net101_vd_26w_4s": ("res2net_v1b", "Res2Net", _SHORT, {"baseWidth": 26, "scale": 4}, 64, "res2net101d"),
    "Res2Net200_vd_26w_4s": ("res2net_v1b", "Res2Net", _SHORT, {"baseWidth": 26, "scale": 4}, 64, None),
    "Res2NeXt50_4s": ("res2next", "Res2NeXt", _50, {"baseWidth": 4, "cardinality": 8, "scale": 4}, 64, "res2next50"),
    "SE_Res2Net50": (None, None, _50, {}, 64, None),
    "bLRes2Net50": ("models.blresnet", "bLResNet", _50, {"alpha": 2, "beta": 4}, 224, None),
    "Res2Net_DLA60": ("dla", "Bottle2neck", [1, 1, 1, 2, 3, 1], {}, 224, "dla60_res2net"),
    "Res2NeXt_DLA60": ("dla", "Bottle2neckX", [1, 1, 1, 2, 3, 1], {}, 64, "dla60_res2next"),
}


def canonical(name: str) -> str | None:
    """Return our name of a parameter or buffer, None for DLA's projections that no forward pass uses."""
    if re.match(r"base_layer|level", name):
        return _canonical_dla(name)
    name = re.sub(r"^conv1\.(\d)\.", lambda m: f"stem.{int(m[1]) // 3}.{'norm' if int(m[1]) % 3 else 'conv'}.", name)
    return _statistics(name) if name.startswith("stem.") else _block(make_resnet.canonical(name))


def canonical_deep(name: str) -> str:
    """Return our name where the stem has three convolutions and the shortcut begins with a pooling."""
    if name.startswith("bn1."):
        return _statistics(name.replace("bn1.", "stem.2.norm."))
    name = name.replace("downsample.1.", "shortcut.conv.").replace("downsample.2.", "shortcut.norm.")
    return canonical(name)


def canonical_big_little(name: str) -> str:
    """Return our name of a parameter or buffer of a Big-Little Net."""
    name = re.sub(r"^b_conv0\.|^bn_b0\.", lambda m: f"stem.1.big.{_kind(m[0])}.", name)
    name = re.sub(r"^(?:l_conv|bn_l)(\d)\.", lambda m: f"stem.1.little.{m[1]}.{_kind(m[0])}.", name)
    name = re.sub(r"^bl_init\.|^bn_bl_init\.", lambda m: f"stem.1.merge.{_kind(m[0])}.", name)
    name = re.sub(r"little_e\.(\d)\.", lambda m: f"expand.{'norm' if int(m[1]) else 'conv'}.", name)
    if ".little." not in name:  # behind a pooling
        name = name.replace("downsample.1.", "downsample.0.").replace("downsample.2.", "downsample.1.")
    name = re.sub(r"^layer(\d)\.fusion\.0\.", lambda m: f"layer{m[1]}.{_50[int(m[1]) - 1] - 1}.", name)
    name = re.sub(r"^layer(\d)\.big\.", r"layer\1.", name)
    match = re.match(r"layer(\d)\.(little\.\d|expand)\.(.*)", name)
    if not match:
        return canonical(name)
    inner = canonical(f"layer1.0.{match[3]}").removeprefix("stages.0.blocks.0.")
    return f"stages.{int(match[1]) - 1}.{match[2]}.{inner}"


def _kind(name: str) -> str:
    return "norm" if name.startswith("bn") else "conv"


def _statistics(name: str) -> str:
    return name.replace("running_mean", "_mean").replace("running_var", "_variance")


def _block(name: str) -> str:
    name = re.sub(r"\.convs\.(\d)\.", r".split.convs.\1.conv.", name)
    return re.sub(r"\.bns\.(\d)\.", r".split.convs.\1.norm.", name)


def _canonical_dla(name: str) -> str | None:
    name = _statistics(name)
    match = re.match(r"(base_layer|level0|level1)\.(\d)\.(.*)", name)
    if match:
        place = ["base_layer", "level0", "level1"].index(match[1])
        return f"stem.{place}.{'norm' if int(match[2]) else 'conv'}.{match[3]}"
    level, path, rest = re.match(r"level(\d)\.((?:tree\d\.)*)(.*)", name).groups()
    stage, steps = int(level) - 2, [int(step) - 1 for step in re.findall(r"\d", path)]
    number = int("0" + "".join(map(str, steps)), 2)
    if rest.startswith("root."):
        return f"stages.{stage}.roots.{number}.{rest[5:].replace('bn.', 'norm.')}"
    if rest.startswith("project."):
        if len(steps) != [1, 2, 3, 1][stage] - 1:
            return None
        kind = {"0": "conv", "1": "norm"}[rest[8]]
        return f"stages.{stage}.blocks.0.shortcut.{kind}.{rest[10:]}"
    return _block(make_resnet.canonical(f"layer{stage + 1}.{number}.{rest}"))


def fill(model: nn.Module, names) -> nn.Module:
    """Set every parameter and running statistic by the rule, and the model to evaluation."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            ours = names(name)
            if ours and not name.endswith("num_batches_tracked"):
                tensor.copy_(torch.from_numpy(rule.parameter(ours, tuple(tensor.shape))))
    return model.eval()


def run(model: nn.Module, images: torch.Tensor) -> tuple:
    """Return logits and the output of each stage."""
    features: list = []
    stages = [f"layer{i}" for i in (1, 2, 3, 4)] if hasattr(model, "layer1") else [f"level{i}" for i in (2, 3, 4, 5)]
    for stage in stages:
        getattr(model, stage).register_forward_hook(lambda _m, _i, output: features.append(output))
    with torch.no_grad():
        return model(images).flatten(1), features


class _AllButTheLast(nn.Module):
    """The ReLU of a block whose last call, on the sum with the shortcut, does nothing."""

    def __init__(self, calls: int):
        super().__init__()
        self.calls, self.done = calls, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.done += 1
        return x if self.done % self.calls == 0 else torch.relu(x)


def big_little(bottle2neck: type) -> type:
    """Return the official Res2Net block with the constructor of Big-Little Net's bottleneck.

    The first block of a row is the one that is given a stride, if only of 1.
    """

    class Block(bottle2neck):
        def __init__(self, inplanes, planes, stride=None, downsample=None, last_relu=True):
            stype = "normal" if stride is None else "stage"
            super().__init__(inplanes, planes // self.expansion, stride or 1, downsample, stype=stype)
            if not last_relu:
                self.relu = _AllButTheLast(self.nums + 2)

    return Block


def reference(module: str | None, name: str | None, depths: list, options: dict, size: int) -> nn.Module:
    """Build the official model."""
    if module is None:
        return ResNet(Bottle2neck, depths, base_width=26, block_args={"scale": 4, "attn_layer": SEModule})
    code = importlib.import_module(module)
    if name == "bLResNet":
        return code.bLResNet(big_little(importlib.import_module("res2net").Bottle2neck), depths, **options)
    if module == "dla":
        return code.DLA(depths, [16, 32, 128, 256, 512, 1024], block=getattr(code, name), pool_size=size // 32)
    if module == "res2next":
        return code.Res2NeXt(code.Bottle2neckX, layers=depths, num_classes=1000, **options)
    return getattr(code, name)(code.Bottle2neck, depths, **options)


def main() -> None:
    repositories = {"official": "Res2Net/Res2Net-PretrainedModels", "big_little": "IBM/BigLittleNet"}
    given = parse(__doc__, "res2net", **repositories)
    sys.path[:0] = [str(given.official), str(given.big_little)]
    for ours, (module, name, depths, options, size, in_timm) in VARIANTS.items():
        if given.only not in (None, ours):
            continue
        names = {"res2net_v1b": canonical_deep, "models.blresnet": canonical_big_little}.get(module, canonical)
        images = torch.from_numpy(rule.images(size))
        logits, features = run(fill(reference(module, name, depths, options, size), names), images)
        gap = ""
        if in_timm:
            layers = {} if module == "dla" else {"layers": depths}
            others = run(fill(timm.create_model(in_timm, **layers), names), images)
            gap = agree(ours, (logits, features), others, "timm")
        arguments = {} if module in ("dla", "models.blresnet") else {"form": "official"}
        if depths == _SHORT:
            arguments["depths"] = depths
        write_golden(given.out, ours, logits, features, gap, size=size, arguments=json.dumps(arguments))


if __name__ == "__main__":
    main()
