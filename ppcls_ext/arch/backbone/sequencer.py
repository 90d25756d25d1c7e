"""Sequencer: image classification by LSTMs that run along the rows and columns of the token grid.

Paper: "Sequencer: Deep LSTM for Image Classification", Tatsunami and Taki, arXiv 2205.01972.
Official code and weights: https://github.com/okojoalg/sequencer (Apache-2.0).

Written from the paper and checked against the official code: with the same weights, every variant gives the same
features and logits. The tree of sub-layers follows timm (a stage *begins* with its downsampling), so that a stage's
output is what a detector would take. ``Sequence_2d`` is the model of a Chinese re-implementation, mixing true rows and
columns. Differences are listed in ``docs/en/models/ImageNet1k/Sequencer.md``.
"""

from __future__ import annotations

import math
from typing import Callable, Sequence, Union

import paddle
from paddle import nn
from paddle.nn import functional as F
from paddle.nn import initializer as I

from ppcls_ext.arch.backbone.base import Backbone
from ppcls_ext.arch.layers import (
    ACTIVATIONS,
    Downsample,
    DropPath,
    GlobalAveragePool,
    LayerNorm,
    Mlp,
    PatchEmbed,
    RecomputeSequential,
    drop_path_rates,
    run_rnn,
    truncated_normal,
)
from ppcls_ext.registry import Accuracy, Family, Preprocessing, Variant, Weights
from ppcls_ext.utils.validate import (
    check_choice,
    check_flag,
    check_integer,
    check_integers,
    check_positive,
    check_positives,
    check_rate,
    check_size,
)

RNNS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.SimpleRNN}
UNIONS = ("cat", "add", "vertical", "horizontal")
INITS = ("official", "trunc_normal")
FLAGS = ("bidirectional", "with_fc", "use_pos_embed", "stem_norm", "stage_norm", "nlhb")


def _length(x: paddle.Tensor, axis: int):
    """Return the size of an axis: an int when running, a tensor when a graph with unknown sizes is traced."""
    return x.shape[axis] if paddle.in_dynamic_mode() else paddle.shape(x)[axis]


