"""ResNet and ResNeXt: residual blocks, and residual blocks with a cardinality.

Papers: "Deep Residual Learning for Image Recognition", He et al., arXiv 1512.03385; "Aggregated Residual
Transformations for Deep Neural Networks", Xie et al., arXiv 1611.05431; "Exploring the Limits of Weakly Supervised
Pretraining", Mahajan et al., arXiv 1805.00932 (the WSL weights); stem and shortcut of ResNet-D: "Bag of Tricks for
Image Classification with Convolutional Neural Networks", He et al., arXiv 1812.01187.

A bottleneck narrows a map to ``width`` channels, convolves it 3 x 3, and widens it again. With cardinality C the 3 x 3
convolution falls into C groups, each ``planes x base_width / 64`` wide: 1 x 64d is ResNet, 32 x 4d is ResNeXt. Nothing
else differs between the two. The stride sits on the 3 x 3 convolution ("v1.5", as in all published weights), not on the
first 1 x 1 one as in the paper.

Written from the papers and checked against torchvision, timm and PaddleClas. Differences are listed in
``docs/en/models/ImageNet1k/ResNet.md``.
"""

from __future__ import annotations

import functools
from typing import Callable, Sequence

import paddle
from paddle import nn
from paddle.nn import functional as F

from ppcls_ext.arch.backbone.base import Backbone
from ppcls_ext.arch.backbone.resnet_sources import RESNET_SOURCES
from ppcls_ext.arch.layers import (
    BatchNorm2D,
    ConvBN,
    DropPath,
    GlobalAveragePool,
    Stage,
    drop_path_rates,
    he_normal,
    init_like_torch,
)
from ppcls_ext.arch.publishers import (
    PADDLECLAS_PREPROCESSING,
    paddleclas_accuracy,
    paddleclas_weights,
    torchvision_weights,
)
from ppcls_ext.registry import Family, Variant
from ppcls_ext.utils.validate import MAX_DEPTH, check_choice, check_integer, check_integers, check_rate

BLOCKS = ("basic", "bottleneck")
STEMS = ("conv7", "deep")
SHORTCUTS = ("conv", "pool")
FORMS = ("official", "paddleclas")


class Projection(nn.Layer):
    """A shortcut to a different width or resolution: 1 x 1 convolution and BatchNorm.

    The stride is the convolution's, or with ``shortcut="pool"`` that of an average pooling in front of it, so that no
    pixel is left out (ResNet-D, arXiv 1812.01187, figure 2c).
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, shortcut: str):
        super().__init__()
        pools = shortcut == "pool" and stride > 1
        self.pool = nn.AvgPool2D(stride, stride, ceil_mode=True) if pools else nn.Identity()
        self.conv = nn.Conv2D(channels_in, channels_out, 1, stride=1 if pools else stride, bias_attr=False)
        self.norm = BatchNorm2D(channels_out)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[N, channels_in, H, W]``, return ``[N, channels_out, ceil(H / stride), ceil(W / stride)]``."""
        return self.norm(self.conv(self.pool(x)))


def make_shortcut(channels_in: int, channels_out: int, stride: int, kind: str, projects: bool = False) -> nn.Layer:
    """Return the identity, or a projection where width or resolution change or if ``projects`` is set."""
    if projects or stride > 1 or channels_in != channels_out:
        return Projection(channels_in, channels_out, stride, kind)
    return nn.Identity()


