"""ViT: an image as a sequence of patches, classified by a plain transformer encoder.

Paper: "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", Dosovitskiy et al., arXiv
2010.11929. Official code and weights (JAX): https://github.com/google-research/vision_transformer (Apache-2.0).

Written from the paper and checked against timm and PaddleClas: with the same weights, every variant gives the same
features and logits. A ViT has no stages; here its blocks are divided into four equal groups, after each of which
features are taken. Differences are listed in ``docs/en/models/ImageNet1k/ViT.md``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Optional, Sequence, Union

import paddle
from paddle import nn
from paddle.nn import functional as F
from paddle.nn import initializer as I

from ppcls_ext.arch.backbone.base import Backbone
from ppcls_ext.arch.backbone.vit_sources import SOURCES
from ppcls_ext.arch.layers import (
    ACTIVATIONS,
    LayerNorm,
    Mlp,
    SelfAttention,
    Stage,
    TransformerBlock,
    drop_path_rates,
    init_linear,
    lecun_normal,
    shape_of,
    truncated_normal,
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

INITS = ("official", "trunc_normal")


class TokenEmbedding(nn.Layer):
    """Patches to tokens, with the class token before them and a learned position added to each (paper, eq. 1).

    The position table belongs to one grid of patches. For a different grid its grid part is resampled (bicubic) on the
    fly; the class token's position stays.
    """

    def __init__(self, in_channels: int, dim: int, patch_size: int, grid: Sequence[int], drop_rate: float):
        super().__init__()
        self.grid = list(grid)
        self.proj = nn.Conv2D(in_channels, dim, patch_size, stride=patch_size)
        self.cls_token = self.create_parameter([1, 1, dim], default_initializer=I.Constant(0.0))
        shape = [1, 1 + math.prod(self.grid), dim]
        self.pos_embed = self.create_parameter(shape, default_initializer=I.Normal(std=0.02))
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take images ``[N, in_channels, H, W]``, return tokens ``[N, 1 + H / patch * W / patch, dim]``."""
        x = self.proj(x)
        positions = self.positions(x)
        tokens = x.flatten(2).transpose([0, 2, 1])  # (N, C, H, W) -> (N, H * W, C)
        cls_token = self.cls_token.expand([shape_of(x)[0], -1, -1]).astype(tokens.dtype)
        return self.drop(paddle.concat([cls_token, tokens], axis=1) + positions)

    def positions(self, x: paddle.Tensor) -> paddle.Tensor:
        """Return the table ``[1, 1 + H * W, C]`` for the map ``[N, C, H, W]``."""
        if paddle.in_dynamic_mode() and x.shape[2:] == self.grid:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].transpose([0, 2, 1]).reshape([1, -1, *self.grid])  # (1, C, H, W)
        grid = F.interpolate(grid, size=shape_of(x)[2:], mode="bicubic").flatten(2).transpose([0, 2, 1])
        return paddle.concat([self.pos_embed[:, :1], grid], axis=1)

    def multiply_adds(self, x: paddle.Tensor, output: paddle.Tensor) -> int:
        """Return 0: the convolution counts its own, and positions are added."""
        return 0


class ClassTokenPool(nn.Layer):
    """The class token alone."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take ``[N, tokens, C]``, return ``[N, C]``."""
        return x[:, 0]