class RNN2D(nn.Layer):
    """The token mixer BiLSTM2D of the paper: one RNN along the columns, one along the rows, then a Linear.

    Both see C features per token and give ``hidden_size`` per direction. ``union`` says how the two results meet:
    concatenated, added, or one of them alone.

    Raises:
        ValueError: if there is no Linear and the result does not have ``dim`` channels.
    """

    def __init__(
        self,
        dim: int,
        hidden_size: int,
        rnn_type: str = "lstm",
        num_layers: int = 1,
        bidirectional: bool = True,
        union: str = "cat",
        with_fc: bool = True,
    ):
        super().__init__()
        direction = "bidirect" if bidirectional else "forward"
        # time_major is the layout that Paddle's kernels work in; with it, each sequence is permuted once, not twice.
        options = {"num_layers": num_layers, "direction": direction, "time_major": True}
        self.union = union
        if union != "horizontal":
            self.rnn_v = RNNS[rnn_type](dim, hidden_size, **options)
        if union != "vertical":
            self.rnn_h = RNNS[rnn_type](dim, hidden_size, **options)
        width = hidden_size * (2 if bidirectional else 1) * (2 if union == "cat" else 1)
        if not with_fc and width != dim:
            raise ValueError(
                f"with_fc=False needs a mixer as wide as the tokens: union={union!r} with hidden size {hidden_size} "
                f"gives {width} channels, the tokens have {dim}"
            )
        self.fc = nn.Linear(width, dim) if with_fc else nn.Identity()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return ``[N, H, W, C]``."""
        if self.union == "vertical":
            return self.fc(self._columns(x))
        if self.union == "horizontal":
            return self.fc(self._rows(x))
        v, h = self._columns(x), self._rows(x)
        return self.fc(v + h if self.union == "add" else paddle.concat([v, h], axis=-1))

    def _columns(self, x: paddle.Tensor) -> paddle.Tensor:
        batch = _length(x, 0)
        v = x.transpose([1, 0, 2, 3]).flatten(1, 2)  # (N, H, W, C) -> (H, N * W, C): length H, one sequence per column
        v = run_rnn(self.rnn_v, v, self.training)
        v = v.reshape([0, batch, -1, v.shape[-1]])  # (H, N * W, D) -> (H, N, W, D)
        return v.transpose([1, 0, 2, 3])

    def _rows(self, x: paddle.Tensor) -> paddle.Tensor:
        batch = _length(x, 0)
        h = x.transpose([2, 0, 1, 3]).flatten(1, 2)  # (N, H, W, C) -> (W, N * H, C): length W, one sequence per row
        h = run_rnn(self.rnn_h, h, self.training)
        h = h.reshape([0, batch, -1, h.shape[-1]])  # (W, N * H, D) -> (W, N, H, D)
        return h.transpose([1, 2, 0, 3])


class RNN1D(nn.Layer):
    """The mixer of VSequencer: one RNN over all tokens in row-major order.

    Raises:
        ValueError: if its result does not have ``dim`` channels.
    """

    def __init__(
        self, dim: int, hidden_size: int, rnn_type: str = "lstm", num_layers: int = 1, bidirectional: bool = True
    ):
        super().__init__()
        width = hidden_size * (2 if bidirectional else 1)
        if width != dim:
            raise ValueError(
                f"VSequencer needs RNNs as wide as the tokens: hidden size {hidden_size} gives {width} channels, "
                f"the tokens have {dim}"
            )
        direction = "bidirect" if bidirectional else "forward"
        self.rnn = RNNS[rnn_type](dim, hidden_size, num_layers=num_layers, direction=direction, time_major=True)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return ``[N, H, W, C]``."""
        height = _length(x, 1)
        tokens = x.flatten(1, 2).transpose([1, 0, 2])  # (N, H, W, C) -> (H * W, N, C)
        tokens = run_rnn(self.rnn, tokens, self.training).transpose([1, 0, 2])
        return tokens.reshape([0, height, -1, tokens.shape[-1]])  # (N, H * W, C) -> (N, H, W, C)


class SequencerBlock(nn.Layer):
    """Pre-norm residual block: token mixer, then channel MLP."""

    def __init__(self, dim: int, mixer: nn.Layer, mlp: nn.Layer, epsilon: float, drop_path_rate: float):
        super().__init__()
        self.norm1 = LayerNorm(dim, epsilon=epsilon)
        self.rnn_tokens = mixer
        self.drop_path1 = DropPath(drop_path_rate)
        self.norm2 = LayerNorm(dim, epsilon=epsilon)
        self.mlp_channels = mlp
        self.drop_path2 = DropPath(drop_path_rate)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return ``[N, H, W, C]``."""
        x = x + self.drop_path1(self.rnn_tokens(self.norm1(x)))
        return x + self.drop_path2(self.mlp_channels(self.norm2(x)))


class SequencerStage(nn.Layer):
    """Downsampling (none in the first stage), blocks, and a norm if the model has one after each stage."""

    def __init__(self, downsample: nn.Layer, blocks: Sequence[nn.Layer], norm: nn.Layer):
        super().__init__()
        self.downsample = downsample
        self.blocks = RecomputeSequential(*blocks)
        self.norm = norm

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take the previous stage's ``[N, H, W, C]``, return this one's."""
        return self.norm(self.blocks(self.downsample(x)))


