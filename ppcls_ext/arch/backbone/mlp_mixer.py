"""MLP-Mixer: perceptrons across the tokens and across the channels, in turn.

Paper: "MLP-Mixer: An all-MLP Architecture for Vision", Tolstikhin et al., arXiv 2105.01601.
Official code and weights (JAX): https://github.com/google-research/vision_transformer (Apache-2.0).

Written from the paper's equation 1 and checked against timm: with the same weights, every variant gives the same
features and logits. The paper's model takes images of one size; here the weights that belong to tokens are resampled
for any other. A Mixer has no stages; its blocks are divided into four equal groups, after each of which features are
taken. Differences are listed in ``docs/en/models/ImageNet1k/MLPMixer.md``.
"""

from __future__ import annotations

import math
from typing import Sequence, Union

import paddle
from paddle import nn
from paddle.nn import functional as F
from paddle.nn import initializer as I

from ppcls_ext.arch.backbone.base import Backbone
from ppcls_ext.arch.layers import (
    ACTIVATIONS,
    DropPath,
    GlobalAveragePool,
    LayerNorm,
    Mlp,
    PatchEmbed,
    Stage,
    drop_path_rates,
    init_linear,
    lecun_normal,
    shape_of,
)
from ppcls_ext.registry import Accuracy, Family, Preprocessing, Variant, Weights
from ppcls_ext.utils.key_rules import PADDLE, Rule, Source, Transform, unchanged
from ppcls_ext.utils.validate import (
    MAX_DEPTH,
    check_choice,
    check_epsilon,
    check_integer,
    check_integers,
    check_rate,
    check_size,
)

INITS = ("official", "xavier")


def resample_grid(table: paddle.Tensor, grid: Sequence[int], size) -> paddle.Tensor:
    """Return values ``[D, H W]`` of the tokens of ``grid`` for a grid of ``size``, by bicubic interpolation."""
    table = table.reshape([1, -1, *grid])  # (D, H * W) -> (1, D, H, W)
    return F.interpolate(table, size=size, mode="bicubic").flatten(2).squeeze(0)


class FromTokens(nn.Linear):
    """``[..., H W] -> [..., D]``; for a different grid the weight is resampled, which keeps the scale of the sum."""

    def __init__(self, grid: Sequence[int], dim: int):
        super().__init__(math.prod(grid), dim)
        self.grid = list(grid)

    def forward(self, x: paddle.Tensor, size) -> paddle.Tensor:
        """Take ``[..., H W]`` and (H, W)."""
        if paddle.in_dynamic_mode() and size == self.grid:
            return F.linear(x, self.weight, self.bias)
        weight = resample_grid(self.weight.transpose([1, 0]), self.grid, size).transpose([1, 0])
        return F.linear(x, weight * (math.prod(self.grid) / (size[0] * size[1])), self.bias)

    def multiply_adds(self, x: paddle.Tensor, output: paddle.Tensor) -> int:
        """Return the multiply-adds of the product; resampling is not counted."""
        return math.prod(output.shape) * x.shape[-1]


class ToTokens(nn.Linear):
    """``[..., D] -> [..., H W]``; for a different grid weight and bias are resampled."""

    def __init__(self, dim: int, grid: Sequence[int]):
        super().__init__(dim, math.prod(grid))
        self.grid = list(grid)

    def forward(self, x: paddle.Tensor, size) -> paddle.Tensor:
        """Take ``[..., D]`` and (H, W)."""
        if paddle.in_dynamic_mode() and size == self.grid:
            return F.linear(x, self.weight, self.bias)
        bias = resample_grid(self.bias.unsqueeze(0), self.grid, size).squeeze(0)
        return F.linear(x, resample_grid(self.weight, self.grid, size), bias)

    def multiply_adds(self, x: paddle.Tensor, output: paddle.Tensor) -> int:
        """Return the multiply-adds of the product; resampling is not counted."""
        return math.prod(output.shape) * x.shape[-1]


class TokenMixing(nn.Layer):
    """Token-mixing MLP (paper, equation 1): the same perceptron over all tokens for every channel."""

    def __init__(self, grid: Sequence[int], hidden_dim: int, activation: str, drop_rate: float):
        super().__init__()
        self.fc1 = FromTokens(grid, hidden_dim)
        self.act = ACTIVATIONS[activation]()
        self.drop1 = nn.Dropout(drop_rate)
        self.fc2 = ToTokens(hidden_dim, grid)
        self.drop2 = nn.Dropout(drop_rate)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return ``[N, H, W, C]``."""
        shape = shape_of(x)
        x = x.flatten(1, 2).transpose([0, 2, 1])  # (N, H, W, C) -> (N, C, H * W)
        x = self.drop1(self.act(self.fc1(x, shape[1:3])))
        x = self.drop2(self.fc2(x, shape[1:3]))
        return x.transpose([0, 2, 1]).reshape(shape)  # (N, C, H * W) -> (N, H, W, C)


class MixerBlock(nn.Layer):
    """Pre-norm residual block: token mixing, then channel mixing."""

    def __init__(self, dim: int, mlp_tokens: nn.Layer, mlp_channels: nn.Layer, epsilon: float, drop_path_rate: float):
        super().__init__()
        self.norm1 = LayerNorm(dim, epsilon=epsilon)
        self.mlp_tokens = mlp_tokens
        self.drop_path1 = DropPath(drop_path_rate)
        self.norm2 = LayerNorm(dim, epsilon=epsilon)
        self.mlp_channels = mlp_channels
        self.drop_path2 = DropPath(drop_path_rate)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return ``[N, H, W, C]``."""
        x = x + self.drop_path1(self.mlp_tokens(self.norm1(x)))
        return x + self.drop_path2(self.mlp_channels(self.norm2(x)))


