"""bLRes2Net: Res2Net blocks in a Big-Little Net.

Papers: "Res2Net: A New Multi-scale Backbone Architecture", arXiv 1904.01169, sections 3.3 and 4.1; "Big-Little Net: An
Efficient Multi-Scale Feature Representation for Visual and Speech Recognition", Chen et al., arXiv 1807.03848.
Official code of Big-Little Net: https://github.com/IBM/BigLittleNet (Apache-2.0). Of bLRes2Net neither code nor weights
are published.

A stage has two branches. The *big* one has nearly all blocks and the full width, at half the resolution; the *little*
one has the full resolution, ``1 / alpha`` of the width and about ``1 / beta`` of the blocks. Their sum passes one more
block, with which the stage ends. So the costly layers see a quarter of the pixels, and the details cost little. The
last stage, which is small, has one branch.

The Res2Net paper takes the code of bLResNet-50 and replaces its bottlenecks. What that leaves open is settled here as
in Res2Net's own code: the first block of each row of blocks restarts (see :class:`~.res2net.SplitConvolution`), parts
are 26 wide, and BatchNorms begin with 1. Written from the papers and checked against the two official codes put
together. Differences are listed in ``docs/en/models/ImageNet1k/Res2Net.md``.
"""

from __future__ import annotations

from typing import Sequence

import paddle
from paddle import nn
from paddle.nn import functional as F

from ppcls_ext.arch.backbone.res2net import BILINEAR, PAPER, Res2Bottleneck, SplitConvolution, check_scale
from ppcls_ext.arch.backbone.resnet import ConvolutionalNetwork, group_width
from ppcls_ext.arch.layers import BatchNorm2D, ConvBN, GlobalAveragePool, RecomputeSequential, Stage, drop_path_rates
from ppcls_ext.registry import Accuracy, Family, Variant
from ppcls_ext.utils.validate import MAX_DEPTH, check_integer, check_integers, check_rate


class AveragedProjection(nn.Layer):
    """A shortcut to a different width: 1 x 1 convolution and BatchNorm, behind a 3 x 3 average pooling where there is a
    stride; zeros of the padding count."""

    def __init__(self, channels_in: int, channels_out: int, stride: int):
        super().__init__()
        self.pool = average_pool(stride) if stride > 1 else nn.Identity()
        self.conv = nn.Conv2D(channels_in, channels_out, 1, bias_attr=False)
        self.norm = BatchNorm2D(channels_out)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[N, channels_in, H, W]``, return ``[N, channels_out, ceil(H / stride), ceil(W / stride)]``."""
        return self.norm(self.conv(self.pool(x)))


def average_pool(stride: int) -> nn.Layer:
    """Return the pooling of the shortcuts."""
    return nn.AvgPool2D(3, stride, padding=1, exclusive=False)


class BigLittleStem(nn.Layer):
    """The second half of the stem, in two branches (arXiv 1807.03848, appendix): 3 x 3 of stride 2 at the full width,
    and 3 x 3, 3 x 3 of stride 2, 1 x 1 at ``1 / alpha`` of it; then 1 x 1 on the sum."""

    def __init__(self, channels: int, alpha: int):
        super().__init__()
        narrow = channels // alpha
        self.big = ConvBN(channels, channels, 3, 2, act=False)
        self.little = nn.Sequential(
            ConvBN(channels, narrow, 3), ConvBN(narrow, narrow, 3, 2), ConvBN(narrow, channels, 1, act=False)
        )
        self.act = nn.ReLU()
        self.merge = ConvBN(channels, channels, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[N, C, H, W]``, return ``[N, C, ceil(H / 2), ceil(W / 2)]``."""
        return self.merge(self.act(self.big(x) + self.little(x)))


