"""Write the golden files of ResNet and ResNeXt with torchvision, in PyTorch.

    python tests/golden/make_resnet.py

needs PyTorch, torchvision and timm (extra ``parity``). torchvision's constructor makes every variant; where timm has
the model too, the two must agree. All are in the official form. The large ones run on small images, and the largest
with one block per stage: their blocks and widths are whole, their depths are checked by their numbers of parameters.
"""

from __future__ import annotations

import json
import re

import numpy as np
import rule
import torch
from torch import nn
from writing import agree, gradients, parse, write_golden

# Without its compiled part, which is not needed here, torchvision lacks two operators that it describes on import.
_operators = torch.library.Library("torchvision", "DEF")
_operators.define("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
_operators.define("qnms(Tensor boxes, Tensor scores, float threshold) -> Tensor")

import timm  # noqa: E402
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet  # noqa: E402

_1, _18, _34, _101, _152 = [1, 1, 1, 1], [2, 2, 2, 2], [3, 4, 6, 3], [3, 4, 23, 3], [3, 8, 36, 3]
#: ours: (block, depths, groups, width of a group, image size, timm's name)
VARIANTS = {
    "ResNet18": (BasicBlock, _18, 1, 64, 224, "resnet18"),
    "ResNet34": (BasicBlock, _34, 1, 64, 224, "resnet34"),
    "ResNet50": (Bottleneck, _34, 1, 64, 224, "resnet50"),
    "ResNet101": (Bottleneck, _101, 1, 64, 64, "resnet101"),
    "ResNet152": (Bottleneck, _152, 1, 64, 64, "resnet152"),
    "ResNeXt50_32x4d": (Bottleneck, _34, 32, 4, 224, "resnext50_32x4d"),
    "ResNeXt50_64x4d": (Bottleneck, _34, 64, 4, 64, None),
    "ResNeXt101_32x4d": (Bottleneck, _101, 32, 4, 64, "resnext101_32x4d"),
    "ResNeXt101_64x4d": (Bottleneck, _1, 64, 4, 64, "resnext101_64x4d"),
    "ResNeXt152_32x4d": (Bottleneck, _1, 32, 4, 64, None),
    "ResNeXt152_64x4d": (Bottleneck, _1, 64, 4, 64, None),
    "ResNeXt101_32x8d_wsl": (Bottleneck, _1, 32, 8, 64, "resnext101_32x8d"),
    "ResNeXt101_32x16d_wsl": (Bottleneck, _1, 32, 16, 64, "resnext101_32x16d"),
    "ResNeXt101_32x32d_wsl": (Bottleneck, _1, 32, 32, 64, None),
    "ResNeXt101_32x48d_wsl": (Bottleneck, _1, 32, 48, 64, None),
}
#: The variant that is also trained for a step, with one block per stage, on images of this size.
TRAINED, TRAINED_SIZE, TRAINED_BATCH = "ResNeXt50_32x4d", 64, 16


def canonical(name: str) -> str:
    """Return our name of a parameter or buffer of torchvision's and timm's ResNet."""
    name = name.replace("running_mean", "_mean").replace("running_var", "_variance")
    name = re.sub(r"^(conv1|bn1)\.", lambda m: f"stem.0.{'conv' if m[1] == 'conv1' else 'norm'}.", name)
    name = re.sub(r"^layer(\d)\.(\d+)\.", lambda m: f"stages.{int(m[1]) - 1}.blocks.{m[2]}.", name)
    name = name.replace("downsample.0.", "shortcut.conv.").replace("downsample.1.", "shortcut.norm.")
    name = re.sub(r"blocks\.(\d+)\.(conv|bn)(\d)\.", _layer, name)
    return name.replace("fc.", "head.")


def _layer(match: re.Match) -> str:
    kind = {"conv": "conv", "bn": "norm"}[match[2]]
    return f"blocks.{match[1]}.conv{match[3]}.{kind}."


def fill(model: nn.Module) -> nn.Module:
    """Set every parameter and running statistic by the rule, and the model to evaluation."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                tensor.copy_(torch.from_numpy(rule.parameter(canonical(name), tuple(tensor.shape))))
    return model.eval()


def run(model: nn.Module, images: torch.Tensor) -> tuple:
    """Return logits and the output of each stage."""
    features: list = []
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        stage.register_forward_hook(lambda _m, _i, output: features.append(output))
    with torch.no_grad():
        return model(images), features


def train() -> dict:
    """Return the gradients of one step in training mode, computed in double, and the running means after it.

    The running variances are left out: PyTorch counts one pixel less than there are in the batch's, Paddle does not.
    """
    model = fill(ResNet(Bottleneck, _1, groups=32, width_per_group=4)).double().train()
    images = torch.from_numpy(rule.images(TRAINED_SIZE, TRAINED_BATCH)).double()
    logits = model(images)
    parameters = {canonical(name): parameter for name, parameter in model.named_parameters()}
    means = {canonical(name): buffer for name, buffer in model.named_buffers() if name.endswith("running_mean")}
    return {
        "gradients": gradients(logits, parameters),
        "means": np.stack([rule.gradient_summary(means[name].numpy()) for name in sorted(means)]),
    }


def main() -> None:
    given = parse(__doc__, "resnet")
    for ours, (block, depths, groups, width, size, in_timm) in VARIANTS.items():
        if given.only not in (None, ours):
            continue
        images = torch.from_numpy(rule.images(size))
        model = fill(ResNet(block, depths, groups=groups, width_per_group=width))
        logits, features = run(model, images)
        gap = ""
        if in_timm:
            others = run(fill(timm.create_model(in_timm, layers=depths)), images)
            gap = agree(ours, (logits, features), others, "timm")
        arguments = {"form": "official", **({"depths": depths} if depths == _1 else {})}
        trained = train() if ours == TRAINED else {}
        write_golden(given.out, ours, logits, features, gap, size=size, arguments=json.dumps(arguments), **trained)


if __name__ == "__main__":
    main()