class OverwritingReLU(nn.ReLU):
    """In-place ReLU. The input must not be used elsewhere, e.g. a freshly computed sum.

    On a CPU new memory for a large map costs more than the comparison: every page of it is zeroed by the system first.
    """

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return a tensor of any shape; ``x`` then holds the result."""
        return F.relu_(x) if paddle.in_dynamic_mode() else F.relu(x)


class BasicBlock(nn.Layer):
    """Two 3 x 3 convolutions and a shortcut (arXiv 1512.03385, figure 5 left)."""

    expansion = 1

    def __init__(self, channels_in: int, planes: int, stride: int, shortcut: nn.Layer, drop_path_rate: float):
        super().__init__()
        self.conv1 = ConvBN(channels_in, planes, 3, stride)
        self.conv2 = ConvBN(planes, planes, 3, act=False)
        self.drop_path = DropPath(drop_path_rate)
        self.shortcut = shortcut
        self.act = OverwritingReLU()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[N, channels_in, H, W]``, return ``[N, planes, ceil(H / stride), ceil(W / stride)]``."""
        residual = self.conv2(self.conv1(x))
        return self.act(self.drop_path(residual) + self.shortcut(x))


class Bottleneck(nn.Layer):
    """1 x 1, 3 x 3 in ``cardinality`` groups, 1 x 1 (arXiv 1512.03385, figure 5 right; 1611.05431, figure 3c)."""

    expansion = 4

    def __init__(
        self,
        channels_in: int,
        planes: int,
        stride: int,
        shortcut: nn.Layer,
        drop_path_rate: float,
        cardinality: int,
        base_width: int,
    ):
        super().__init__()
        width = cardinality * group_width(planes, base_width)
        self.conv1 = ConvBN(channels_in, width, 1)
        self.conv2 = ConvBN(width, width, 3, stride, groups=cardinality)
        self.conv3 = ConvBN(width, self.expansion * planes, 1, act=False)
        self.drop_path = DropPath(drop_path_rate)
        self.shortcut = shortcut
        self.act = OverwritingReLU()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[N, channels_in, H, W]``, return ``[N, 4 planes, ceil(H / stride), ceil(W / stride)]``."""
        residual = self.conv3(self.conv2(self.conv1(x)))
        return self.act(self.drop_path(residual) + self.shortcut(x))


def group_width(planes: int, base_width: int) -> int:
    """Return the channels of one group of a bottleneck: ``base_width`` when ``planes`` is 64, and in proportion.

    Raises:
        ValueError: if there would be none.
    """
    width = planes * base_width // 64
    if not width:
        raise ValueError(f"base_width {base_width} leaves no channel to a group when planes is {planes}")
    return width


def make_stem(kind: str, channels_in: int, channels_out: int) -> nn.Layer:
    """Return the stem: a 7 x 7 convolution or (``deep``) three of 3 x 3, of stride 2, and max pooling of stride 2."""
    if kind == "conv7":
        convs = [ConvBN(channels_in, channels_out, 7, 2)]
    else:
        half = channels_out // 2
        convs = [ConvBN(channels_in, half, 3, 2), ConvBN(half, half, 3), ConvBN(half, channels_out, 3)]
    return nn.Sequential(*convs, nn.MaxPool2D(3, 2, padding=1))


class ConvolutionalNetwork(Backbone):
    """Convolutions from the image to a global average pooling and a linear classifier.

    It takes images of any size; odd sides are rounded up wherever the resolution is halved.
    """

    def _init_weights(self) -> None:
        """Initialise the convolutions; Paddle's own defaults serve for BatchNorm (1 and 0)."""
        for layer in self.sublayers():
            if isinstance(layer, nn.Conv2D):
                he_normal(layer.weight)

    def forward_head(self, x: paddle.Tensor, pre_logits: bool = False) -> paddle.Tensor:
        """Pool the result of :meth:`forward_features` and classify it.

        Args:
            x: The map, ``[N, C, H, W]``.
            pre_logits: Stop before dropout and classifier and return ``[N, num_features]``.
        """
        x = self.pool(x)
        return x if pre_logits else self.head(self.head_drop(x))

    def make_head(self, class_num: int) -> nn.Layer:
        """Return a classifier with weights and biases uniform within 1 / sqrt(num_features), as PyTorch's."""
        head = nn.Linear(self.num_features, class_num)
        init_like_torch(head, fan_in=self.num_features)
        return head

    def check_resolution(self, height: int, width: int) -> None:
        """Check that there is a pixel; -1 stands for an unknown side.

        Raises:
            ValueError: if a side is 0.
        """
        if 0 in (height, width):
            raise ValueError(f"{type(self).__name__} takes images of at least 1 x 1 pixel, got {height} x {width}")