class MlpMixer(Backbone):
    """MLP-Mixer with every hyper-parameter open; the defaults are Mixer-B/16.

    Heights and widths that are multiples of ``patch_size`` all work; on a grid that is not the native one the weights
    of the token-mixing MLPs are resampled (bicubic), without rebuilding.

    Args:
        class_num: Number of classes; 0 returns pooled features.
        in_channels: Channels of the images.
        img_size: Size that the token-mixing weights are for, an int or [height, width].
        patch_size: Height and width of a patch.
        embed_dim: Token width C.
        depths: Blocks of each group that features are taken after; only their sum matters to the logits.
        tokens_mlp_dim: Hidden width D_S of the token-mixing MLPs.
        channels_mlp_dim: Hidden width D_C of the channel-mixing MLPs.
        activation: ``gelu`` (exact), ``gelu_tanh`` (as in the JAX original), ``relu`` or ``silu`` in the MLPs.
        epsilon: Of every LayerNorm.
        drop_rate: Dropout in the MLPs.
        drop_path_rate: Stochastic depth of the last block; the ramp is linear from 0 at the first.
        init: ``official`` (LeCun normal, as Flax does by default), or ``xavier``, as timm.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if one is out of range.
    """

    channels_last = True

    def __init__(
        self,
        class_num: int = 1000,
        in_channels: int = 3,
        img_size: Union[int, Sequence[int]] = 224,
        patch_size: int = 16,
        embed_dim: int = 768,
        depths: Sequence[int] = (3, 3, 3, 3),
        tokens_mlp_dim: int = 384,
        channels_mlp_dim: int = 3072,
        activation: str = "gelu",
        epsilon: float = 1e-6,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        init: str = "official",
    ):
        super().__init__()
        depths = check_integers("depths", depths, maximum=MAX_DEPTH)
        dim = check_integer("embed_dim", embed_dim)
        check_integer("tokens_mlp_dim", tokens_mlp_dim)
        check_integer("channels_mlp_dim", channels_mlp_dim)
        check_choice("activation", activation, list(ACTIVATIONS))
        check_epsilon("epsilon", epsilon)
        check_rate("drop_rate", drop_rate)
        rates = drop_path_rates(check_rate("drop_path_rate", drop_path_rate), depths)
        self._init = check_choice("init", init, INITS)

        self.in_channels = check_integer("in_channels", in_channels)
        self.num_features = dim
        self.stage_channels = [dim] * len(depths)
        self.stage_strides = [check_integer("patch_size", patch_size)] * len(depths)
        self.img_size = check_size("img_size", img_size)
        self.check_resolution(*self.img_size)

        grid = [side // patch_size for side in self.img_size]
        self.stem = PatchEmbed(self.in_channels, dim, patch_size)
        stages = []
        for stage_rates in rates:
            blocks = [
                MixerBlock(
                    dim,
                    TokenMixing(grid, tokens_mlp_dim, activation, drop_rate),
                    Mlp(dim, channels_mlp_dim, activation, drop_rate),
                    epsilon,
                    rate,
                )
                for rate in stage_rates
            ]
            stages.append(Stage(blocks))
        self.stages = nn.Sequential(*stages)
        self.norm = LayerNorm(dim, epsilon=epsilon)
        self.pool = GlobalAveragePool()
        self._init_weights()
        self.reset_head(class_num)

    def _init_weights(self) -> None:
        """Initialise as Flax does by default, or Linear layers as timm does."""
        for layer in self.sublayers():
            if isinstance(layer, nn.Linear) and self._init == "official":
                lecun_normal(layer)
            elif isinstance(layer, nn.Linear):
                init_linear(layer, I.XavierUniform())
                I.Normal(std=1e-6)(layer.bias)
        lecun_normal(self.stem.proj)

    def make_head(self, class_num: int) -> nn.Layer:
        """Return a classifier of zeros."""
        head = nn.Linear(self.num_features, class_num)
        init_linear(head, I.Constant(0.0))
        return head


# ---- published checkpoints -------------------------------------------------------------------------------------

_BLOCK, _THEIRS = "stages.{s}.blocks.{i}", "MixerBlock_{block}"
#: A convolution of JAX is [height, width, in, out].
_KERNEL = Transform(lambda arrays: arrays[0].transpose(3, 2, 0, 1), lambda array: [array.transpose(2, 3, 1, 0)])

_TIMM_RULES = (Rule("blocks.{block}.{rest}", f"{_BLOCK}.{{rest}}"), *unchanged("stem", "norm", "head"))
_SOURCES = (
    Source("timm", "timm, PyTorch", _TIMM_RULES),
    Source(
        "jax",
        "google-research/vision_transformer, JAX",
        (
            Rule("stem/kernel", "stem.proj.weight", _KERNEL),
            Rule("stem/bias", "stem.proj.bias"),
            *(
                Rule(f"{theirs}/{kind}", f"{ours}.{'bias' if kind == 'bias' else 'weight'}")
                for theirs, ours, kinds in (
                    (f"{_THEIRS}/LayerNorm_0", f"{_BLOCK}.norm1", ("scale", "bias")),
                    (f"{_THEIRS}/token_mixing/Dense_0", f"{_BLOCK}.mlp_tokens.fc1", ("kernel", "bias")),
                    (f"{_THEIRS}/token_mixing/Dense_1", f"{_BLOCK}.mlp_tokens.fc2", ("kernel", "bias")),
                    (f"{_THEIRS}/LayerNorm_1", f"{_BLOCK}.norm2", ("scale", "bias")),
                    (f"{_THEIRS}/channel_mixing/Dense_0", f"{_BLOCK}.mlp_channels.fc1", ("kernel", "bias")),
                    (f"{_THEIRS}/channel_mixing/Dense_1", f"{_BLOCK}.mlp_channels.fc2", ("kernel", "bias")),
                    ("pre_head_layer_norm", "norm", ("scale", "bias")),
                    ("head", "head", ("kernel", "bias")),
                )
                for kind in kinds
            ),
        ),
        PADDLE,  # linear layers are [in, out] in JAX, as in Paddle
    ),
)

# ---- variants --------------------------------------------------------------------------------------------------

_LICENCE = "Apache-2.0 (of the official repository)"
_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/"
_JAX = "https://storage.googleapis.com/mixer_models/"
_HALVES = Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)

