"""Res2Net and Res2NeXt blocks in a DLA: deep layer aggregation.

Papers: "Res2Net: A New Multi-scale Backbone Architecture", arXiv 1904.01169, section 4.1; "Deep Layer Aggregation", Yu
et al., arXiv 1707.06484.
Official code and weights: https://github.com/Res2Net/Res2Net-PretrainedModels (CC BY-NC-SA 4.0, non-commercial).

A stage of DLA is a binary tree. Its leaves are pairs of residual blocks, run one pair after the other; behind each pair
a *root*, a 1 x 1 convolution, merges the two blocks' maps with those of earlier roots. Which ones, the tree says: where
leaf k closes one or more subtrees, the last root of each left sibling. In ones and zeros, if k ends with t ones, these
are the roots k - 1, k - 2, k - 4, … k - 2^(t - 1).

Written from the papers and checked against the official code and timm. Differences are listed in
``docs/en/models/ImageNet1k/Res2Net.md``.
"""

from __future__ import annotations

import math
from typing import Iterator, Sequence

import paddle
from paddle import nn
from paddle.nn import initializer as I

from ppcls_ext.arch.backbone.res2net import (
    BILINEAR,
    PAPER,
    Res2Bottleneck,
    SplitConvolution,
    check_scale,
    official_accuracy,
    official_weights,
)
from ppcls_ext.arch.backbone.resnet import ConvolutionalNetwork
from ppcls_ext.arch.backbone.resnet_sources import convolution_rules
from ppcls_ext.arch.layers import (
    BatchNorm2D,
    ConvBN,
    GlobalAveragePool,
    RecomputeSequential,
    drop_path_rates,
)
from ppcls_ext.registry import Family, Variant
from ppcls_ext.utils.key_rules import Rule, Source
from ppcls_ext.utils.validate import check_integer, check_integers, check_rate


class PooledProjection(nn.Layer):
    """The shortcut of a stage's first block: 2 x 2 max pooling, then 1 x 1 convolution and BatchNorm."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.pool = nn.MaxPool2D(2, 2, ceil_mode=True)
        self.conv = nn.Conv2D(channels_in, channels_out, 1, bias_attr=False)
        self.norm = BatchNorm2D(channels_out)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[N, channels_in, H, W]``, return ``[N, channels_out, ceil(H / 2), ceil(W / 2)]``."""
        return self.norm(self.conv(self.pool(x)))


def left_siblings(leaf: int) -> list:
    """Return the leaves whose roots lead into that of ``leaf``, besides its own blocks: the farthest first."""
    closed = 0
    while leaf >> closed & 1:
        closed += 1
    return [leaf - 2**height for height in reversed(range(closed))]