class VisionTransformer(Backbone):
    """ViT with every hyper-parameter open; the defaults are ViT-B/16.

    Heights and widths that are multiples of ``patch_size`` all work: positions are resampled (bicubic), without
    rebuilding. Stage outputs are tokens ``[N, 1 + H W, C]``; :meth:`extract_features` returns maps ``[N, C, H, W]``
    without the class token, before the final norm, all of one stride: the patch size.

    Args:
        class_num: Number of classes; 0 returns pooled features.
        in_channels: Channels of the images.
        img_size: Size of the position table, an int or [height, width]; images of other sizes work as well.
        patch_size: Height and width of a patch.
        embed_dim: Token width.
        depths: Blocks of each group that features are taken after; only their sum matters to the logits.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLPs over the token width.
        qkv_bias: Whether queries, keys and values have a bias.
        qk_scale: Factor of the products of queries and keys; None means 1 / sqrt(embed_dim / num_heads).
        activation: ``gelu`` (exact), ``gelu_tanh`` (as in the JAX original), ``relu`` or ``silu`` in the MLPs.
        epsilon: Of every LayerNorm.
        representation_size: Width of a tanh layer before the classifier, as the original has it for pre-training on
            ImageNet-21k; 0 means none.
        drop_remainder: Whether other sizes than multiples of ``patch_size`` are taken too; the pixels left over at the
            right and at the bottom are then not looked at, as in the JAX original. If not they are an error.
        drop_rate: Dropout of the embedded tokens, after the attentions and in the MLPs.
        attn_drop_rate: Dropout of the attention's probabilities.
        drop_path_rate: Stochastic depth of the last block; the ramp is linear from 0 at the first.
        init: ``official``, or ``trunc_normal`` for the Linear layers and the head, as in PaddleClas and DeiT.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if one is out of range, or ``num_heads`` does not divide ``embed_dim``.
    """

    position_tables = ("stem.pos_embed", "stem.cls_token")
    free_arguments = (*Backbone.free_arguments, "drop_remainder")

    def __init__(
        self,
        class_num: int = 1000,
        in_channels: int = 3,
        img_size: Union[int, Sequence[int]] = 224,
        patch_size: int = 16,
        embed_dim: int = 768,
        depths: Sequence[int] = (3, 3, 3, 3),
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: Optional[float] = None,
        activation: str = "gelu",
        epsilon: float = 1e-6,
        representation_size: int = 0,
        drop_remainder: bool = False,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        init: str = "official",
    ):
        super().__init__()
        depths = check_integers("depths", depths, maximum=MAX_DEPTH)
        dim = check_integer("embed_dim", embed_dim)
        if dim % check_integer("num_heads", num_heads):
            raise ValueError(f"num_heads must divide embed_dim, {dim}; got {num_heads}")
        check_positive("mlp_ratio", mlp_ratio)
        check_flag("qkv_bias", qkv_bias)
        if qk_scale is not None:
            check_positive("qk_scale", qk_scale)
        check_choice("activation", activation, list(ACTIVATIONS))
        check_epsilon("epsilon", epsilon)
        check_integer("representation_size", representation_size, minimum=0)
        check_rate("drop_rate", drop_rate)
        check_rate("attn_drop_rate", attn_drop_rate)
        rates = drop_path_rates(check_rate("drop_path_rate", drop_path_rate), depths)
        self._drop_remainder = check_flag("drop_remainder", drop_remainder)
        self._init = check_choice("init", init, INITS)

        self.in_channels = check_integer("in_channels", in_channels)
        self.num_features = representation_size or dim
        self.stage_channels = [dim] * len(depths)
        self.stage_strides = [check_integer("patch_size", patch_size)] * len(depths)
        self.img_size = check_size("img_size", img_size)
        self.check_resolution(*self.img_size)

        grid = [side // patch_size for side in self.img_size]
        self.position_grid = grid
        self.stem = TokenEmbedding(self.in_channels, dim, patch_size, grid, drop_rate)
        stages = []
        for stage_rates in rates:
            blocks = [
                TransformerBlock(
                    dim,
                    SelfAttention(dim, num_heads, qkv_bias, qk_scale, attn_drop_rate, drop_rate),
                    Mlp(dim, int(mlp_ratio * dim), activation, drop_rate),
                    epsilon,
                    rate,
                )
                for rate in stage_rates
            ]
            stages.append(Stage(blocks))
        self.stages = nn.Sequential(*stages)
        self.norm = LayerNorm(dim, epsilon=epsilon)
        self.pool = ClassTokenPool()
        has_representation = representation_size > 0
        self.pre_logits = (
            nn.Sequential(nn.Linear(dim, representation_size), nn.Tanh()) if has_representation else nn.Identity()
        )
        self._init_weights()
        self.reset_head(class_num)

    def _init_weights(self) -> None:
        """Initialise as the official code does, or Linear layers by a truncated normal of deviation 0.02.

        The official code makes queries, keys and values by three layers, which the bounds of ``qkv`` follow.
        """
        for name, layer in self.named_sublayers():
            if isinstance(layer, nn.Linear) and self._init == "trunc_normal":
                init_linear(layer, truncated_normal(0.02))
            elif isinstance(layer, nn.Linear):
                fan_in, fan_out = layer.weight.shape
                init_linear(layer, I.XavierUniform(fan_in=fan_in, fan_out=fan_in if name.endswith("qkv") else fan_out))
                if ".mlp." in name:
                    I.Normal(std=1e-6)(layer.bias)
        if self._init == "trunc_normal":
            truncated_normal(0.02)(self.stem.pos_embed)
            truncated_normal(0.02)(self.stem.cls_token)
        else:
            lecun_normal(self.stem.proj)

    def make_head(self, class_num: int) -> nn.Layer:
        """Return a classifier of zeros, or of truncated normals."""
        head = nn.Linear(self.num_features, class_num)
        init_linear(head, truncated_normal(0.02) if self._init == "trunc_normal" else I.Constant(0.0))
        return head

    def forward_head(self, x: paddle.Tensor, pre_logits: bool = False) -> paddle.Tensor:
        """Classify the class token in the result of :meth:`forward_features`.

        Args:
            x: Tokens ``[N, 1 + H W, C]``.
            pre_logits: Stop before the classifier and return ``[N, num_features]``.
        """
        x = self.pre_logits(self.pool(x))
        return x if pre_logits else self.head(x)

    def as_map(self, output: paddle.Tensor, images: paddle.Tensor) -> paddle.Tensor:
        """Return a stage's tokens for ``images`` as ``[N, C, H, W]``, without the class token."""
        tokens = output[:, 1:].transpose([0, 2, 1])  # (N, 1 + H * W, C) -> (N, C, H * W)
        return tokens.reshape([0, 0, shape_of(images)[2] // self.stage_strides[0], -1])

    def check_resolution(self, height: int, width: int) -> None:
        """Check that images of this size consist of patches; -1 stands for an unknown side.

        Raises:
            ValueError: with the nearest sizes that do, if they do not.
        """
        if self._drop_remainder:
            patch = self.stage_strides[0]
            height, width = (side // patch * patch if side >= patch else side for side in (height, width))
        super().check_resolution(height, width)


# ---- variants --------------------------------------------------------------------------------------------------

_LICENCE = "Apache-2.0 (of the official repository)"
_PADDLECLAS_LICENCE = "Apache-2.0 (PaddleClas; converted from the official weights, which have the same licence)"
_AUGREG = "https://storage.googleapis.com/vit_models/augreg/"
_IMAGENET21K = "https://storage.googleapis.com/vit_models/imagenet21k/"
_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/"

_AT_224 = Preprocessing(resize_short=248, mean=(0.5,) * 3, std=(0.5,) * 3)
_AT_384 = replace(_AT_224, input_size=(3, 384, 384), resize_short=384)
_CV2_224 = replace(_AT_224, resize_short=256, interpolation="bilinear", backend="cv2")
_CV2_384 = replace(_AT_384, interpolation="bilinear", backend="cv2")

_S = {"embed_dim": 384, "num_heads": 6}
_L = {"embed_dim": 1024, "depths": [6, 6, 6, 6], "num_heads": 16}
_H = {"embed_dim": 1280, "depths": [8, 8, 8, 8], "num_heads": 16}
#: PaddleClas's model of this name: an early one of timm's, wider than it is deep. Its products of queries and keys are
#: scaled by the whole width.
_PADDLECLAS_SMALL = {
    "depths": [2, 2, 2, 2],
    "num_heads": 8,
    "mlp_ratio": 3.0,
    "qkv_bias": False,
    "qk_scale": 768**-0.5,
    "epsilon": 1e-5,
    "init": "trunc_normal",
}
_LIGHT, _MEDIUM = "aug_light1-wd_0.03-do_0.0-sd_0.0", "aug_medium1-wd_0.1-do_0.0-sd_0.0"
_MEDIUM_DROPPING = "aug_medium1-wd_0.1-do_0.1-sd_0.1"


def _paddleclas(name: str) -> Weights:
    return paddleclas_weights(name, licence=_PADDLECLAS_LICENCE)


def _augreg(model: str, pretraining: str, rate: str, size: int) -> Weights:
    name = f"{model}-i21k-300ep-lr_0.001-{pretraining}--imagenet2012-steps_20k-lr_{rate}-res_{size}.npz"
    return Weights(f"{_AUGREG}{name}", "jax", _LICENCE)


def _timm(name: str, sha256: str) -> Weights:
    return Weights(f"{_TIMM}{name}-{sha256}.pth", "timm", _LICENCE, sha256=sha256)


def _original(model: str, width: int) -> Weights:
    """Return the entry of the paper's pre-training on ImageNet-21k, whose networks have a layer before the classifier.

    It is for fine-tuning: it has 21,843 classes, and timm notes that their classifier is all zeros.
    """
    return Weights(f"{_IMAGENET21K}{model}.npz", "jax", _LICENCE, arguments={"representation_size": width})


def _paddleclas_figures(top1: float, top5: float) -> Accuracy:
    return Accuracy(top1, "PaddleClas, docs/zh_CN/models/ImageNet1k/ViT.md", top5)


def _augreg_figures(top1: float, top5: float) -> Accuracy:
    source = "weights of the AugReg paper (arXiv 2106.10270) evaluated by timm, results/results-imagenet.csv"
    return Accuracy(top1, source, top5)


FAMILY = Family(
    name="ViT",
    sources=SOURCES,
    networks=(VisionTransformer,),
    paper="An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale, arXiv 2010.11929",
    variants=(
        Variant(
            "ViT_small_patch16_224",
            arguments=_PADDLECLAS_SMALL,
            params=48_754_408,
            macs=9_888_884_736,
            preprocessing=_CV2_224,
            accuracy=_paddleclas_figures(77.69, 93.42),
            weights=(_paddleclas("ViT_small_patch16_224"),),
            notes="PaddleClas's model of this name; the ViT-S/16 of the literature is ViT_S_16_224",
        ),
        Variant(
            "ViT_base_patch16_224",
            params=86_567_656,
            macs=17_563_828_224,
            preprocessing=_CV2_224,
            accuracy=_paddleclas_figures(81.95, 96.17),
            weights=(
                _paddleclas("ViT_base_patch16_224"),
                _timm("jx_vit_base_p16_224", "80ecf9dd"),
                _augreg("B_16", _MEDIUM, "0.01", 224),
            ),
        ),
        Variant(
            "ViT_base_patch16_384",
            arguments={"img_size": 384},
            params=86_859_496,
            macs=55_484_350_464,
            preprocessing=_CV2_384,
            accuracy=_paddleclas_figures(84.14, 97.17),
            weights=(
                _paddleclas("ViT_base_patch16_384"),
                _timm("jx_vit_base_p16_384", "83fb41ba"),
                _augreg("B_16", _MEDIUM, "0.01", 384),
            ),
        ),
        Variant(
            "ViT_base_patch32_384",
            arguments={"img_size": 384, "patch_size": 32},
            params=88_297_192,
            macs=13_043_564_544,
            preprocessing=_CV2_384,
            accuracy=_paddleclas_figures(81.76, 96.13),
            weights=(
                _paddleclas("ViT_base_patch32_384"),
                _augreg("B_32", "aug_light1-wd_0.1-do_0.0-sd_0.0", "0.03", 384),
            ),
        ),
        Variant(
            "ViT_large_patch16_224",
            arguments=_L,
            params=304_326_632,
            macs=61_554_712_576,
            preprocessing=_CV2_224,
            accuracy=_paddleclas_figures(83.23, 96.50),
            weights=(_paddleclas("ViT_large_patch16_224"), _augreg("L_16", _MEDIUM_DROPPING, "0.01", 224)),
        ),
        Variant(
            "ViT_large_patch16_384",
            arguments={"img_size": 384, **_L},
            params=304_715_752,
            macs=191_066_300_416,
            preprocessing=_CV2_384,
            accuracy=_paddleclas_figures(85.13, 97.36),
            weights=(_paddleclas("ViT_large_patch16_384"), _augreg("L_16", _MEDIUM_DROPPING, "0.01", 384)),
        ),
        Variant(
            "ViT_large_patch32_384",
            arguments={"img_size": 384, **_L, "patch_size": 32},
            params=306_632_680,
            macs=45_275_963_392,
            preprocessing=_CV2_384,
            accuracy=_paddleclas_figures(81.53, 96.08),
            weights=(_paddleclas("ViT_large_patch32_384"), _timm("jx_vit_large_p32_384", "9b920ba8")),
        ),
        Variant(
            "ViT_S_16_224",
            arguments=_S,
            params=22_050_664,
            macs=4_598_882_304,
            preprocessing=_AT_224,
            accuracy=_augreg_figures(81.402, 96.15),
            weights=(_augreg("S_16", _LIGHT, "0.03", 224),),
            notes="ViT-S/16 of the official code; PaddleClas's ViT_small_patch16_224 is a different model",
        ),
        Variant(
            "ViT_S_16_384",
            arguments={"img_size": 384, **_S},
            params=22_196_584,
            macs=15_490_351_104,
            preprocessing=_AT_384,
            accuracy=_augreg_figures(83.814, 97.106),
            weights=(_augreg("S_16", _LIGHT, "0.03", 384),),
        ),
        Variant(
            "ViT_S_32_224",
            arguments={**_S, "patch_size": 32},
            params=22_878_952,
            macs=1_142_909_952,
            preprocessing=_AT_224,
            accuracy=_augreg_figures(76.01, 93.266),
            weights=(_augreg("S_32", _LIGHT, "0.03", 224),),
        ),
        Variant(
            "ViT_S_32_384",
            arguments={"img_size": 384, **_S, "patch_size": 32},
            params=22_915_432,
            macs=3_442_900_992,
            preprocessing=_AT_384,
            accuracy=_augreg_figures(80.476, 95.594),
            weights=(_augreg("S_32", _LIGHT, "0.03", 384),),
        ),
        Variant(
            "ViT_base_patch32_224",
            arguments={"patch_size": 32},
            params=88_224_232,
            macs=4_409_186_304,
            preprocessing=_AT_224,
            accuracy=_augreg_figures(80.732, 95.574),
            weights=(_augreg("B_32", "aug_medium1-wd_0.03-do_0.0-sd_0.0", "0.03", 224),),
        ),
        Variant(
            "ViT_large_patch32_224",
            arguments={**_L, "patch_size": 32},
            params=306_535_400,
            macs=15_377_539_072,
            preprocessing=_AT_224,
            weights=(_original("ViT-L_32", 1024),),
            notes="published for 21,843 classes only",
        ),
        Variant(
            "ViT_huge_patch14_224",
            arguments={**_H, "patch_size": 14},
            params=632_045_800,
            macs=167_295_109_120,
            preprocessing=_AT_224,
            weights=(_original("ViT-H_14", 1280),),
            notes="published for 21,843 classes only",
        ),
        Variant(
            "ViT_huge_patch14_384",
            arguments={"img_size": 384, **_H, "patch_size": 14, "drop_remainder": True},
            params=632_651_240,
            macs=503_481_410_560,
            preprocessing=_AT_384,
            notes="27 x 27 patches: 6 pixels of each side are left over, which the official code ignores too",
        ),
    ),
)