class BigLittleStage(nn.Layer):
    """Two branches, their sum, and one more block (arXiv 1807.03848, figure 2b).

    Args:
        little: Blocks of the little branch, at the resolution of the input.
        blocks: Those of the big branch, of which the first has stride 2 and the last no ReLU, then the one behind the
            sum.
        narrow: Channels of the little branch.
        channels_out: Of the big branch and of the stage.
    """

    def __init__(self, little: Sequence[nn.Layer], blocks: Sequence[nn.Layer], narrow: int, channels_out: int):
        super().__init__()
        self.little = RecomputeSequential(*little)
        self.expand = ConvBN(narrow, channels_out, 1, act=False)
        self.act = nn.ReLU()
        self.blocks = RecomputeSequential(*blocks)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take the previous stage's ``[N, C, H, W]``, return ``[N, C', H', W']``, halved if the last block does."""
        little = self.expand(self.little(x))
        *branch, last = self.blocks
        big = x
        for block in branch:
            big = self.blocks.run(block, big)
        # [N, C', ceil(H / 2), ceil(W / 2)] -> [N, C', H, W], each pixel four times
        big = F.interpolate(big, scale_factor=2, mode="nearest")[:, :, : little.shape[2], : little.shape[3]]
        return self.blocks.run(last, self.act(big + little))


class BigLittleRes2Net(ConvolutionalNetwork):
    """bLRes2Net with every hyper-parameter open; the defaults are bLRes2Net-50.

    Args:
        class_num: Number of classes; 0 returns pooled features.
        in_channels: Channels of the images.
        depths: Blocks of each stage, at least 2 but in the last: those of the big branch and the one behind the sum.
        planes: Base width of each stage, whose output has four times as many channels. The stem's output has the first.
        alpha: Width of the big branch over that of the little one.
        beta: A little branch has ``depth // beta - 1`` blocks, at least one.
        base_width: Width of a part when the base width is 64.
        scale: Parts of a map, at least 2.
        drop_rate: Dropout in front of the classifier.
        drop_path_rate: Stochastic depth of the last block; the ramp is linear from 0 at the first, and a little
            branch's blocks have the rates of the first ones beside it.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if one is out of range, or ``alpha`` does not divide the widths.
    """

    def __init__(
        self,
        class_num: int = 1000,
        in_channels: int = 3,
        depths: Sequence[int] = (3, 4, 6, 3),
        planes: Sequence[int] = (64, 128, 256, 512),
        alpha: int = 2,
        beta: int = 4,
        base_width: int = 26,
        scale: int = 4,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        depths = check_integers("depths", depths, maximum=MAX_DEPTH)
        planes = check_integers("planes", planes, len(depths))
        check_integer("alpha", alpha)
        check_integer("beta", beta)
        check_integer("base_width", base_width)
        check_scale(scale)
        if len(depths) < 2 or min(depths[:-1]) < 2:
            raise ValueError(f"depths must be of two stages or more, with two blocks or more but in the last: {depths}")
        if any(width % alpha for width in planes):
            raise ValueError(f"planes must be multiples of alpha = {alpha}, got {planes}")
        rates = drop_path_rates(check_rate("drop_path_rate", drop_path_rate), depths)

        self.in_channels = check_integer("in_channels", in_channels)
        self.stage_channels = [Res2Bottleneck.expansion * width for width in planes]
        self.num_features = self.stage_channels[-1]

        def make_row(channels_in: int, planes: int, strides: Sequence[int], rates: Sequence[float]) -> list:
            """Return a row of blocks; the first changes width or resolution, and restarts."""
            channels_out, blocks = Res2Bottleneck.expansion * planes, []
            for i, (stride, rate) in enumerate(zip(strides, rates)):
                width = group_width(planes, base_width)
                split = SplitConvolution(width, scale, stride, 1, restarts=not i, counts_padding=True)
                if channels_in != channels_out:
                    shortcut = AveragedProjection(channels_in, channels_out, stride)
                else:
                    shortcut = average_pool(stride) if stride > 1 else nn.Identity()
                blocks.append(Res2Bottleneck(channels_in, channels_out, split, scale * width, shortcut, rate))
                channels_in = channels_out
            return blocks

        self.stem = nn.Sequential(ConvBN(self.in_channels, planes[0], 7, 2), BigLittleStem(planes[0], alpha))
        stages, self.stage_strides, width, total = [], [], planes[0], 4
        for s, (depth, base) in enumerate(zip(depths[:-1], planes)):
            stride = 2 if s < len(depths) - 2 else 1  # the last stage halves the resolution at its beginning
            little = make_row(width, base // alpha, [1] * max(depth // beta - 1, 1), rates[s])
            big = make_row(width, base, [2] + [1] * (depth - 2), rates[s])
            big[-1].act = nn.Identity()  # ReLU follows on the sum
            width = self.stage_channels[s]
            blocks = [*big, *make_row(width, base, [stride], rates[s][-1:])]
            stages.append(BigLittleStage(little, blocks, width // alpha, width))
            total *= stride
            self.stage_strides.append(total)
        stages.append(Stage(make_row(width, planes[-1], [2] + [1] * (depths[-1] - 1), rates[-1])))
        self.stage_strides.append(2 * total)
        self.stages = nn.Sequential(*stages)
        self.norm = nn.Identity()
        self.pool = GlobalAveragePool(channels_last=False)
        self.head_drop = nn.Dropout(check_rate("drop_rate", drop_rate))
        self._init_weights()
        self.reset_head(class_num)


# ---- variants --------------------------------------------------------------------------------------------------

FAMILY = Family(
    name="Res2Net",
    networks=(BigLittleRes2Net,),
    paper=(
        f"{PAPER}; Big-Little Net: An Efficient Multi-Scale Feature Representation for Visual and Speech Recognition, "
        "arXiv 1807.03848"
    ),
    variants=(
        Variant(
            "bLRes2Net50",
            params=26_845_561,
            macs=2_993_782_592,
            accuracy=Accuracy(78.32, "arXiv 1904.01169, table 1, errors 21.68 and 6.00", 94.00),
            preprocessing=BILINEAR,
            notes="neither code nor weights are published",
        ),
    ),
)
