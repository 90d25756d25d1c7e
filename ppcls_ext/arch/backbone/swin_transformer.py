"""Swin Transformer: attention within windows, which are shifted in every other block.

Paper: "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", Liu et al., arXiv 2103.14030.
Official code and weights: https://github.com/microsoft/Swin-Transformer (MIT).

Written from the paper and checked against timm and PaddleClas: with the same weights, every variant gives the same
features and logits. A stage *begins* with its patch merging (as in timm), so that a stage's output is what a detector
would take. Differences are listed in ``docs/en/models/ImageNet1k/SwinTransformer.md``.
"""

from __future__ import annotations

import math
from typing import Sequence, Union

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F
from paddle.nn import initializer as I

from ppcls_ext.arch.backbone.base import Backbone
from ppcls_ext.arch.backbone.swin_sources import SOURCES
from ppcls_ext.arch.layers import (
    ACTIVATIONS,
    GlobalAveragePool,
    LayerNorm,
    Linear,
    Mlp,
    PatchEmbed,
    Stage,
    TransformerBlock,
    attention,
    drop_path_rates,
    init_like_torch,
    init_linear,
    permute,
    shape_of,
)
from ppcls_ext.arch.publishers import paddleclas_weights
from ppcls_ext.registry import Accuracy, Family, Preprocessing, Variant, Weights
from ppcls_ext.utils.validate import (
    MAX_DEPTH,
    check_choice,
    check_epsilon,
    check_flag,
    check_integer,
    check_integers,
    check_positive,
    check_rate,
    check_size,
)

MASKED = -100.0  # added to the logits of pairs that the cyclic shift brought together


def _pad(x: paddle.Tensor, multiple: int, data_format: str = "NHWC") -> paddle.Tensor:
    """Pad with zeros at the bottom and at the right to multiples of ``multiple``."""
    first = 1 if data_format == "NHWC" else 2
    height, width = shape_of(x)[first], shape_of(x)[first + 1]
    rows, columns = (multiple - 1 - (side + multiple - 1) % multiple for side in (height, width))
    if paddle.in_dynamic_mode():
        return F.pad(x, [0, columns, 0, rows], data_format=data_format) if rows or columns else x
    zero = paddle.zeros([], dtype="int32")
    sides = paddle.stack([zero, columns.astype("int32"), zero, rows.astype("int32")])
    return F.pad(x, sides, data_format=data_format)


def _roll(x: paddle.Tensor, down, right) -> paddle.Tensor:
    """Shift a map ``[N, H, W, C]`` cyclically."""
    if paddle.in_dynamic_mode():
        return paddle.roll(x, [down, right], [1, 2]) if down or right else x
    for axis, shift in ((1, down), (2, right)):
        side = shape_of(x)[axis]
        index = paddle.arange(side, dtype=side.dtype) - shift
        index = paddle.where(index < 0, index + side, index)
        x = paddle.gather(x, paddle.where(index >= side, index - side, index), axis=axis)
    return x


def relative_position_index(window: int) -> np.ndarray:
    """Return ``[window², window²]``: the row of the bias table for each pair of query and key (paper, section 3.2)."""
    places = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij")).reshape(2, -1)
    rows, columns = places[:, :, None] - places[:, None, :] + window - 1
    return rows * (2 * window - 1) + columns


