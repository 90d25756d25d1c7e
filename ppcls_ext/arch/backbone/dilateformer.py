"""DilateFormer: dilated neighbourhood attention in the shallow stages, global attention in the deep ones.

Paper: "DilateFormer: Multi-Scale Dilated Transformer for Visual Recognition", Jiao et al., arXiv 2302.01791.
Official code: https://github.com/JIAOJIAYUASD/dilateformer (it states no licence).

Written from the paper and its equations, and checked against the official code: with the same weights, every variant
gives the same features and logits. A stage *begins* with its merging (as in timm's Sequencer), so that a stage's output
is what a detector would take. Differences are listed in ``docs/en/models/ImageNet1k/DilateFormer.md``.
"""

from __future__ import annotations

from typing import Sequence, Union

import paddle
from paddle import nn
from paddle.nn import functional as F

from ppcls_ext.arch.backbone.token_label import TokenLabelBackbone
from ppcls_ext.arch.layers import (
    ACTIVATIONS,
    BatchNorm2D,
    GlobalAveragePool,
    LayerNorm,
    Mlp,
    SelfAttention,
    Stage,
    TransformerBlock,
    drop_path_rates,
    init_like_torch,
    init_linear,
)
from ppcls_ext.arch.layers.dilated_attention import DilatedAttention
from ppcls_ext.registry import Accuracy, Family, Preprocessing, Variant, Weights
from ppcls_ext.utils.key_rules import PADDLE, Rule, Source, Structure, Transform, unchanged
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

PATCH_EMBEDS = ("overlapping", "nonoverlapping", "pointconv")
MERGINGS = ("conv3_2", "conv2_2", "avgpool3_2", "avgpool2_2")
CPES = ("block", "stage", "both", "none")
STEM_WIDTH = 16  # channels after the stem's first convolution; they double twice