class PositionEmbedding(nn.Layer):
    """A learned table added to the tokens; at another grid size it is resampled (bicubic) on the fly."""

    def __init__(self, height: int, width: int, dim: int):
        super().__init__()
        # The official truncation lies at -2 and 2, a hundred deviations off: a plain normal distribution.
        self.weight = self.create_parameter([1, height, width, dim], default_initializer=I.Normal(std=0.02))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return ``[N, H, W, C]``."""
        if paddle.in_dynamic_mode() and x.shape[1:3] == self.weight.shape[1:3]:
            return x + self.weight
        size = x.shape[1:3] if paddle.in_dynamic_mode() else paddle.shape(x)[1:3]
        table = self.weight.transpose([0, 3, 1, 2])  # (1, H, W, C) -> (1, C, H, W)
        return x + F.interpolate(table, size=size, mode="bicubic").transpose([0, 2, 3, 1])


class _SequencerBase(Backbone):
    """What Sequencer2D and VSequencer have in common: everything but the token mixer."""

    channels_last = True
    free_arguments = (*Backbone.free_arguments, "nlhb")

    def _build(self, mixer: Callable[[int, int], nn.Layer], pos_embed: bool | None, stage_norm: bool) -> None:
        """Check the arguments that both have and build the network.

        Args:
            mixer: Makes a token mixer from (dim, hidden size).
            pos_embed: Whether a position embedding follows the stem; None leaves no place for one.
            stage_norm: Whether a LayerNorm follows each stage but the last, whose norm is the model's.
        """
        given = self._arguments
        depths = check_integers("depths", given["depths"])
        count = len(depths)
        patch_sizes = check_integers("patch_sizes", given["patch_sizes"], count)
        dims = check_integers("embed_dims", given["embed_dims"], count)
        hidden_sizes = check_integers("hidden_sizes", given["hidden_sizes"], count)
        mlp_ratios = check_positives("mlp_ratios", given["mlp_ratios"], count)
        check_choice("rnn_type", given["rnn_type"], list(RNNS))
        check_integer("num_rnn_layers", given["num_rnn_layers"])
        check_choice("activation", given["activation"], list(ACTIVATIONS))
        check_choice("init", given["init"], INITS)
        drop_rate = check_rate("drop_rate", given["drop_rate"])
        rates = drop_path_rates(check_rate("drop_path_rate", given["drop_path_rate"]), depths)
        epsilon, activation = check_positive("epsilon", given["epsilon"]), given["activation"]
        for name in FLAGS:
            check_flag(name, given.get(name, False))

        self.in_channels = check_integer("in_channels", given["in_channels"])
        self.num_features = dims[-1]
        self.stage_channels = dims
        self.stage_strides = [math.prod(patch_sizes[: i + 1]) for i in range(count)]
        self.img_size = check_size("img_size", given["img_size"])
        self.check_resolution(*self.img_size)
        self._init = given["init"]
        self._head_bias_from_class_num = given["nlhb"]

        self.stem = PatchEmbed(self.in_channels, dims[0], patch_sizes[0], epsilon if given["stem_norm"] else None)
        if pos_embed is not None:
            grid = [side // patch_sizes[0] for side in self.img_size]
            self.pos_embed = PositionEmbedding(*grid, dims[0]) if pos_embed else nn.Identity()
            self.position_tables = ("pos_embed.weight",) if pos_embed else ()
        stages = []
        for i, dim in enumerate(dims):
            blocks = [
                SequencerBlock(
                    dim,
                    mixer(dim, hidden_sizes[i]),
                    Mlp(dim, int(mlp_ratios[i] * dim), activation, drop_rate),
                    epsilon,
                    rate,
                )
                for rate in rates[i]
            ]
            downsample = Downsample(dims[i - 1], dim, patch_sizes[i]) if i else nn.Identity()
            norm = LayerNorm(dim, epsilon=epsilon) if stage_norm and i < count - 1 else nn.Identity()
            stages.append(SequencerStage(downsample, blocks, norm))
        self.stages = nn.Sequential(*stages)
        self.norm = LayerNorm(dims[-1], epsilon=epsilon)
        self.pool = GlobalAveragePool()
        self._init_weights()
        self.reset_head(given["class_num"])

    def _init_weights(self) -> None:
        """Initialise as the official code does, or Linear layers by a truncated normal of deviation 0.02.

        Paddle's own defaults serve for LayerNorm (1 and 0) and for the RNNs (uniform within 1 / sqrt(hidden size)).
        """
        if self._init == "trunc_normal":
            for layer in self.sublayers():
                if isinstance(layer, nn.Linear):
                    truncated_normal(0.02)(layer.weight)
                    I.Constant(0.0)(layer.bias)
            return
        for name, layer in self.named_sublayers():
            if isinstance(layer, nn.Linear):
                I.XavierUniform()(layer.weight)
                (I.Normal(std=1e-6) if "mlp" in name else I.Constant(0.0))(layer.bias)
            elif isinstance(layer, nn.Conv2D):
                # LeCun normal: cut off at two deviations, which shrinks the deviation by the factor 0.8796….
                fan_in = math.prod(layer.weight.shape[1:])
                truncated_normal(1 / math.sqrt(fan_in) / 0.87962566103423978)(layer.weight)
                I.Constant(0.0)(layer.bias)

    def make_head(self, class_num: int) -> nn.Layer:
        """Return a classifier of zeros (bias -log(classes) with ``nlhb``), or of truncated normals."""
        head = nn.Linear(self.num_features, class_num)
        (truncated_normal(0.02) if self._init == "trunc_normal" else I.Constant(0.0))(head.weight)
        I.Constant(-math.log(class_num) if self._head_bias_from_class_num else 0.0)(head.bias)
        return head


class Sequencer2D(_SequencerBase):
    """Sequencer2D with every hyper-parameter open; the defaults are Sequencer2D-S.

    It holds nothing that depends on the image size: heights and widths that are multiples of the product of
    ``patch_sizes`` all work.

    Args:
        class_num: Number of classes; 0 returns pooled features.
        in_channels: Channels of the images.
        img_size: Size that the model is meant for, an int or [height, width]; other sizes work as well.
        depths: Blocks of each stage.
        patch_sizes: Stride of the stem, then of each later stage's downsampling.
        embed_dims: Token width C of each stage.
        hidden_sizes: RNN width D of each stage, per direction.
        mlp_ratios: Hidden width of the MLP over C, for each stage.
        rnn_type: ``lstm``, ``gru`` or ``rnn`` (tanh).
        num_rnn_layers: Stacked RNN layers.
        bidirectional: Whether each RNN runs both ways.
        union: How columns and rows meet: ``cat``, ``add``, or ``vertical`` or ``horizontal`` alone.
        with_fc: Whether a Linear fuses the mixer's channels.
        activation: ``gelu``, ``relu`` or ``silu`` in the MLP.
        epsilon: Of every LayerNorm.
        drop_rate: Dropout in the MLPs.
        drop_path_rate: Stochastic depth of the last block; the ramp is linear from 0 at the first.
        stem_norm: Whether a LayerNorm follows the stem.
        stage_norm: Whether a LayerNorm follows each stage, not only the last.
        nlhb: Whether a fresh head's bias is -log(class_num) instead of 0.
        init: ``official``, or ``trunc_normal`` for the Linear layers and the head.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if one is out of range, or ``with_fc=False`` and the mixer is not C wide.
    """

    def __init__(
        self,
        class_num: int = 1000,
        in_channels: int = 3,
        img_size: Union[int, Sequence[int]] = 224,
        depths: Sequence[int] = (4, 3, 8, 3),
        patch_sizes: Sequence[int] = (7, 2, 1, 1),
        embed_dims: Sequence[int] = (192, 384, 384, 384),
        hidden_sizes: Sequence[int] = (48, 96, 96, 96),
        mlp_ratios: Sequence[float] = (3.0, 3.0, 3.0, 3.0),
        rnn_type: str = "lstm",
        num_rnn_layers: int = 1,
        bidirectional: bool = True,
        union: str = "cat",
        with_fc: bool = True,
        activation: str = "gelu",
        epsilon: float = 1e-6,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        stem_norm: bool = False,
        stage_norm: bool = False,
        nlhb: bool = False,
        init: str = "official",
    ):
        super().__init__(locals())
        check_choice("union", union, UNIONS)

        def mixer(dim: int, hidden_size: int) -> RNN2D:
            return RNN2D(dim, hidden_size, rnn_type, num_rnn_layers, bidirectional, union, with_fc)

        self._build(mixer, pos_embed=None, stage_norm=stage_norm)


class VSequencer(_SequencerBase):
    """VSequencer ("vanilla" in the official code): one RNN over the flattened tokens; the defaults are VSequencer-S.

    Args:
        class_num: Number of classes; 0 returns pooled features.
        in_channels: Channels of the images.
        img_size: Size that the model is meant for, an int or [height, width]: that of the position embedding.
        depths: Blocks of each stage.
        patch_sizes: Stride of the stem, then of each later stage's downsampling.
        embed_dims: Token width C of each stage.
        hidden_sizes: RNN width D of each stage, per direction; 2D (D if not bidirectional) must be C.
        mlp_ratios: Hidden width of the MLP over C, for each stage.
        rnn_type: ``lstm``, ``gru`` or ``rnn`` (tanh).
        num_rnn_layers: Stacked RNN layers.
        bidirectional: Whether the RNN runs both ways.
        use_pos_embed: Add a learned position embedding after the stem. The official code takes its native size only;
            here it is resampled for others.
        activation: ``gelu``, ``relu`` or ``silu`` in the MLP.
        epsilon: Of every LayerNorm.
        drop_rate: Dropout in the MLPs.
        drop_path_rate: Stochastic depth of the last block; the ramp is linear from 0 at the first.
        stem_norm: Whether a LayerNorm follows the stem.
        nlhb: Whether a fresh head's bias is -log(class_num) instead of 0.
        init: ``official``, or ``trunc_normal`` for the Linear layers and the head.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if one is out of range.
    """

    def __init__(
        self,
        class_num: int = 1000,
        in_channels: int = 3,
        img_size: Union[int, Sequence[int]] = 224,
        depths: Sequence[int] = (4, 3, 8, 3),
        patch_sizes: Sequence[int] = (14, 1, 1, 1),
        embed_dims: Sequence[int] = (384, 384, 384, 384),
        hidden_sizes: Sequence[int] = (192, 192, 192, 192),
        mlp_ratios: Sequence[float] = (3.0, 3.0, 3.0, 3.0),
        rnn_type: str = "lstm",
        num_rnn_layers: int = 1,
        bidirectional: bool = True,
        use_pos_embed: bool = False,
        activation: str = "gelu",
        epsilon: float = 1e-6,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        stem_norm: bool = False,
        nlhb: bool = False,
        init: str = "official",
    ):
        super().__init__(locals())

        def mixer(dim: int, hidden_size: int) -> RNN1D:
            return RNN1D(dim, hidden_size, rnn_type, num_rnn_layers, bidirectional)

        self._build(mixer, pos_embed=use_pos_embed, stage_norm=False)

    def forward_stem(self, x: paddle.Tensor) -> paddle.Tensor:
        """Check the images and return tokens ``[N, H', W', C]``, with the position embedding if there is one."""
        self.check_input(x)
        return self.pos_embed(self.stem(x))


# ---- variants --------------------------------------------------------------------------------------------------

_LICENCE = "Apache-2.0 (of the official repository; its release states no other for the weights)"
_RELEASE = "https://github.com/okojoalg/sequencer/releases/download/weights/"
_AT_392 = Preprocessing(input_size=(3, 392, 392), resize_short=392)
_ABLATION = "ablation of the paper; no weights published"

_M = {"depths": [4, 3, 14, 3]}
_L = {"depths": [8, 8, 16, 4]}
_WIDE_RNN = {"hidden_sizes": [96, 192, 192, 192]}


def _timm(top1: float, top5: float) -> Accuracy:
    return Accuracy(top1, "authors' weights evaluated by timm, results/results-imagenet.csv", top5)


def _released(letter: str) -> tuple:
    return (Weights(f"{_RELEASE}sequencer2d_{letter}.pth", "sequencer", _LICENCE),)


FAMILY = Family(
    name="Sequencer",
    networks=(Sequencer2D, VSequencer),
    paper="Sequencer: Deep LSTM for Image Classification, arXiv 2205.01972",
    variants=(
        Variant(
            "Sequencer2D_S",
            params=27_651_688,
            macs=8_334_007_296,
            accuracy=_timm(82.336, 96.032),
            weights=_released("s"),
        ),
        Variant(
            "Sequencer2D_M",
            arguments=_M,
            params=38_307_688,
            macs=11_051_916_288,
            accuracy=_timm(82.836, 96.276),
            weights=_released("m"),
        ),
        Variant(
            "Sequencer2D_L",
            arguments=_L,
            params=54_298_216,
            macs=16_487_734_272,
            accuracy=_timm(83.406, 96.504),
            weights=_released("l"),
        ),
        Variant(
            "Sequencer2D_S_392",
            arguments={"img_size": 392},
            params=27_651_688,
            macs=25_522_105_344,
            preprocessing=_AT_392,
        ),
        Variant(
            "Sequencer2D_M_392",
            arguments={"img_size": 392, **_M},
            params=38_307_688,
            macs=33_845_701_632,
            preprocessing=_AT_392,
        ),
        Variant(
            "Sequencer2D_L_392",
            arguments={"img_size": 392, **_L},
            params=54_298_216,
            macs=50_492_894_208,
            preprocessing=_AT_392,
            accuracy=Accuracy(84.6, "abstract of arXiv 2205.01972"),
            notes="fine-tuned from 224; the weights at 392 are not published",
        ),
        Variant(
            "Sequencer2D_L_d4_3x",
            arguments={**_L, "embed_dims": [256, 512, 512, 512], "hidden_sizes": [64, 128, 128, 128]},
            params=96_252_392,
            macs=29_298_511_872,
            notes="in the official code only; no weights published",
        ),
        Variant(
            "Sequencer2D_S_unidirectional",
            arguments={"bidirectional": False},
            params=20_991_592,
            macs=6_295_575_552,
            notes=_ABLATION,
        ),
        Variant(
            "Sequencer2D_S_add", arguments={"union": "add"}, params=26_545_768, macs=7_994_268_672, notes=_ABLATION
        ),
        Variant("Sequencer2D_S_h2x", arguments=_WIDE_RNN, params=45_395_560, macs=13_769_825_280, notes=_ABLATION),
        Variant(
            "Sequencer2D_S_without_fc",
            arguments={"with_fc": False},
            params=25_433_704,
            macs=7_654_530_048,
            notes=_ABLATION,
        ),
        Variant(
            "Sequencer2D_S_vertical",
            arguments={**_WIDE_RNN, "union": "vertical", "with_fc": False},
            params=27_645_544,
            macs=8_334_007_296,
            notes=_ABLATION,
        ),
        Variant(
            "Sequencer2D_S_horizontal",
            arguments={**_WIDE_RNN, "union": "horizontal", "with_fc": False},
            params=27_645_544,
            macs=8_334_007_296,
            notes=_ABLATION,
        ),
        Variant(
            "GRUSequencer2D_S", arguments={"rnn_type": "gru"}, params=24_874_600, macs=7_484_660_736, notes=_ABLATION
        ),
        Variant(
            "RNNSequencer2D_S", arguments={"rnn_type": "rnn"}, params=19_320_424, macs=5_785_967_616, notes=_ABLATION
        ),
        Variant("VSequencer_S", network="VSequencer", params=33_016_552, macs=8_325_159_936, notes=_ABLATION),
        Variant(
            "VSequencer_S_H",
            network="VSequencer",
            arguments={"patch_sizes": [7, 2, 1, 1], "embed_dims": [192, 384, 384, 384], **_WIDE_RNN},
            params=27_645_544,
            macs=8_334_007_296,
            notes=_ABLATION,
        ),
        Variant(
            "VSequencer_S_PE",
            network="VSequencer",
            arguments={"use_pos_embed": True},
            params=33_114_856,
            macs=8_325_159_936,
            notes=_ABLATION,
        ),
        Variant(
            "Sequence_2d",
            arguments={
                "embed_dims": [64, 128, 128, 128],
                "hidden_sizes": [64, 128, 128, 128],
                "stage_norm": True,
                "init": "trunc_normal",
            },
            params=10_611_176,
            macs=3_197_432_832,
            notes="a Chinese re-implementation: D = C, a norm after each stage, true rows and columns here",
        ),
    ),
)