_S = {"embed_dim": 512, "depths": [2, 2, 2, 2], "tokens_mlp_dim": 256, "channels_mlp_dim": 2048}
_L = {"embed_dim": 1024, "depths": [6, 6, 6, 6], "tokens_mlp_dim": 512, "channels_mlp_dim": 4096}


def _mmpretrain(top1: float, top5: float) -> Accuracy:
    return Accuracy(top1, "official weights evaluated by MMPretrain, configs/mlp_mixer/metafile.yml", top5)


def _published(model: str, file: str) -> tuple:
    sha256 = file.rpartition("-")[2]
    return (
        Weights(f"{_TIMM}{file}.pth", "timm", _LICENCE, sha256=sha256),
        Weights(f"{_JAX}imagenet1k/{model}.npz", "jax", _LICENCE),
    )


FAMILY = Family(
    name="MLPMixer",
    networks=(MlpMixer,),
    paper="MLP-Mixer: An all-MLP Architecture for Vision, arXiv 2105.01601",
    variants=(
        Variant(
            "Mixer_S_32_224",
            arguments={**_S, "patch_size": 32},
            params=19_104_624,
            macs=1_002_426_368,
            preprocessing=_HALVES,
            notes="no weights published",
        ),
        Variant(
            "Mixer_S_16_224",
            arguments=_S,
            params=18_528_264,
            macs=3_776_958_464,
            preprocessing=_HALVES,
            notes="no weights published",
        ),
        Variant(
            "Mixer_B_32_224",
            arguments={"patch_size": 32},
            params=60_293_428,
            macs=3_237_722_112,
            preprocessing=_HALVES,
            notes="no weights published",
        ),
        Variant(
            "Mixer_B_16_224",
            params=59_880_472,
            macs=12_601_767_936,
            preprocessing=_HALVES,
            accuracy=_mmpretrain(76.68, 92.25),
            weights=_published("Mixer-B_16", "jx_mixer_b16_224-76587d61"),
        ),
        Variant(
            "Mixer_L_32_224",
            arguments={**_L, "patch_size": 32},
            params=206_939_264,
            macs=11_253_293_056,
            preprocessing=_HALVES,
            notes="no weights published",
        ),
        Variant(
            "Mixer_L_16_224",
            arguments=_L,
            params=208_196_168,
            macs=44_547_678_208,
            preprocessing=_HALVES,
            accuracy=_mmpretrain(72.34, 88.02),
            weights=_published("Mixer-L_16", "jx_mixer_l16_224-92f9adc4"),
        ),
    ),
    sources=_SOURCES,
)