class PositionEncoding(nn.Conv2D):
    """Conditional position encoding (arXiv 2102.10882): a depthwise 3 x 3 convolution, added to its input."""

    def __init__(self, dim: int):
        super().__init__(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return ``[N, H, W, C]``."""
        encoding = F.conv2d(x.transpose([0, 3, 1, 2]), self.weight, self.bias, padding=1, groups=x.shape[-1])
        return x + encoding.transpose([0, 2, 3, 1])


class Merging(nn.Layer):
    """Halves height and width, doubles the channels, normalises over the batch.

    ``conv3_2`` and ``conv2_2`` are one strided convolution, of 3 x 3 (rounding sizes up) or 2 x 2 (rounding down).
    ``avgpool3_2`` and ``avgpool2_2`` take the mean over such a window, without its padding, and a 1 x 1 convolution.
    """

    def __init__(self, dim_in: int, dim_out: int, kind: str):
        super().__init__()
        size = int(kind[-3])
        if kind.startswith("conv"):
            self.pool = nn.Identity()
            self.conv = nn.Conv2D(dim_in, dim_out, size, stride=2, padding=size // 3)
        else:
            self.pool = nn.AvgPool2D(size, stride=2, padding=size // 3, exclusive=True)
            self.conv = nn.Conv2D(dim_in, dim_out, 1)
        self.norm = BatchNorm2D(dim_out)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[N, H, W, dim_in]``, return ``[N, H / 2, W / 2, dim_out]``."""
        x = self.norm(self.conv(self.pool(x.transpose([0, 3, 1, 2]))))
        return x.transpose([0, 2, 3, 1])


class Stem(nn.Layer):
    """Images to tokens at a quarter of their height and width.

    ``overlapping``: four 3 x 3 convolutions, of which two have stride 2, with BatchNorm and GELU between them;
    ``pointconv``: the same with the two of stride 1 made 1 x 1; ``nonoverlapping``: one 4 x 4 convolution of stride 4.
    """

    def __init__(self, in_channels: int, dim: int, kind: str):
        super().__init__()
        if kind == "nonoverlapping":
            self.proj = nn.Conv2D(in_channels, dim, 4, stride=4)
            return
        widths = [in_channels, STEM_WIDTH, 2 * STEM_WIDTH, 4 * STEM_WIDTH, dim]
        sizes, strides = ((3, 3, 3, 3), (1, 2, 1, 2)) if kind == "overlapping" else ((3, 1, 3, 1), (2, 1, 2, 1))
        layers: list = []
        for width_in, width_out, size, stride in zip(widths, widths[1:], sizes, strides):
            if layers:
                layers += [BatchNorm2D(width_in), nn.GELU()]
            layers.append(nn.Conv2D(width_in, width_out, size, stride=stride, padding=size // 2, bias_attr=False))
        self.proj = nn.Sequential(*layers)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[N, in_channels, H, W]``, return ``[N, H / 4, W / 4, dim]``."""
        return self.proj(x).transpose([0, 2, 3, 1])  # (N, C, H, W) -> (N, H, W, C)


class DilateFormer(TokenLabelBackbone):
    """DilateFormer with every hyper-parameter open; the defaults are DilateFormer-Tiny.

    Nothing in it depends on the image size. With the default stem and merging every height and width works, and a
    stride of 2 rounds up: 225 pixels give maps of 57, 29, 15 and 8. Where ``nonoverlapping``, ``conv2_2`` or
    ``avgpool2_2`` round down, an image must be large enough to leave one pixel in the last stage.

    Args:
        class_num: Number of classes; 0 returns pooled features.
        in_channels: Channels of the images.
        img_size: Size that the model is meant for, an int or [height, width]; other sizes work as well.
        depths: Blocks of each stage.
        embed_dim: Token width of the first stage; each later one doubles it.
        num_heads: Attention heads of each stage.
        dilations: Distances between the keys of a dilated attention, in pixels of its map; the heads are split over
            them.
        kernel_size: Keys of a dilated attention along each axis, odd.
        dilate_attention: For each stage, whether its attention is dilated; if not it is global.
        patch_embed: The stem: ``overlapping``, ``nonoverlapping`` or ``pointconv``.
        merging: How a later stage begins: ``conv3_2``, ``conv2_2``, ``avgpool3_2`` or ``avgpool2_2``.
        cpe: Where position encodings are: in each ``block``, after each merging (``stage``), ``both`` or ``none``.
        mlp_ratio: Hidden width of the MLPs over the token width.
        qkv_bias: Whether queries, keys and values have a bias.
        activation: ``gelu``, ``relu`` or ``silu`` in the MLPs.
        epsilon: Of every LayerNorm.
        drop_rate: Dropout in the MLPs.
        attn_drop_rate: Dropout of the attention's probabilities.
        drop_path_rate: Stochastic depth of the last block; the ramp is linear from 0 at the first.
        token_label: Whether to classify each token of the last stage as well, see :class:`TokenLabelBackbone`.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if one is out of range, or a width or a number of heads cannot be split evenly.
    """

    channels_last = True

    def __init__(
        self,
        class_num: int = 1000,
        in_channels: int = 3,
        img_size: Union[int, Sequence[int]] = 224,
        depths: Sequence[int] = (2, 2, 6, 2),
        embed_dim: int = 72,
        num_heads: Sequence[int] = (3, 6, 12, 24),
        dilations: Sequence[int] = (1, 2, 3),
        kernel_size: int = 3,
        dilate_attention: Sequence[bool] = (True, True, False, False),
        patch_embed: str = "overlapping",
        merging: str = "conv3_2",
        cpe: str = "block",
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        activation: str = "gelu",
        epsilon: float = 1e-6,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        token_label: bool = False,
    ):
        super().__init__(token_label)
        depths = check_integers("depths", depths, maximum=MAX_DEPTH)
        count = len(depths)
        num_heads = check_integers("num_heads", num_heads, count)
        self.in_channels = check_integer("in_channels", in_channels)
        dims = [check_integer("embed_dim", embed_dim) * 2**stage for stage in range(count)]
        check_positive("mlp_ratio", mlp_ratio)
        check_flag("qkv_bias", qkv_bias)
        check_choice("activation", activation, list(ACTIVATIONS))
        check_epsilon("epsilon", epsilon)
        check_rate("drop_rate", drop_rate)
        check_rate("attn_drop_rate", attn_drop_rate)
        check_choice("cpe", cpe, CPES)
        self._patch_embed = check_choice("patch_embed", patch_embed, PATCH_EMBEDS)
        self._merging = check_choice("merging", merging, MERGINGS)
        rates = drop_path_rates(check_rate("drop_path_rate", drop_path_rate), depths)
        dilations, dilate_attention = _check_attention(dims, num_heads, dilations, kernel_size, dilate_attention)

        self.num_features = dims[-1]
        self.stage_channels = dims
        self.stage_strides = [4 * 2**stage for stage in range(count)]
        self.img_size = check_size("img_size", img_size)
        self.check_resolution(*self.img_size)

        self.stem = Stem(self.in_channels, dims[0], patch_embed)
        stages = []
        for i, (dim, heads) in enumerate(zip(dims, num_heads)):
            blocks = []
            for rate in rates[i]:
                if dilate_attention[i]:
                    attn = DilatedAttention(dim, heads, dilations, kernel_size, qkv_bias, attn_drop_rate)
                else:
                    attn = SelfAttention(dim, heads, qkv_bias, attn_drop_rate=attn_drop_rate)
                encoding = PositionEncoding(dim) if cpe in ("block", "both") else None
                mlp = Mlp(dim, int(mlp_ratio * dim), activation, drop_rate)
                blocks.append(TransformerBlock(dim, attn, mlp, epsilon, rate, cpe=encoding))
            downsample = Merging(dims[i - 1], dim, merging) if i else None
            # The first stage has none: the official code encodes positions where it merges.
            encoding = PositionEncoding(dim) if i and cpe in ("stage", "both") else None
            stages.append(Stage(blocks, downsample, encoding))
        self.stages = nn.Sequential(*stages)
        self.norm = LayerNorm(dims[-1], epsilon=epsilon)
        self.pool = GlobalAveragePool()
        self._init_weights()
        self.reset_head(class_num)

    def _init_weights(self) -> None:
        """Initialise as the official code does.

        Its convolutions keep PyTorch's default, and the ``qkv`` of its dilated attention is a 1 x 1 convolution.
        Paddle's own defaults serve for the norms (1 and 0).
        """
        for layer in self.sublayers():
            if isinstance(layer, nn.Conv2D):
                init_like_torch(layer)
            elif isinstance(layer, DilatedAttention):
                init_like_torch(layer.qkv, fan_in=layer.qkv.weight.shape[0])
                init_linear(layer.proj)
            elif isinstance(layer, (SelfAttention, Mlp)):
                for linear in layer.sublayers():
                    if isinstance(linear, nn.Linear):
                        init_linear(linear)

    def make_head(self, class_num: int) -> nn.Layer:
        """Return a classifier of small normal weights."""
        head = nn.Linear(self.num_features, class_num)
        init_linear(head)
        return head

    @property
    def min_size(self) -> int:
        """The smallest height and width of an image that leaves a pixel in every stage."""
        smallest = 1
        for _ in self.stage_strides[1:]:
            smallest = 2 * smallest - (1 if self._merging.endswith("3_2") else 0)
        return 4 * smallest - (0 if self._patch_embed == "nonoverlapping" else 3)

    def check_resolution(self, height: int, width: int) -> None:
        """Check that images of this size leave a pixel in every stage; -1 stands for an unknown side.

        Raises:
            ValueError: with the smallest side, if they do not.
        """
        if any(0 <= side < self.min_size for side in (height, width)):
            raise ValueError(
                f"{type(self).__name__} with patch_embed={self._patch_embed!r} and merging={self._merging!r} takes "
                f"images of at least {self.min_size} x {self.min_size} pixels, got {height} x {width}"
            )


def _check_attention(dims: list, num_heads: list, dilations, kernel_size, dilate_attention) -> tuple:
    """Check how channels, heads and dilations divide; return the last two lists that are open to mistakes.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if one is out of range or does not divide.
    """
    if not isinstance(dilations, (list, tuple)) or not dilations:
        raise TypeError(f"dilations must be a list of one or more integers, got {dilations!r}")
    dilations = [check_integer(f"dilations[{i}]", value) for i, value in enumerate(dilations)]
    if check_integer("kernel_size", kernel_size) % 2 == 0:
        raise ValueError(
            f"kernel_size must be odd, got {kernel_size}; nearest: {kernel_size - 1} and {kernel_size + 1}"
        )
    if not isinstance(dilate_attention, (list, tuple)) or len(dilate_attention) != len(dims):
        raise ValueError(
            f"dilate_attention must hold {len(dims)} values, True or False, one per stage; got {dilate_attention!r}"
        )
    for i, (dim, heads, dilate) in enumerate(zip(dims, num_heads, dilate_attention)):
        check_flag(f"dilate_attention[{i}]", dilate)
        if dim % heads:
            raise ValueError(f"num_heads[{i}] must divide the stage's {dim} channels, got {heads}")
        if dilate and heads % len(dilations):
            raise ValueError(
                f"num_heads[{i}] must be a multiple of the number of dilations, {len(dilations)}; got {heads}"
            )
    return dilations, list(dilate_attention)


# ---- variants --------------------------------------------------------------------------------------------------

_LICENCE = "none stated: the official repository has no licence file, so no rights are granted by default"
_FOLDER = "https://drive.google.com/drive/folders/1r8PDAQyccI6lKMIuaejin-AI1VW16Fvb"
_WEIGHTS = (Weights(_FOLDER, "dilateformer", _LICENCE, manual=True),)

_BASE = {"depths": [4, 8, 10, 3], "embed_dim": 96}
_BASE_DEPTHS = "the official code's depths; the released Base is reported to have 2, 2, 18, 2"


def _dilated(structure: Structure) -> list:
    return [s for s, dilated in enumerate(structure.config["dilate_attention"]) if dilated]


#: A linear layer here that is a 1 x 1 convolution there; the model's layer says how to read it.
_CONVOLUTION = Transform(
    lambda arrays: arrays[0], lambda weight: [weight[:, :, None, None] if weight.ndim == 2 else weight]
)
_NAMES = (
    Rule("patch_embed.{rest}", "stem.{rest}"),
    # A stage ends there with the merging, and with its position encoding, with which the next one begins here.
    Rule("stages.{s}.downsample.proj.0.{rest}", "stages.{s+1}.downsample.conv.{rest}"),
    Rule("stages.{s}.downsample.proj.1.{rest}", "stages.{s+1}.downsample.norm.{rest}"),
    Rule("stages.{s}.downsample.pos_embed.{rest}", "stages.{s+1}.cpe.{rest}"),
    Rule("stages.{s}.blocks.{i}.pos_embed.{rest}", "stages.{s}.blocks.{i}.cpe.{rest}"),
    Rule("stages.{s}.blocks.{i}.attn.qkv.weight", "stages.{s}.blocks.{i}.attn.qkv.weight", _CONVOLUTION, _dilated),
    Rule("stages.{s}.blocks.{i}.{rest}", "stages.{s}.blocks.{i}.{rest}"),
    *unchanged("norm", "head", "aux_head"),
)

FAMILY = Family(
    name="DilateFormer",
    sources=(
        Source("dilateformer", "JIAOJIAYUASD/dilateformer, PyTorch", _NAMES),
        Source("paddle", "ports of the official code to Paddle", _NAMES, PADDLE),
    ),
    networks=(DilateFormer,),
    paper="DilateFormer: Multi-Scale Dilated Transformer for Visual Recognition, arXiv 2302.01791",
    variants=(
        Variant(
            "DilateFormer_Tiny",
            params=17_238_744,
            macs=3_161_946_240,
            accuracy=Accuracy(82.1, "table of arXiv 2302.01791, as quoted in a summary of the paper"),
            weights=_WEIGHTS,
        ),
        Variant(
            "DilateFormer_Small",
            arguments={"depths": [3, 5, 8, 3]},
            params=24_057_504,
            macs=4_591_068_480,
            weights=_WEIGHTS,
            notes="the paper's Small costs 4.8 G, so its depths are others and its accuracy is not this model's",
        ),
        Variant(
            "DilateFormer_Base",
            arguments=_BASE,
            params=47_432_376,
            macs=9_924_364_032,
            weights=_WEIGHTS,
            notes=_BASE_DEPTHS,
        ),
        Variant(
            "DilateFormer_Base_384",
            arguments={"img_size": 384, **_BASE},
            params=47_432_376,
            macs=30_908_024_832,
            preprocessing=Preprocessing(input_size=(3, 384, 384), resize_short=438),
            accuracy=Accuracy(85.6, "abstract of arXiv 2302.01791"),
            notes=_BASE_DEPTHS,
        ),
    ),
)