class WindowAttention(nn.Layer):
    """W-MSA and SW-MSA: self-attention within windows, with a learned bias per relative position (paper, eq. 4).

    A map is padded with zeros to whole windows, which take part as keys, as in the official code for detection. With a
    shift (SW-MSA) the windows lie ``shift`` pixels further down and right; the map is rolled instead, and pairs that
    only that brought together are masked. Along a side that is one window long nothing is shifted unless
    ``always_shift``.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        window: int,
        shift: int,
        always_shift: bool,
        bias: bool,
        attn_drop_rate: float,
        drop_rate: float,
    ):
        super().__init__()
        self.heads = heads
        self.window = window
        self.shift = shift
        self.always_shift = always_shift
        self.attn_drop_rate = attn_drop_rate
        shape = [(2 * window - 1) ** 2, heads]
        self.relative_position_bias_table = self.create_parameter(shape, default_initializer=I.Normal(std=0.02))
        index = paddle.to_tensor(relative_position_index(window).reshape(-1))
        self.register_buffer("relative_position_index", index, persistable=False)
        # Output channels: query, key, value; each split by head.
        self.qkv = Linear(dim, 3 * dim, bias_attr=None if bias else False)
        self.proj = Linear(dim, dim)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return ``[N, H, W, C]``."""
        height, width = shape_of(x)[1], shape_of(x)[2]
        window, size = self.window, x.shape[-1] // self.heads
        x = _pad(x, window)
        rows, columns = shape_of(x)[1] // window, shape_of(x)[2] // window
        bias = self.position_bias()
        if self.shift:
            down, right = self.shift_along(rows), self.shift_along(columns)
            x = _roll(x, -down, -right)
            if not paddle.in_dynamic_mode() or down or right:
                bias = bias + self.mask(rows, columns, down, right)
        x = permute(x.reshape([-1, rows, window, columns, window, self.heads * size]), [0, 1, 3, 2, 4, 5])
        # (N, rows, columns, window, window, C) -> (N * windows, window², 3, heads, D) -> (3, N * windows, heads, …)
        qkv = self.qkv(x.reshape([-1, window * window, self.heads * size]))
        qkv = permute(qkv.reshape([0, window * window, 3, self.heads, size]), [2, 0, 3, 1, 4])
        query, key, value = qkv.unbind(0)
        mixed = attention(query, key, value, self.attn_drop_rate, self.training, bias=bias)
        mixed = self.proj(permute(mixed, [0, 2, 1, 3]).flatten(2))
        mixed = permute(mixed.reshape([-1, rows, columns, window, window, self.heads * size]), [0, 1, 3, 2, 4, 5])
        mixed = mixed.reshape([0, rows * window, columns * window, self.heads * size])
        if self.shift:
            mixed = _roll(mixed, down, right)
        return self.drop(mixed[:, :height, :width])

    def position_bias(self) -> paddle.Tensor:
        """Return the bias ``[heads, window², window²]``."""
        bias = paddle.index_select(self.relative_position_bias_table, self.relative_position_index)
        return bias.transpose([1, 0]).reshape([self.heads, self.window**2, self.window**2])

    def shift_along(self, windows):
        """Return by how many pixels a side of so many windows is shifted."""
        if self.always_shift:
            return self.shift
        return self.shift * (windows > 1) if paddle.in_dynamic_mode() else self.shift * (windows > 1).astype("int32")

    def mask(self, rows, columns, down, right) -> paddle.Tensor:
        """Return what is added to the logits of a rolled map, ``[windows, 1, window², window²]``: 0 or -100.

        A side falls into three regions: what stayed together, the last window but its end, and its end, which the roll
        brought there. A pair is masked if its regions differ.
        """
        labels = []
        for windows, shift in ((rows, down), (columns, right)):
            side = windows * self.window
            place = paddle.arange(side, dtype="int32")
            labels.append((place >= side - self.window).astype("float32") + (place >= side - shift).astype("float32"))
        regions = 3 * labels[0].unsqueeze(1) + labels[1]
        regions = regions.reshape([rows, self.window, columns, self.window]).transpose([0, 2, 1, 3])
        regions = regions.reshape([rows * columns, 1, self.window**2])
        return (regions.unsqueeze(2) != regions.unsqueeze(3)).astype(self.relative_position_bias_table.dtype) * MASKED

    def multiply_adds(self, x: paddle.Tensor, output: paddle.Tensor) -> int:
        """Return the products of queries with keys, and of probabilities with values, those of padding included."""
        batch, height, width, dim = output.shape
        tokens = math.prod(-(-side // self.window) * self.window for side in (height, width))
        return 2 * batch * tokens * self.window**2 * dim


class PatchMerging(nn.Layer):
    """Joins each 2 x 2 pixels into one of twice the channels; an odd side is padded with zeros (paper, section 3.1)."""

    def __init__(self, dim: int, epsilon: float):
        super().__init__()
        self.norm = LayerNorm(4 * dim, epsilon=epsilon)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias_attr=False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[N, H, W, C]``, return ``[N, ceil(H / 2), ceil(W / 2), 2 C]``."""
        dim = x.shape[-1]
        x = _pad(x, 2)
        rows, columns = shape_of(x)[1] // 2, shape_of(x)[2] // 2
        # Channels of the official order: (row, column) = (0, 0), (1, 0), (0, 1), (1, 1).
        x = permute(x.reshape([-1, rows, 2, columns, 2, dim]), [0, 1, 3, 4, 2, 5])
        return self.reduction(self.norm(x.reshape([0, rows, columns, 4 * dim])))


class SwinTransformer(Backbone):
    """Swin with every hyper-parameter open; the defaults are Swin-T.

    Nothing in it depends on the image size: every height and width works. An image is padded with zeros to whole
    patches, a map to whole windows, or to even sides where patches merge.

    Args:
        class_num: Number of classes; 0 returns pooled features.
        in_channels: Channels of the images.
        img_size: Size that the model is meant for, an int or [height, width]; other sizes work as well.
        patch_size: Height and width of a patch.
        embed_dim: Token width of the first stage; each later one doubles it.
        depths: Blocks of each stage.
        num_heads: Attention heads of each stage.
        window_size: Height and width of a window, in pixels of the stage's map.
        mlp_ratio: Hidden width of the MLPs over the token width.
        qkv_bias: Whether queries, keys and values have a bias.
        patch_norm: Whether a LayerNorm follows the patch embedding.
        always_shift: Whether windows are shifted even along a side that is one window long, as PaddleClas does. The
            official code does not: the last stage at the native size is one window.
        activation: ``gelu``, ``gelu_tanh``, ``relu`` or ``silu`` in the MLPs.
        epsilon: Of every LayerNorm.
        drop_rate: Dropout of the embedded patches, after the attentions and in the MLPs.
        attn_drop_rate: Dropout of the attention's probabilities.
        drop_path_rate: Stochastic depth of the last block; the ramp is linear from 0 at the first.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if one is out of range, or a stage's heads do not divide its width.
    """

    channels_last = True
    free_arguments = (*Backbone.free_arguments, "window_size")

    def __init__(
        self,
        class_num: int = 1000,
        in_channels: int = 3,
        img_size: Union[int, Sequence[int]] = 224,
        patch_size: int = 4,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        patch_norm: bool = True,
        always_shift: bool = False,
        activation: str = "gelu",
        epsilon: float = 1e-5,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
    ):
        super().__init__()
        depths = check_integers("depths", depths, maximum=MAX_DEPTH)
        count = len(depths)
        num_heads = check_integers("num_heads", num_heads, count)
        dims = [check_integer("embed_dim", embed_dim) * 2**stage for stage in range(count)]
        for i, (dim, heads) in enumerate(zip(dims, num_heads)):
            if dim % heads:
                raise ValueError(f"num_heads[{i}] must divide the stage's {dim} channels, got {heads}")
        window = check_integer("window_size", window_size)
        check_positive("mlp_ratio", mlp_ratio)
        check_flag("qkv_bias", qkv_bias)
        check_flag("patch_norm", patch_norm)
        check_flag("always_shift", always_shift)
        check_choice("activation", activation, list(ACTIVATIONS))
        check_epsilon("epsilon", epsilon)
        check_rate("drop_rate", drop_rate)
        check_rate("attn_drop_rate", attn_drop_rate)
        rates = drop_path_rates(check_rate("drop_path_rate", drop_path_rate), depths)

        self.in_channels = check_integer("in_channels", in_channels)
        self.num_features = dims[-1]
        self.stage_channels = dims
        self.stage_strides = [check_integer("patch_size", patch_size) * 2**stage for stage in range(count)]
        self.img_size = check_size("img_size", img_size)

        self.stem = PatchEmbed(self.in_channels, dims[0], patch_size, epsilon if patch_norm else None)
        self.pos_drop = nn.Dropout(drop_rate)
        stages = []
        for i, (dim, heads) in enumerate(zip(dims, num_heads)):
            blocks = []
            for block, rate in enumerate(rates[i]):
                shift = window // 2 if block % 2 else 0
                attn = WindowAttention(dim, heads, window, shift, always_shift, qkv_bias, attn_drop_rate, drop_rate)
                mlp = Mlp(dim, int(mlp_ratio * dim), activation, drop_rate)
                blocks.append(TransformerBlock(dim, attn, mlp, epsilon, rate))
            stages.append(Stage(blocks, PatchMerging(dims[i - 1], epsilon) if i else None))
        self.stages = nn.Sequential(*stages)
        self.norm = LayerNorm(dims[-1], epsilon=epsilon)
        self.pool = GlobalAveragePool()
        self.position_tables = tuple(
            name for name, _ in self.named_parameters() if name.endswith("relative_position_bias_table")
        )
        self._init_weights()
        self.reset_head(class_num)

    def _init_weights(self) -> None:
        """Initialise as the official code does; its convolution keeps PyTorch's default, within 1 / sqrt(fan in)."""
        for layer in self.sublayers():
            if isinstance(layer, nn.Linear):
                init_linear(layer)
        init_like_torch(self.stem.proj)

    def make_head(self, class_num: int) -> nn.Layer:
        """Return a classifier of small normal weights."""
        head = nn.Linear(self.num_features, class_num)
        init_linear(head)
        return head

    def forward_stem(self, x: paddle.Tensor) -> paddle.Tensor:
        """Check the images, pad them to whole patches and embed these: ``[N, H / patch, W / patch, C]``."""
        self.check_input(x)
        return self.pos_drop(self.stem(_pad(x, self.stage_strides[0], "NCHW")))

    def check_resolution(self, height: int, width: int) -> None:
        """Check that there is an image; -1 stands for an unknown side.

        Raises:
            ValueError: if a side is 0.
        """
        if height == 0 or width == 0:
            raise ValueError(f"{type(self).__name__} takes images of at least 1 x 1 pixel, got {height} x {width}")


# ---- variants --------------------------------------------------------------------------------------------------

_LICENCE = "MIT (of the official repository)"
_PADDLECLAS_LICENCE = "Apache-2.0 (PaddleClas; converted from the official weights, whose licence is MIT)"
_RELEASE = "https://github.com/SwinTransformer/storage/releases/download/"

_AT_224 = Preprocessing(resize_short=248)
_AT_384 = Preprocessing(input_size=(3, 384, 384), resize_short=384)

_T = {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "drop_path_rate": 0.2}
_S = {"embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24], "drop_path_rate": 0.3}
_B = {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "drop_path_rate": 0.5}
_L = {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48], "drop_path_rate": 0.2}
#: ImageNet-22k's 21,841 classes, and the drop path of the official pre-training.
_22K = {"class_num": 21841, "drop_path_rate": 0.2}
_22K_TINY = {"class_num": 21841, "drop_path_rate": 0.1}
_FROM_22K = "pre-trained on ImageNet-22k, fine-tuned on ImageNet-1k"
_HEAD_22K = "pre-trained on ImageNet-22k, with a classifier of 21,841 classes"


def _official(path: str) -> Weights:
    return Weights(f"{_RELEASE}{path}.pth", "swin", _LICENCE)


def _paddleclas(name: str) -> Weights:
    return paddleclas_weights(f"legendary_models/{name}", licence=_PADDLECLAS_LICENCE)


def _timm(top1: float, top5: float) -> Accuracy:
    """Return the accuracy of the first weights."""
    return Accuracy(top1, "official weights evaluated by timm, results/results-imagenet.csv", top5)


FAMILY = Family(
    name="SwinTransformer",
    sources=SOURCES,
    networks=(SwinTransformer,),
    paper="Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, arXiv 2103.14030",
    variants=(
        Variant(
            "SwinTransformer_tiny_patch4_window7_224",
            arguments=_T,
            params=28_288_354,
            macs=4_490_566_656,
            preprocessing=_AT_224,
            accuracy=_timm(81.388, 95.54),
            weights=(
                _official("v1.0.0/swin_tiny_patch4_window7_224"),
                _paddleclas("SwinTransformer_tiny_patch4_window7_224"),
                _official("v1.0.8/swin_tiny_patch4_window7_224_22kto1k_finetune"),
            ),
        ),
        Variant(
            "SwinTransformer_small_patch4_window7_224",
            arguments=_S,
            params=49_606_258,
            macs=8_740_875_264,
            preprocessing=_AT_224,
            accuracy=_timm(83.228, 96.326),
            weights=(
                _official("v1.0.0/swin_small_patch4_window7_224"),
                _paddleclas("SwinTransformer_small_patch4_window7_224"),
                _official("v1.0.8/swin_small_patch4_window7_224_22kto1k_finetune"),
            ),
        ),
        Variant(
            "SwinTransformer_base_patch4_window7_224",
            arguments=_B,
            params=87_768_224,
            macs=15_430_946_816,
            preprocessing=_AT_224,
            accuracy=_timm(83.604, 96.45),
            weights=(
                _official("v1.0.0/swin_base_patch4_window7_224"),
                _paddleclas("SwinTransformer_base_patch4_window7_224"),
                _official("v1.0.0/swin_base_patch4_window7_224_22kto1k"),
            ),
        ),
        Variant(
            "SwinTransformer_base_patch4_window12_384",
            arguments={"img_size": 384, **_B, "window_size": 12},
            params=87_903_584,
            macs=47_083_134_976,
            preprocessing=_AT_384,
            accuracy=_timm(84.478, 96.886),
            weights=(
                _official("v1.0.0/swin_base_patch4_window12_384"),
                _paddleclas("SwinTransformer_base_patch4_window12_384"),
                _official("v1.0.0/swin_base_patch4_window12_384_22kto1k"),
            ),
        ),
        Variant(
            "SwinTransformer_large_patch4_window7_224",
            arguments=_L,
            params=196_532_476,
            macs=34_475_759_616,
            preprocessing=_AT_224,
            accuracy=_timm(86.32, 97.89),
            weights=(
                _official("v1.0.0/swin_large_patch4_window7_224_22kto1k"),
                _paddleclas("SwinTransformer_large_patch4_window7_224_22kto1k"),
            ),
            notes=_FROM_22K,
        ),
        Variant(
            "SwinTransformer_large_patch4_window12_384",
            arguments={"img_size": 384, **_L, "window_size": 12},
            params=196_735_516,
            macs=103_919_087_616,
            preprocessing=_AT_384,
            accuracy=_timm(87.142, 98.228),
            weights=(
                _official("v1.0.0/swin_large_patch4_window12_384_22kto1k"),
                _paddleclas("SwinTransformer_large_patch4_window12_384_22kto1k"),
            ),
            notes=_FROM_22K,
        ),
        Variant(
            "SwinTransformer_tiny_patch4_window7_224_22k",
            arguments={**_T, **_22K_TINY},
            params=44_315_083,
            macs=4_506_572_544,
            preprocessing=_AT_224,
            weights=(_official("v1.0.8/swin_tiny_patch4_window7_224_22k"),),
            notes=_HEAD_22K,
        ),
        Variant(
            "SwinTransformer_small_patch4_window7_224_22k",
            arguments={**_S, **_22K},
            params=65_632_987,
            macs=8_756_881_152,
            preprocessing=_AT_224,
            weights=(_official("v1.0.8/swin_small_patch4_window7_224_22k"),),
            notes=_HEAD_22K,
        ),
        Variant(
            "SwinTransformer_base_patch4_window7_224_22k",
            arguments={**_B, **_22K},
            params=109_130_249,
            macs=15_452_288_000,
            preprocessing=_AT_224,
            weights=(_official("v1.0.0/swin_base_patch4_window7_224_22k"),),
            notes=_HEAD_22K,
        ),
        Variant(
            "SwinTransformer_base_patch4_window12_384_22k",
            arguments={"img_size": 384, **_B, **_22K, "window_size": 12},
            params=109_265_609,
            macs=47_104_476_160,
            preprocessing=_AT_384,
            weights=(_official("v1.0.0/swin_base_patch4_window12_384_22k"),),
            notes=_HEAD_22K,
        ),
        Variant(
            "SwinTransformer_large_patch4_window7_224_22k",
            arguments={**_L, **_22K},
            params=228_565_093,
            macs=34_507_771_392,
            preprocessing=_AT_224,
            weights=(_official("v1.0.0/swin_large_patch4_window7_224_22k"),),
            notes=_HEAD_22K,
        ),
        Variant(
            "SwinTransformer_large_patch4_window12_384_22k",
            arguments={"img_size": 384, **_L, **_22K, "window_size": 12},
            params=228_768_133,
            macs=103_951_099_392,
            preprocessing=_AT_384,
            weights=(_official("v1.0.0/swin_large_patch4_window12_384_22k"),),
            notes=_HEAD_22K,
        ),
    ),
)
