"""Res2Net: many scales inside one residual block.

Paper: "Res2Net: A New Multi-scale Backbone Architecture", Gao et al., arXiv 1904.01169.
Official code and weights: https://github.com/Res2Net/Res2Net-PretrainedModels (CC BY-NC-SA 4.0, non-commercial).

A bottleneck's 3 x 3 convolution becomes several small ones. The map is split into ``scale`` parts of ``base_width``
channels (when ``planes`` is 64); a part is added to the convolved one before it, then convolved itself, so that the
k-th part has seen k convolutions: a block has receptive fields of several sizes at once. Everything around the block is
ResNet's. With a cardinality it is Res2NeXt; with the stem and the shortcuts of ResNet-D it is what the authors call v1b
and PaddleClas ``vd``; with squeeze-and-excitation (arXiv 1709.01507) it is SE-Res2Net.

Written from the paper and checked against the official code, timm and PaddleClas. Differences are listed in
``docs/en/models/ImageNet1k/Res2Net.md``.
"""

from __future__ import annotations

from typing import Sequence

import paddle
from paddle import nn

from ppcls_ext.arch.backbone.resnet import (
    FORMS,
    SHORTCUTS,
    STEMS,
    ConvolutionalNetwork,
    OverwritingReLU,
    group_width,
    make_shortcut,
    make_stem,
)
from ppcls_ext.arch.backbone.resnet_sources import RES2NET_SOURCES
from ppcls_ext.arch.layers import ConvBN, DropPath, GlobalAveragePool, Stage, drop_path_rates
from ppcls_ext.arch.publishers import PADDLECLAS_PREPROCESSING, paddleclas_accuracy, paddleclas_weights, ssld_weights
from ppcls_ext.registry import Accuracy, Family, Preprocessing, Variant, Weights
from ppcls_ext.utils.validate import MAX_DEPTH, check_choice, check_flag, check_integer, check_integers, check_rate


class SplitConvolution(nn.Layer):
    """The 3 x 3 convolutions of a block, in a row over the parts of a map (arXiv 1904.01169, equation 1).

    The paper passes the first part on unchanged, all implementations the last one; only the order of channels differs.

    Args:
        width: Channels of a part.
        scale: Parts.
        stride: Of each convolution.
        cardinality: Groups of each convolution.
        restarts: The parts are convolved one by one, nothing is added, and the last one is average-pooled: what a block
            does whose input is not yet one of its own stage.
        counts_padding: Whether that pooling counts the zeros around the map.
    """

    def __init__(self, width: int, scale: int, stride: int, cardinality: int, restarts: bool, counts_padding: bool):
        super().__init__()
        self._scale, self._restarts = scale, restarts
        self.convs = nn.LayerList([ConvBN(width, width, 3, stride, cardinality) for _ in range(scale - 1)])
        self.pool = nn.AvgPool2D(3, stride, padding=1, exclusive=not counts_padding) if restarts else nn.Identity()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[N, scale * width, H, W]``, return ``[N, scale * width, ceil(H / stride), ceil(W / stride)]``."""
        parts = paddle.split(x, self._scale, axis=1)
        outputs: list = []
        for i, conv in enumerate(self.convs):
            adds = i > 0 and not self._restarts
            outputs.append(conv(parts[i] + outputs[-1] if adds else parts[i]))
        return paddle.concat([*outputs, self.pool(parts[-1])], axis=1)


class SqueezeExcitation(nn.Layer):
    """Each channel times a factor that depends on the means of all channels (arXiv 1709.01507, section 3)."""

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.act = nn.ReLU()
        self.fc2 = nn.Linear(channels // reduction, channels)
        self.gate = nn.Sigmoid()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return ``[N, C, H, W]``."""
        factors = self.gate(self.fc2(self.act(self.fc1(x.mean(axis=[2, 3])))))
        return x * factors.unsqueeze([2, 3])