class DlaStage(nn.Layer):
    """A tree of ``2 ** (levels - 1)`` leaves, each a pair of blocks and a root; it halves the resolution.

    Args:
        channels_in: Of the stage's input.
        channels_out: Of every block and root.
        blocks: Two for each leaf.
        merges_input: Whether the last root also takes the stage's input, max-pooled.
    """

    def __init__(self, channels_in: int, channels_out: int, blocks: Sequence[nn.Layer], merges_input: bool):
        super().__init__()
        self._merges_input = merges_input
        self.blocks = RecomputeSequential(*blocks)
        self.pool = nn.MaxPool2D(2, 2, ceil_mode=True) if merges_input else nn.Identity()
        leaves = len(blocks) // 2
        widths = [(2 + len(left_siblings(leaf))) * channels_out for leaf in range(leaves)]
        widths[-1] += channels_in if merges_input else 0
        self.roots = nn.LayerList([ConvBN(width, channels_out, 1) for width in widths])

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take the previous stage's ``[N, C, H, W]``, return this one's ``[N, C', ceil(H / 2), ceil(W / 2)]``."""
        stage_input = x
        outputs: list[paddle.Tensor] = []
        for leaf, root in enumerate(self.roots):
            first = self.blocks.run(self.blocks[2 * leaf], x)
            second = self.blocks.run(self.blocks[2 * leaf + 1], first)
            maps = [second, first]
            if self._merges_input and leaf == len(self.roots) - 1:
                maps.append(self.pool(stage_input))
            x = root(paddle.concat(maps + [outputs[sibling] for sibling in left_siblings(leaf)], axis=1))
            outputs.append(x)
        return x


class Res2NetDLA(ConvolutionalNetwork):
    """A DLA of Res2Net blocks with every hyper-parameter open; the defaults are Res2Net-DLA-60.

    Args:
        class_num: Number of classes; 0 returns pooled features.
        in_channels: Channels of the images.
        levels: Height of each stage's tree, which has two to this power blocks.
        channels: Widths of the two steps of the stem, then of each stage.
        base_width: Width of a part of a map (with a cardinality: of a group of it) when a stage has 128 channels.
        scale: Parts of a map, at least 2.
        cardinality: Groups of each 3 x 3 convolution.
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
        levels: Sequence[int] = (1, 2, 3, 1),
        channels: Sequence[int] = (16, 32, 128, 256, 512, 1024),
        base_width: int = 28,
        scale: int = 4,
        cardinality: int = 1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        levels = check_integers("levels", levels)
        channels = check_integers("channels", channels, len(levels) + 2)
        check_integer("base_width", base_width)
        check_scale(scale)
        check_integer("cardinality", cardinality)
        rates = drop_path_rates(check_rate("drop_path_rate", drop_path_rate), [2**level for level in levels])

        self.in_channels = check_integer("in_channels", in_channels)
        self.stage_channels = channels[2:]
        self.stage_strides = [4 * 2**stage for stage in range(len(levels))]
        self.num_features = channels[-1]

        def make_block(channels_in: int, channels_out: int, first: bool, rate: float) -> Res2Bottleneck:
            width = cardinality * (channels_out * base_width // 64) // 2
            if not width:
                raise ValueError(f"base_width {base_width} leaves no channel to a part of {channels_out} channels")
            split = SplitConvolution(width, scale, 2 if first else 1, cardinality, first, counts_padding=True)
            shortcut = PooledProjection(channels_in, channels_out) if first else nn.Identity()
            return Res2Bottleneck(channels_in, channels_out, split, scale * width, shortcut, rate)

        self.stem = nn.Sequential(
            ConvBN(self.in_channels, channels[0], 7),
            ConvBN(channels[0], channels[0], 3),
            ConvBN(channels[0], channels[1], 3, 2),
        )
        stages = []
        for s, (width_in, width) in enumerate(zip(channels[1:], channels[2:])):
            blocks = [make_block(width if i else width_in, width, not i, rate) for i, rate in enumerate(rates[s])]
            stages.append(DlaStage(width_in, width, blocks, merges_input=s > 0))
        self.stages = nn.Sequential(*stages)
        self.norm = nn.Identity()
        self.pool = GlobalAveragePool(channels_last=False)
        self.head_drop = nn.Dropout(check_rate("drop_rate", drop_rate))
        self._init_weights()
        self.reset_head(class_num)

    def make_head(self, class_num: int) -> nn.Layer:
        """Return a classifier; the official one is a 1 x 1 convolution and its weight is initialised as such."""
        head = super().make_head(class_num)
        I.Normal(std=math.sqrt(2 / class_num))(head.weight)
        return head

    def group_of(self, name: str) -> str:
        """Return the layer group of the parameter ``name``; a root belongs to the block that it follows."""
        parts = [part for part in name.split(".") if part != "layer"]
        if parts[0] == "stages" and parts[2] == "roots":
            return f"stages.{parts[1]}.blocks.{2 * int(parts[3]) + 1}"
        return super().group_of(name)


# ---- variants --------------------------------------------------------------------------------------------------


def _dla_rules(levels: tuple) -> Iterator[Rule]:
    """Return the rules of trees of these heights: where the tree branches is a number in ones and zeros."""
    for s, level in enumerate(levels):
        for i in range(2**level):
            tree, block = f"level{s + 2}." + _path(i, level), f"stages.{s}.blocks.{i}"
            yield from convolution_rules(tree, f"{block}.conv{{k}}", "conv{k}", "bn{k}")
            yield from convolution_rules(tree, f"{block}.split.convs.{{k}}", "convs.{k}", "bns.{k}")
        for leaf in range(2 ** (level - 1)):
            yield from convolution_rules(
                f"level{s + 2}." + _path(leaf, level - 1) + "root.", f"stages.{s}.roots.{leaf}", "conv", "bn"
            )
        project = f"level{s + 2}." + _path(0, level - 1) + "project."
        yield from convolution_rules(project, f"stages.{s}.blocks.0.shortcut", "0", "1")


def _path(number: int, steps: int) -> str:
    return "".join(f"tree{(number >> step & 1) + 1}." for step in reversed(range(steps)))


_SOURCE = Source(
    "res2net_dla",
    "Res2Net/Res2Net-PretrainedModels (DLA), PyTorch",
    (
        *convolution_rules("base_layer.", "stem.0", "0", "1"),
        *convolution_rules("level0.", "stem.1", "0", "1"),
        *convolution_rules("level1.", "stem.2", "0", "1"),
        *_dla_rules((1, 2, 3, 1)),
        Rule("fc.{rest}", "head.{rest}"),
    ),
    dropped=(r"level3\.project\..*", r"level4\.(tree1\.)?project\..*"),  # the trees inside have their own
)

FAMILY = Family(
    name="Res2Net",
    networks=(Res2NetDLA,),
    sources=(_SOURCE,),
    paper=PAPER,
    variants=(
        Variant(
            "Res2Net_DLA60",
            params=20_848_072,
            macs=4_122_681_344,
            accuracy=official_accuracy(78.48, 94.204),
            preprocessing=BILINEAR,
            weights=(official_weights("res2net_dla60_4s-d88db7f9", "res2net_dla"),),
        ),
        Variant(
            "Res2NeXt_DLA60",
            arguments={"base_width": 4, "cardinality": 8},
            params=17_032_984,
            macs=3_458_752_512,
            accuracy=official_accuracy(78.488, 94.144),
            preprocessing=BILINEAR,
            weights=(official_weights("res2next_dla60_4s-d327927b", "res2net_dla"),),
        ),
    ),
)
