"""Vision Permutator (ViP): linear layers along the height, the width and the channels of the token grid.

Paper: "Vision Permutator: A Permutable MLP-Like Architecture for Visual Recognition", Hou et al., arXiv 2106.12368.
Official code: https://github.com/houqb/VisionPermutator (its LICENSE file is MIT's, its README restricts it to
non-commercial use). Its ``vip_s14``, ``vip_s7``, ``vip_m7`` and ``vip_l7`` are ViP_Small_14, ViP_Small_7, ViP_Medium_7
and ViP_Large_7.

Written from the paper's Algorithm 1 and checked against the official code: with the same weights, every variant gives
the same features and logits. The paper's model takes images of one size; here the layers along height and width are
re-expressed for any other (:mod:`ppcls_ext.arch.layers.axis_linear`). Differences are listed in
``docs/en/models/ImageNet1k/ViP.md``.
"""

from __future__ import annotations

import math
from typing import Sequence, Union

import paddle
from paddle import nn
from paddle.nn import functional as F

from ppcls_ext.arch.backbone.token_label import TokenLabelBackbone
from ppcls_ext.arch.layers import (
    ACTIVATIONS,
    Downsample,
    GlobalAveragePool,
    LayerNorm,
    Linear,
    Mlp,
    PatchEmbed,
    Stage,
    TransformerBlock,
    drop_path_rates,
    init_like_torch,
    init_linear,
)
from ppcls_ext.arch.layers.axis_linear import RULES, AxisLinear
from ppcls_ext.arch.layers.linear import spread
from ppcls_ext.registry import Accuracy, Family, Preprocessing, Variant, Weights
from ppcls_ext.utils.key_rules import PADDLE, Rule, Source, unchanged
from ppcls_ext.utils.validate import (
    MAX_DEPTH,
    check_choice,
    check_epsilon,
    check_flag,
    check_integer,
    check_integers,
    check_positive,
    check_positives,
    check_rate,
    check_size,
)

BRANCHES = ("spatial", "channel")


class BranchWeights(nn.Layer):
    """Split attention (arXiv 2004.08955): how much of each of three branches, per sample and channel."""

    def __init__(self, dim: int, activation: str):
        super().__init__()
        hidden_dim = max(dim // 4, 1)
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = ACTIVATIONS[activation]()
        self.fc2 = nn.Linear(hidden_dim, 3 * dim)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take the pooled sum of the branches ``[N, C]``, return weights ``[N, C, 3]`` whose last axis sums to 1."""
        x = self.fc2(self.act(self.fc1(x)))
        return F.softmax(x.reshape([-1, x.shape[-1] // 3, 3]), axis=-1)


class PermuteMlp(nn.Layer):
    """The token mixer: linear layers along the height, the width and the channels, and one to fuse them.

    It is the paper's Permute-MLP, and with ``weighted`` its Weighted Permute-MLP (WeightedPermuteMLP in the official
    code).

    Along the height, the channels are cut into ``segments`` groups of S; a layer mixes the H·S values of a column and a
    group, the same for all columns and groups (Algorithm 1 of the paper). The width is treated alike. The branches are
    added, or, if ``weighted``, summed with weights that depend on their sum's mean over the tokens (Weighted
    Permute-MLP). The weights are for H = W = ``segments``; elsewhere they are resampled.

    Args:
        dim: Channels C.
        segments: Groups, and tokens of the native grid's side; it divides C.
        weighted: Whether the branches are weighted.
        height_branch: ``spatial``, or ``channel`` for a linear layer over the channels instead (an ablation).
        width_branch: The same for the width.
        bias: Whether the three layers have biases.
        activation: Of the small network that makes the branches' weights.
        resize_rule: How weights are made for a different grid, one of :data:`ppcls_ext.arch.layers.axis_linear.RULES`.
    """

    def __init__(
        self,
        dim: int,
        segments: int,
        weighted: bool = True,
        height_branch: str = "spatial",
        width_branch: str = "spatial",
        bias: bool = False,
        activation: str = "gelu",
        resize_rule: str = "resample",
    ):
        super().__init__()

        def mixer(branch: str) -> nn.Layer:
            if branch == "spatial":
                return AxisLinear(segments, dim // segments, bias, resize_rule)
            return nn.Linear(dim, dim, bias_attr=None if bias else False)

        self.segments = segments
        self.weighted = weighted
        self.mlp_h = mixer(height_branch)
        self.mlp_w = mixer(width_branch)
        self.mlp_c = nn.Linear(dim, dim, bias_attr=None if bias else False)
        if weighted:
            self.reweight = BranchWeights(dim, activation)
        self.proj = Linear(dim, dim)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return ``[N, H, W, C]``; H and W have to be known."""
        h = self._along_height(x) if isinstance(self.mlp_h, AxisLinear) else self.mlp_h(x)
        w = self._along_width(x) if isinstance(self.mlp_w, AxisLinear) else self.mlp_w(x)
        c = self.mlp_c(x)
        if not self.weighted:
            return self.proj(h + w + c)
        weights = self.reweight((h + w + c).mean(axis=[1, 2]))
        of_h, of_w, of_c = (spread(weight, h) for weight in weights.unbind(axis=-1))  # each (N, C) before
        return self.proj(h * of_h + w * of_w + c * of_c)

    def fold(self, height: int, width: int) -> None:
        """Let a graph for maps of this size hold the resampled weights, see :meth:`AxisLinear.fold`."""
        for layer, length in ((self.mlp_h, height), (self.mlp_w, width)):
            if isinstance(layer, AxisLinear):
                layer.fold(length)

    # Both permutations are exchanges of two axes of three: Paddle 3 does more axes several times slower on a CPU.

    def _along_height(self, x: paddle.Tensor) -> paddle.Tensor:
        _, height, width, dim = x.shape
        size = dim // self.segments
        columns = width * self.segments  # of all segments
        x = x.reshape([-1, columns, size]).transpose([1, 0, 2])  # (N H, W G, S) -> (W G, N H, S)
        x = self.mlp_h(x.reshape([columns, -1, height * size]))
        x = x.reshape([columns, -1, size]).transpose([1, 0, 2])
        return x.reshape([-1, height, width, dim])

    def _along_width(self, x: paddle.Tensor) -> paddle.Tensor:
        _, height, width, dim = x.shape
        size = dim // self.segments
        x = x.reshape([-1, self.segments, size]).transpose([1, 0, 2])  # (N H W, G, S) -> (G, N H W, S)
        x = self.mlp_w(x.reshape([self.segments, -1, width * size]))
        x = x.reshape([self.segments, -1, size]).transpose([1, 0, 2])
        return x.reshape([-1, height, width, dim])