class Res2Bottleneck(nn.Layer):
    """1 x 1 to ``scale`` parts, :class:`SplitConvolution`, 1 x 1, and squeeze-and-excitation if there is any."""

    expansion = 4

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        split: SplitConvolution,
        width: int,
        shortcut: nn.Layer,
        drop_path_rate: float,
        use_se: bool = False,
    ):
        super().__init__()
        self.conv1 = ConvBN(channels_in, width, 1)
        self.split = split
        self.conv3 = ConvBN(width, channels_out, 1, act=False)
        self.se = SqueezeExcitation(channels_out) if use_se else nn.Identity()
        self.drop_path = DropPath(drop_path_rate)
        self.shortcut = shortcut
        self.act = OverwritingReLU()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[N, channels_in, H, W]``, return ``[N, channels_out, ceil(H / stride), ceil(W / stride)]``."""
        residual = self.se(self.conv3(self.split(self.conv1(x))))
        return self.act(self.drop_path(residual) + self.shortcut(x))


def check_scale(scale: int) -> int:
    """Return the number of parts.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is below 2.
    """
    return check_integer("scale", scale, minimum=2)


class Res2Net(ConvolutionalNetwork):
    """Res2Net with every hyper-parameter open; the defaults are Res2Net-50 26w x 4s in the official form.

    Args:
        class_num: Number of classes; 0 returns pooled features.
        in_channels: Channels of the images.
        depths: Blocks of each stage.
        planes: Base width of each stage, whose output has four times as many channels. The stem's output has the first.
        base_width: Width of a part (with a cardinality: of a group of it) when ``planes`` is 64.
        scale: Parts of a map, at least 2.
        cardinality: Groups of each 3 x 3 convolution.
        use_se: Whether a block ends with squeeze-and-excitation.
        stem: ``conv7``, or ``deep``: three 3 x 3 convolutions (ResNet-C).
        shortcut: What halves the resolution in a shortcut: a strided convolution (``conv``) or average pooling
            (``pool``, ResNet-D).
        form: ``official``: the first block of every stage restarts and its pooling counts the zeros of the padding; or
            ``paddleclas``: only blocks of stride 2 restart, so not the first of all, and the zeros are not counted.
            Weights of one form load into the other and give other results.
        drop_rate: Dropout in front of the classifier.
        drop_path_rate: Stochastic depth of the last block; the ramp is linear from 0 at the first.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if one is out of range.
    """

    def __init__(
        self,
        class_num: int = 1000,
        in_channels: int = 3,
        depths: Sequence[int] = (3, 4, 6, 3),
        planes: Sequence[int] = (64, 128, 256, 512),
        base_width: int = 26,
        scale: int = 4,
        cardinality: int = 1,
        use_se: bool = False,
        stem: str = "conv7",
        shortcut: str = "conv",
        form: str = "official",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        depths = check_integers("depths", depths, maximum=MAX_DEPTH)
        planes = check_integers("planes", planes, len(depths))
        check_integer("base_width", base_width)
        check_scale(scale)
        check_integer("cardinality", cardinality)
        check_flag("use_se", use_se)
        check_choice("stem", stem, STEMS)
        check_choice("shortcut", shortcut, SHORTCUTS)
        official = check_choice("form", form, FORMS) == "official"
        check_rate("drop_rate", drop_rate)
        rates = drop_path_rates(check_rate("drop_path_rate", drop_path_rate), depths)

        self.in_channels = check_integer("in_channels", in_channels)
        self.stage_channels = [Res2Bottleneck.expansion * width for width in planes]
        self.stage_strides = [4 * 2**s for s in range(len(depths))]
        self.num_features = self.stage_channels[-1]

        self.stem = make_stem(stem, self.in_channels, planes[0])
        stages, channels_in = [], planes[0]
        for s, channels_out in enumerate(self.stage_channels):
            width = cardinality * group_width(planes[s], base_width)
            blocks = []
            for i, rate in enumerate(rates[s]):
                stride = 2 if s > 0 and i == 0 else 1
                restarts = i == 0 if official else stride == 2
                split = SplitConvolution(width, scale, stride, cardinality, restarts, counts_padding=official)
                path = make_shortcut(channels_in, channels_out, stride, shortcut)
                blocks.append(Res2Bottleneck(channels_in, channels_out, split, scale * width, path, rate, use_se))
                channels_in = channels_out
            stages.append(Stage(blocks))
        self.stages = nn.Sequential(*stages)
        self.norm = nn.Identity()
        self.pool = GlobalAveragePool(channels_last=False)
        self.head_drop = nn.Dropout(drop_rate)
        self._init_weights()
        self.reset_head(class_num)


# ---- variants --------------------------------------------------------------------------------------------------

PAPER = "Res2Net: A New Multi-scale Backbone Architecture, arXiv 1904.01169"
#: The official code's preprocessing.
BILINEAR = Preprocessing(interpolation="bilinear")
_LICENCE = "CC BY-NC-SA 4.0, non-commercial (of the official repository)"
_ALIYUN = "https://shanghuagao.oss-cn-beijing.aliyuncs.com/res2net/"

_101, _200 = {"depths": [3, 4, 23, 3]}, {"depths": [3, 12, 48, 3]}
_PADDLECLAS = {"form": "paddleclas"}
_VD = {**_PADDLECLAS, "stem": "deep", "shortcut": "pool"}


def official_weights(file: str, source: str = "res2net") -> Weights:
    """Return the entry of the official repository's ``<file>.pth``.

    Names of 2019 end with the first digits of the SHA-256: the code published with them loads by PyTorch's
    ``load_url``, which always compared them until release 1.3. For the later v1b files nothing of the kind is stated.
    """
    sha256 = None if source == "res2net_v1b" else file.rpartition("-")[2]
    return Weights(f"{_ALIYUN}{file}.pth", source, _LICENCE, sha256=sha256)


def official_accuracy(top1: float, top5: float) -> Accuracy:
    """Return the accuracy of official weights."""
    return Accuracy(top1, "official weights evaluated by timm, results/results-imagenet.csv", top5)


FAMILY = Family(
    name="Res2Net",
    sources=RES2NET_SOURCES,
    networks=(Res2Net,),
    paper=PAPER,
    variants=(
        Variant(
            "Res2Net50_26w_4s",
            arguments=_PADDLECLAS,
            params=25_699_120,
            macs=4_255_166_464,
            accuracy=paddleclas_accuracy("Res2Net", 79.3, 94.6),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(paddleclas_weights("Res2Net50_26w_4s"), official_weights("res2net50_26w_4s-06e79181")),
        ),
        Variant(
            "Res2Net50_14w_8s",
            arguments={**_PADDLECLAS, "base_width": 14, "scale": 8},
            params=25_059_816,
            macs=4_178_898_944,
            accuracy=paddleclas_accuracy("Res2Net", 79.5, 94.7),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(paddleclas_weights("Res2Net50_14w_8s"), official_weights("res2net50_14w_8s-6527dddc")),
        ),
        Variant(
            "Res2Net50_48w_2s",
            arguments={"base_width": 48, "scale": 2},
            params=25_287_304,
            macs=4_159_832_064,
            accuracy=official_accuracy(77.528, 93.562),
            preprocessing=BILINEAR,
            weights=(official_weights("res2net50_48w_2s-afed724a"),),
        ),
        Variant(
            "Res2Net50_26w_6s",
            arguments={"scale": 6},
            params=37_051_448,
            macs=6_295_523_328,
            accuracy=official_accuracy(78.586, 94.120),
            preprocessing=BILINEAR,
            weights=(official_weights("res2net50_26w_6s-19041792"),),
        ),
        Variant(
            "Res2Net50_26w_8s",
            arguments={"scale": 8},
            params=48_403_776,
            macs=8_335_880_192,
            accuracy=official_accuracy(78.950, 94.280),
            preprocessing=BILINEAR,
            weights=(official_weights("res2net50_26w_8s-2c7c9f12"),),
        ),
        Variant(
            "Res2Net101_26w_4s",
            arguments=_101,
            params=45_206_688,
            macs=8_066_974_464,
            accuracy=official_accuracy(79.192, 94.466),
            preprocessing=BILINEAR,
            weights=(official_weights("res2net101_26w_4s-02a759a1"),),
        ),
        Variant(
            "Res2Net50_vd_26w_4s",
            arguments=_VD,
            params=25_718_352,
            macs=4_494_807_040,
            accuracy=paddleclas_accuracy("Res2Net", 79.8, 94.9),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(
                paddleclas_weights("Res2Net50_vd_26w_4s", "paddleclas_vd"),
                ssld_weights("Res2Net50_vd_26w_4s", "paddleclas_vd", "Res2Net", 83.1, 96.6),
                official_weights("res2net50_v1b_26w_4s-3cf99910", "res2net_v1b"),
            ),
        ),
        Variant(
            "Res2Net101_vd_26w_4s",
            arguments={**_VD, **_101},
            params=45_225_920,
            macs=8_306_615_040,
            accuracy=paddleclas_accuracy("Res2Net", 80.6, 95.2),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(
                paddleclas_weights("Res2Net101_vd_26w_4s", "paddleclas_vd"),
                ssld_weights("Res2Net101_vd_26w_4s", "paddleclas_vd", "Res2Net", 83.9, 97.1),
                official_weights("res2net101_v1b_26w_4s-0812c246", "res2net_v1b"),
            ),
        ),
        Variant(
            "Res2Net200_vd_26w_4s",
            arguments={**_VD, **_200},
            params=76_215_536,
            macs=15_706_007_040,
            accuracy=paddleclas_accuracy("Res2Net", 81.2, 95.7),
            preprocessing=PADDLECLAS_PREPROCESSING,
            weights=(
                paddleclas_weights("Res2Net200_vd_26w_4s", "paddleclas_vd"),
                ssld_weights("Res2Net200_vd_26w_4s", "paddleclas_vd", "Res2Net", 85.1, 97.4),
            ),
        ),
        Variant(
            "Res2NeXt50_4s",
            arguments={"base_width": 4, "cardinality": 8},
            params=24_671_464,
            macs=4_172_677_120,
            accuracy=official_accuracy(78.238, 93.904),
            preprocessing=BILINEAR,
            weights=(official_weights("res2next50_4s-6ef7e7bf"),),
        ),
        Variant(
            "SE_Res2Net50",
            arguments={"use_se": True},
            params=28_230_112,
            macs=4_257_681_408,
            accuracy=Accuracy(78.44, "arXiv 1904.01169, errors 21.56 and 5.94", 94.06),
            preprocessing=BILINEAR,
            notes="neither code nor weights are published",
        ),
    ),
)