class ResNet(ConvolutionalNetwork):
    """ResNet and ResNeXt with every hyper-parameter open; the defaults are ResNet-50.

    Args:
        class_num: Number of classes; 0 returns pooled features.
        in_channels: Channels of the images.
        block: ``basic`` (two 3 x 3 convolutions) or ``bottleneck`` (1 x 1, 3 x 3, 1 x 1).
        depths: Blocks of each stage.
        planes: Base width of each stage; a bottleneck's output has four times as many channels. The stem's output
            has the first.
        cardinality: Groups C of a bottleneck's 3 x 3 convolution.
        base_width: Width of a group when ``planes`` is 64; a bottleneck is C x floor(planes x base_width / 64) wide.
        stem: ``conv7``, or ``deep``: three 3 x 3 convolutions (ResNet-C).
        shortcut: What halves the resolution in a shortcut: a strided convolution (``conv``) or average pooling
            (``pool``, ResNet-D).
        form: ``official``, or ``paddleclas``: the first block of the first stage projects its shortcut in basic
            networks too, which no other implementation does; bottlenecks need that projection in either form.
        drop_rate: Dropout in front of the classifier.
        drop_path_rate: Stochastic depth of the last block; the ramp is linear from 0 at the first.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if one is out of range, or a basic block is given a cardinality or a base width.
    """

    def __init__(
        self,
        class_num: int = 1000,
        in_channels: int = 3,
        block: str = "bottleneck",
        depths: Sequence[int] = (3, 4, 6, 3),
        planes: Sequence[int] = (64, 128, 256, 512),
        cardinality: int = 1,
        base_width: int = 64,
        stem: str = "conv7",
        shortcut: str = "conv",
        form: str = "official",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        check_choice("block", block, BLOCKS)
        depths = check_integers("depths", depths, maximum=MAX_DEPTH)
        planes = check_integers("planes", planes, len(depths))
        check_integer("cardinality", cardinality)
        check_integer("base_width", base_width)
        if block == "basic" and (cardinality, base_width) != (1, 64):
            raise ValueError(
                "cardinality and base_width shape a bottleneck; with block='basic' they must be 1 and 64, "
                f"got {cardinality} and {base_width}"
            )
        check_choice("stem", stem, STEMS)
        check_choice("shortcut", shortcut, SHORTCUTS)
        check_choice("form", form, FORMS)
        check_rate("drop_rate", drop_rate)
        rates = drop_path_rates(check_rate("drop_path_rate", drop_path_rate), depths)

        if block == "basic":
            expansion = BasicBlock.expansion
            make_block: Callable = BasicBlock
        else:
            expansion = Bottleneck.expansion
            make_block = functools.partial(Bottleneck, cardinality=cardinality, base_width=base_width)
        self.in_channels = check_integer("in_channels", in_channels)
        self.stage_channels = [expansion * width for width in planes]
        self.stage_strides = [4 * 2**s for s in range(len(depths))]
        self.num_features = self.stage_channels[-1]

        self.stem = make_stem(stem, self.in_channels, planes[0])
        stages, channels_in = [], planes[0]
        for s, width in enumerate(planes):
            blocks = []
            for i, rate in enumerate(rates[s]):
                stride = 2 if s > 0 and i == 0 else 1
                projects = s == i == 0 and form == "paddleclas"
                path = make_shortcut(channels_in, self.stage_channels[s], stride, shortcut, projects)
                blocks.append(make_block(channels_in, width, stride, path, rate))
                channels_in = self.stage_channels[s]
            stages.append(Stage(blocks))
        self.stages = nn.Sequential(*stages)
        self.norm = nn.Identity()
        self.pool = GlobalAveragePool(channels_last=False)
        self.head_drop = nn.Dropout(drop_rate)
        self._init_weights()
        self.reset_head(class_num)


# ---- variants --------------------------------------------------------------------------------------------------

_RESNET = "Deep Residual Learning for Image Recognition, arXiv 1512.03385"
_RESNEXT = "Aggregated Residual Transformations for Deep Neural Networks, arXiv 1611.05431"
_WSL = "Exploring the Limits of Weakly Supervised Pretraining, arXiv 1805.00932"
_WSL_LICENCE = "CC BY-NC 4.0, non-commercial (of facebookresearch/WSL-Images)"

_BASIC = {"block": "basic", "form": "paddleclas"}
_34, _50, _101, _152 = ({"depths": depths} for depths in ([3, 4, 6, 3], [3, 4, 6, 3], [3, 4, 23, 3], [3, 8, 36, 3]))
_32X4D = {"cardinality": 32, "base_width": 4}
_64X4D = {"cardinality": 64, "base_width": 4}

FAMILY = Family(
    name="ResNet",
    sources=RESNET_SOURCES,
    networks=(ResNet,),
    paper=_RESNET,
    variants=(
        Variant(
            "ResNet18",
            arguments={**_BASIC, "depths": [2, 2, 2, 2]},
            params=11_693_736,
            macs=1_826_918_400,
            accuracy=paddleclas_accuracy("ResNet", 71.0, 89.9),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(
                paddleclas_weights("legendary_models/ResNet18"),
                torchvision_weights("resnet18-f37072fd"),
            ),
        ),
        Variant(
            "ResNet34",
            arguments={**_BASIC, **_34},
            params=21_801_896,
            macs=3_676_606_464,
            accuracy=paddleclas_accuracy("ResNet", 74.6, 92.1),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(
                paddleclas_weights("legendary_models/ResNet34"),
                torchvision_weights("resnet34-b627a593"),
            ),
        ),
        Variant(
            "ResNet50",
            arguments=_50,
            params=25_557_032,
            macs=4_089_184_256,
            accuracy=paddleclas_accuracy("ResNet", 76.5, 93.0),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(
                paddleclas_weights("legendary_models/ResNet50"),
                torchvision_weights("resnet50-0676ba61"),
                torchvision_weights("resnet50-11ad3fa6"),
            ),
        ),
        Variant(
            "ResNet101",
            arguments=_101,
            params=44_549_160,
            macs=7_801_405_440,
            accuracy=paddleclas_accuracy("ResNet", 77.6, 93.6),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(
                paddleclas_weights("legendary_models/ResNet101"),
                torchvision_weights("resnet101-63fe2227"),
                torchvision_weights("resnet101-cd907fc2"),
            ),
        ),
        Variant(
            "ResNet152",
            arguments=_152,
            params=60_192_808,
            macs=11_513_626_624,
            accuracy=paddleclas_accuracy("ResNet", 78.3, 94.0),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(
                paddleclas_weights("legendary_models/ResNet152"),
                torchvision_weights("resnet152-394f9c45"),
                torchvision_weights("resnet152-f82ba261"),
            ),
        ),
        Variant(
            "ResNeXt50_32x4d",
            arguments={**_50, **_32X4D},
            params=25_028_904,
            macs=4_230_479_872,
            accuracy=paddleclas_accuracy("ResNeXt", 77.8, 93.8),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(
                paddleclas_weights("ResNeXt50_32x4d", "paddleclas_resnext"),
                torchvision_weights("resnext50_32x4d-7cdf4587"),
                torchvision_weights("resnext50_32x4d-1a0047aa"),
            ),
            paper=_RESNEXT,
        ),
        Variant(
            "ResNeXt50_64x4d",
            arguments={**_50, **_64X4D},
            params=45_192_488,
            macs=7_981_236_224,
            accuracy=paddleclas_accuracy("ResNeXt", 78.4, 94.1),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(paddleclas_weights("ResNeXt50_64x4d", "paddleclas_resnext"),),
            paper=_RESNEXT,
        ),
        Variant(
            "ResNeXt101_32x4d",
            arguments={**_101, **_32X4D},
            params=44_177_704,
            macs=7_969_996_800,
            accuracy=paddleclas_accuracy("ResNeXt", 78.7, 94.2),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(paddleclas_weights("ResNeXt101_32x4d", "paddleclas_resnext"),),
            paper=_RESNEXT,
        ),
        Variant(
            "ResNeXt101_64x4d",
            arguments={**_101, **_64X4D},
            params=83_455_272,
            macs=15_460_270_080,
            accuracy=paddleclas_accuracy("ResNeXt", 78.4, 94.5),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(
                paddleclas_weights("ResNeXt101_64x4d", "paddleclas_resnext"),
                torchvision_weights("resnext101_64x4d-173b62eb"),
            ),
            paper=_RESNEXT,
        ),
        Variant(
            "ResNeXt152_32x4d",
            arguments={**_152, **_32X4D},
            params=59_951_400,
            macs=11_709_513_728,
            accuracy=paddleclas_accuracy("ResNeXt", 79.0, 94.3),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(paddleclas_weights("ResNeXt152_32x4d", "paddleclas_resnext"),),
            paper=_RESNEXT,
        ),
        Variant(
            "ResNeXt152_64x4d",
            arguments={**_152, **_64X4D},
            params=114_971_944,
            macs=22_939_303_936,
            accuracy=paddleclas_accuracy("ResNeXt", 79.5, 94.7),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(paddleclas_weights("ResNeXt152_64x4d", "paddleclas_resnext"),),
            paper=_RESNEXT,
        ),
        Variant(
            "ResNeXt101_32x8d_wsl",
            arguments={**_101, "cardinality": 32, "base_width": 8},
            params=88_791_336,
            macs=16_414_015_488,
            accuracy=paddleclas_accuracy("ResNeXt101_wsl", 82.6, 96.7),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(
                paddleclas_weights("ResNeXt101_32x8d_wsl", "paddleclas_wsl", licence=_WSL_LICENCE),
                torchvision_weights("ig_resnext101_32x8-c38310e5", licence=_WSL_LICENCE),
            ),
            paper=_WSL,
        ),
        Variant(
            "ResNeXt101_32x16d_wsl",
            arguments={**_101, "cardinality": 32, "base_width": 16},
            params=194_026_792,
            macs=36_163_289_088,
            accuracy=paddleclas_accuracy("ResNeXt101_wsl", 84.2, 97.3),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(
                paddleclas_weights("ResNeXt101_32x16_wsl", "paddleclas_wsl", licence=_WSL_LICENCE),
                torchvision_weights("ig_resnext101_32x16-c6f796b0", licence=_WSL_LICENCE),
            ),
            paper=_WSL,
        ),
        Variant(
            "ResNeXt101_32x32d_wsl",
            arguments={**_101, "cardinality": 32, "base_width": 32},
            params=468_530_472,
            macs=87_106_781_184,
            accuracy=paddleclas_accuracy("ResNeXt101_wsl", 85.0, 97.6),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(
                paddleclas_weights("ResNeXt101_32x32d_wsl", "paddleclas_wsl", licence=_WSL_LICENCE),
                torchvision_weights("ig_resnext101_32x32-e4b90b00", licence=_WSL_LICENCE),
            ),
            paper=_WSL,
        ),
        Variant(
            "ResNeXt101_32x48d_wsl",
            arguments={**_101, "cardinality": 32, "base_width": 48},
            params=828_411_176,
            macs=153_310_199_808,
            accuracy=paddleclas_accuracy("ResNeXt101_wsl", 85.4, 97.7),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(
                paddleclas_weights("ResNeXt101_32x48d_wsl", "paddleclas_wsl", licence=_WSL_LICENCE),
                torchvision_weights("ig_resnext101_32x48-3e41cc8a", licence=_WSL_LICENCE),
            ),
            paper=_WSL,
        ),
    ),
)