class VisionPermutator(TokenLabelBackbone):
    """Vision Permutator with every hyper-parameter open; the defaults are ViP-Small/7.

    Images of any height and width are taken: zeros fill them up at the right and the bottom to multiples of the last
    stage's stride, and on a grid that is not the native one the weights along height and width are resampled. The
    native grid's side is ``segments[0]`` patches. A graph that is exported is for one height and width.

    Args:
        class_num: Number of classes; 0 returns pooled features.
        in_channels: Channels of the images.
        img_size: Size that the model is meant for, an int or [height, width]; other sizes work as well.
        depths: Blocks of each stage.
        patch_size: Stride of the stem.
        embed_dims: Token width C of each stage.
        segments: Groups of channels in each stage, equal to the native grid's side there; it divides C.
        transitions: One flag for each stage but the last: whether the grid is halved behind it.
        mlp_ratios: Hidden width of the channel MLP over C, for each stage.
        weighted: Weighted Permute-MLP; False adds the branches as in the paper's Algorithm 1.
        height_branch: ``spatial``, or ``channel`` to put a second channel branch in its place (an ablation).
        width_branch: The same for the width branch.
        resize_rule: How the weights are made for a different grid: ``resample`` them, ``pool`` the tokens to the native
            grid and back, or ``pad`` with zeros to it.
        qkv_bias: Whether the layers of the three branches have biases; the name is the official code's.
        activation: ``gelu``, ``relu`` or ``silu`` in the MLPs.
        epsilon: Of every LayerNorm.
        drop_rate: Dropout in the channel MLPs.
        drop_path_rate: Stochastic depth of the last block; the ramp is linear from 0 at the first.
        skip_lam: Divisor of every residual branch.
        token_label: Whether to classify each token of the last stage as well, see :class:`TokenLabelBackbone`.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if one is out of range, or ``segments`` is no divisor of the width or not the side of the grid.
    """

    channels_last = True
    free_arguments = (*TokenLabelBackbone.free_arguments, "resize_rule")

    def __init__(
        self,
        class_num: int = 1000,
        in_channels: int = 3,
        img_size: Union[int, Sequence[int]] = 224,
        depths: Sequence[int] = (4, 3, 8, 3),
        patch_size: int = 7,
        embed_dims: Sequence[int] = (192, 384, 384, 384),
        segments: Sequence[int] = (32, 16, 16, 16),
        transitions: Sequence[bool] = (True, False, False),
        mlp_ratios: Sequence[float] = (3.0, 3.0, 3.0, 3.0),
        weighted: bool = True,
        height_branch: str = "spatial",
        width_branch: str = "spatial",
        resize_rule: str = "resample",
        qkv_bias: bool = False,
        activation: str = "gelu",
        epsilon: float = 1e-5,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        skip_lam: float = 1.0,
        token_label: bool = False,
    ):
        super().__init__(token_label)
        depths = check_integers("depths", depths, maximum=MAX_DEPTH)
        count = len(depths)
        patch_size = check_integer("patch_size", patch_size)
        dims = check_integers("embed_dims", embed_dims, count)
        segments = check_integers("segments", segments, count)
        strides = _strides(transitions, count)
        _check_segments(segments, dims, strides)
        mlp_ratios = check_positives("mlp_ratios", mlp_ratios, count)
        for name, choice, choices in (
            ("height_branch", height_branch, BRANCHES),
            ("width_branch", width_branch, BRANCHES),
            ("resize_rule", resize_rule, list(RULES)),
            ("activation", activation, list(ACTIVATIONS)),
        ):
            check_choice(name, choice, choices)
        check_flag("weighted", weighted)
        check_flag("qkv_bias", qkv_bias)
        epsilon, skip_lam = check_epsilon("epsilon", epsilon), check_positive("skip_lam", skip_lam)
        drop_rate = check_rate("drop_rate", drop_rate)
        rates = drop_path_rates(check_rate("drop_path_rate", drop_path_rate), depths)

        self.in_channels = check_integer("in_channels", in_channels)
        self.num_features = dims[-1]
        self.stage_channels = dims
        self.stage_strides = [patch_size * math.prod(strides[: i + 1]) for i in range(count)]
        self.img_size = check_size("img_size", img_size)

        self.stem = PatchEmbed(self.in_channels, dims[0], patch_size)
        stages = []
        for i, dim in enumerate(dims):
            blocks = [
                TransformerBlock(
                    dim,
                    PermuteMlp(
                        dim, segments[i], weighted, height_branch, width_branch, qkv_bias, activation, resize_rule
                    ),
                    Mlp(dim, int(mlp_ratios[i] * dim), activation, drop_rate),
                    epsilon,
                    rate,
                    skip_lam=skip_lam,
                )
                for rate in rates[i]
            ]
            changes = i > 0 and (strides[i] > 1 or dims[i - 1] != dim)
            stages.append(Stage(blocks, Downsample(dims[i - 1], dim, strides[i]) if changes else None))
        self.stages = nn.Sequential(*stages)
        self.norm = LayerNorm(dims[-1], epsilon=epsilon)
        self.pool = GlobalAveragePool()
        self._init_weights()
        self.reset_head(class_num)

    def forward_stem(self, x: paddle.Tensor) -> paddle.Tensor:
        """Check the images, fill them up with zeros to multiples of the last stride, and return tokens."""
        self.check_input(x)
        bottom, right = (-side % max(self.stage_strides) for side in x.shape[2:])
        if bottom or right:
            x = F.pad(x, [0, right, 0, bottom])
        return self.stem(x)

    def check_resolution(self, height: int, width: int) -> None:
        """Check that height and width are known; every size can be taken.

        Raises:
            ValueError: if one is 0, or unknown (-1) because a graph is traced without it.
        """
        if height == 0 or width == 0:
            raise ValueError(f"{type(self).__name__} takes images of at least 1 x 1, got {height} x {width}")
        if height < 0 or width < 0:
            native = ", ".join(map(str, (self.in_channels, *self.img_size)))
            raise ValueError(
                f"{type(self).__name__} cannot be traced for an unknown height or width, because the weights along "
                f"them are made for one size; give numbers: InputSpec([None, {native}]), Global.image_shape: [{native}]"
            )

    def fold(self, height: int, width: int) -> None:
        """Let a graph that is traced in evaluation for images of this size hold the resampled weights as constants.

        Such a graph does not follow later changes of the weights: for export, after the last of them.
        """
        for stage, stride in zip(self.stages, self.stage_strides):
            rows, columns = (-(-side // max(self.stage_strides)) * max(self.stage_strides) for side in (height, width))
            for block in stage.blocks:
                block.attn.fold(rows // stride, columns // stride)

    def _init_weights(self) -> None:
        """Initialise as the official code and PyTorch's convolution do."""
        for layer in self.sublayers():
            if isinstance(layer, (nn.Linear, AxisLinear)):
                init_linear(layer)
            elif isinstance(layer, nn.Conv2D):
                init_like_torch(layer)

    def make_head(self, class_num: int) -> nn.Layer:
        """Return a classifier of normal weights and a bias of zeros."""
        head = nn.Linear(self.num_features, class_num)
        init_linear(head)
        return head


def _strides(transitions: Sequence[bool], count: int) -> list[int]:
    """Return by how much each of ``count`` stages divides the grid before it.

    Raises:
        TypeError: if ``transitions`` is no list of flags.
        ValueError: if there is not one for each stage but the last.
    """
    if not isinstance(transitions, (list, tuple)):
        raise TypeError(f"transitions must be a list of True and False, got {transitions!r}")
    if len(transitions) != count - 1:
        raise ValueError(
            f"transitions must hold {count - 1} flags, one for each stage but the last, got {list(transitions)}"
        )
    flags = [check_flag(f"transitions[{i}]", flag) for i, flag in enumerate(transitions)]
    return [1, *(2 if flag else 1 for flag in flags)]


def _check_segments(segments: list[int], dims: list[int], strides: list[int]) -> None:
    """Check that the linear layers of every stage are C x C on the native grid.

    Raises:
        ValueError: if a number of segments is not the side of its stage's grid, or does not divide the width.
    """
    for i, (number, dim) in enumerate(zip(segments, dims)):
        if i and number * strides[i] != segments[i - 1]:
            halved = "halved" if strides[i] > 1 else "not halved"
            raise ValueError(
                f"segments[{i}] must be the side of the native grid: that is {segments[i - 1]} in the stage before and "
                f"{halved} behind it; got {number}"
            )
        if dim % number:
            raise ValueError(f"segments[{i}] must divide embed_dims[{i}] = {dim}, got {number}")


# ---- variants --------------------------------------------------------------------------------------------------

_LICENCE = (
    "unclear, because the official repository contradicts itself: its LICENSE file is MIT's, its README allows "
    "non-commercial use only; nothing is said of the weights"
)
_CROP_90 = Preprocessing(resize_short=248)


def _paddlevit(top1: float, top5: float) -> Accuracy:
    return Accuracy(top1, "official weights evaluated by PaddleViT, image_classification/ViP/README.md", top5)


def _drive(official: str, paddlevit: str) -> tuple:
    """Return the entries of two files on Google Drive, by their ids."""
    files = {"vip": official, "paddlevit": paddlevit}
    pages = {source: f"https://drive.google.com/file/d/{file}/view" for source, file in files.items()}
    return tuple(Weights(page, source, _LICENCE, manual=True) for source, page in pages.items())


_NAMES = (
    Rule("patch_embed.{rest}", "stem.{rest}"),
    # One flat list holds the stages and, where the grid or the width changes, the convolutions between them.
    Rule("network.{downsample_slot}.proj.{rest}", "stages.{s}.downsample.down.{rest}"),
    Rule("network.{slot}.{i}.{rest}", "stages.{s}.blocks.{i}.{rest}"),
    *unchanged("norm", "head", "aux_head"),
)

FAMILY = Family(
    name="VisionPermutator",
    sources=(
        Source("vip", "houqb/VisionPermutator, PyTorch", _NAMES),
        Source("paddlevit", "BR-IDL/PaddleViT and other ports to Paddle", _NAMES, PADDLE),
    ),
    networks=(VisionPermutator,),
    paper="Vision Permutator: A Permutable MLP-Like Architecture for Visual Recognition, arXiv 2106.12368",
    variants=(
        Variant(
            "ViP_Small_14",
            arguments={
                "patch_size": 14,
                "embed_dims": [384, 384, 384, 384],
                "segments": [16, 16, 16, 16],
                "transitions": [False, False, False],
            },
            params=29_892_904,
            macs=6_855_613_440,
            preprocessing=_CROP_90,
            notes="no weights published",
        ),
        Variant(
            "ViP_Small_7",
            params=25_114_984,
            macs=6_901_767_168,
            preprocessing=_CROP_90,
            accuracy=_paddlevit(81.48, 95.76),
            weights=_drive("1cX6eauDrsGsLSZnqsX7cl0oiKX8Dzv5z", "16bZkqzbnN08_o15k3MzbegK8SBwfQAHF"),
        ),
        Variant(
            "ViP_Medium_7",
            arguments={
                "depths": [4, 3, 14, 3],
                "embed_dims": [256, 256, 512, 512],
                "segments": [32, 32, 16, 16],
                "transitions": [False, True, False],
            },
            params=55_272_488,
            macs=16_284_307_456,
            preprocessing=_CROP_90,
            accuracy=_paddlevit(82.64, 96.12),
            weights=_drive("15y5WMypthpbBFdc01E3mJCZit7q0Yn8m", "11lvT2OXW0CVGPZdF9dNjY_uaEIMYrmNu"),
        ),
        Variant(
            "ViP_Large_7",
            arguments={"depths": [8, 8, 16, 4], "embed_dims": [256, 512, 512, 512]},
            params=87_784_936,
            macs=24_340_320_256,
            accuracy=_paddlevit(83.18, 96.37),
            weights=_drive("14F5IXGXmB_3jrwK33Efae-WEb5D_G85c", "1bK08JorLPMjYUep_TnFPKGs0e1j0UBKJ"),
        ),
        Variant(
            "ViP_Small_7_unweighted",
            arguments={"weighted": False},
            params=22_883_176,
            macs=6_899_555_328,
            preprocessing=_CROP_90,
            notes="the paper's Algorithm 1: branches are added; no weights published",
        ),
    ),
)
