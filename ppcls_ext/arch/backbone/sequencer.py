"""Sequencer: image classification by LSTMs that run along the rows and columns of the token grid.

Paper: "Sequencer: Deep LSTM for Image Classification", Tatsunami and Taki, arXiv 2205.01972.
Official code and weights: https://github.com/okojoalg/sequencer (Apache-2.0).

Written from the paper and checked against the official code: with the same weights, every variant gives the same
features and logits. The tree of sub-layers follows timm (a stage *begins* with its downsampling), so that a stage's
output is what a detector would take. ``Sequence_2d`` is the model of a Chinese re-implementation, mixing true rows and
columns. VSequencer, which knows no rows and columns, is in ``vsequencer.py``. Differences are listed in
``docs/en/models/ImageNet1k/Sequencer.md``.
"""

from __future__ import annotations

import math
from typing import Callable, Optional, Sequence, Union

import paddle
from paddle import nn
from paddle.nn import initializer as I

from ppcls_ext.arch.backbone.base import Backbone
from ppcls_ext.arch.layers import (
    ACTIVATIONS,
    Downsample,
    DropPath,
    GlobalAveragePool,
    LayerNorm,
    Linear,
    Mlp,
    PatchEmbed,
    Stage,
    drop_path_rates,
    init_linear,
    lecun_normal,
    run_rnn,
    shape_of,
    truncated_normal,
)
from ppcls_ext.registry import Accuracy, Family, Preprocessing, Variant, Weights
from ppcls_ext.utils.key_rules import Rule, Source, unchanged
from ppcls_ext.utils.validate import (
    MAX_DEPTH,
    check_choice,
    check_epsilon,
    check_flag,
    check_integer,
    check_integers,
    check_positives,
    check_rate,
    check_size,
)

RNNS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.SimpleRNN}
UNIONS = ("cat", "add", "vertical", "horizontal")
INITS = ("official", "trunc_normal")


class RNN2D(nn.Layer):
    """BiLSTM2D, the token mixer of the paper (section 3.2): one RNN along the columns, one along the rows, a Linear.

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
        self.fc = Linear(width, dim) if with_fc else nn.Identity()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return ``[N, H, W, C]``."""
        if self.union == "vertical":
            return self.fc(self._columns(x))
        if self.union == "horizontal":
            return self.fc(self._rows(x))
        v, h = self._columns(x), self._rows(x)
        return self.fc(v + h if self.union == "add" else paddle.concat([v, h], axis=-1))

    def _columns(self, x: paddle.Tensor) -> paddle.Tensor:
        batch = shape_of(x)[0]
        v = x.transpose([1, 0, 2, 3]).flatten(1, 2)  # (N, H, W, C) -> (H, N * W, C): length H, one sequence per column
        v = run_rnn(self.rnn_v, v, self.training)
        v = v.reshape([0, batch, -1, v.shape[-1]])  # (H, N * W, D) -> (H, N, W, D)
        return v.transpose([1, 0, 2, 3])

    def _rows(self, x: paddle.Tensor) -> paddle.Tensor:
        batch = shape_of(x)[0]
        h = x.transpose([2, 0, 1, 3]).flatten(1, 2)  # (N, H, W, C) -> (W, N * H, C): length W, one sequence per row
        h = run_rnn(self.rnn_h, h, self.training)
        h = h.reshape([0, batch, -1, h.shape[-1]])  # (W, N * H, D) -> (W, N, H, D)
        return h.transpose([1, 2, 0, 3])


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


class SequencerNetwork(Backbone):
    """What Sequencer2D and VSequencer share: everything but the token mixer.

    Args:
        make_mixer: Makes a token mixer from (dim, hidden size).
        stage_norm: Whether a LayerNorm follows each stage but the last, whose norm is the model's.
        make_positions: Makes what follows the stem from the (height, width, dim) of its tokens.
        **others: As in :class:`Sequencer2D`.
    """

    channels_last = True
    free_arguments = (*Backbone.free_arguments, "nlhb")

    def __init__(
        self,
        make_mixer: Callable[[int, int], nn.Layer],
        *,
        class_num: int,
        in_channels: int,
        img_size: Union[int, Sequence[int]],
        depths: Sequence[int],
        patch_sizes: Sequence[int],
        embed_dims: Sequence[int],
        hidden_sizes: Sequence[int],
        mlp_ratios: Sequence[float],
        activation: str,
        epsilon: float,
        drop_rate: float,
        drop_path_rate: float,
        stem_norm: bool,
        stage_norm: bool,
        nlhb: bool,
        init: str,
        make_positions: Optional[Callable[[int, int, int], nn.Layer]] = None,
    ):
        super().__init__()
        depths = check_integers("depths", depths, maximum=MAX_DEPTH)
        count = len(depths)
        patch_sizes = check_integers("patch_sizes", patch_sizes, count)
        dims = check_integers("embed_dims", embed_dims, count)
        hidden_sizes = check_integers("hidden_sizes", hidden_sizes, count)
        mlp_ratios = check_positives("mlp_ratios", mlp_ratios, count)
        check_choice("activation", activation, list(ACTIVATIONS))
        check_epsilon("epsilon", epsilon)
        check_rate("drop_rate", drop_rate)
        check_flag("stem_norm", stem_norm)
        rates = drop_path_rates(check_rate("drop_path_rate", drop_path_rate), depths)

        self.in_channels = check_integer("in_channels", in_channels)
        self.num_features = dims[-1]
        self.stage_channels = dims
        self.stage_strides = [math.prod(patch_sizes[: i + 1]) for i in range(count)]
        self.img_size = check_size("img_size", img_size)
        self.check_resolution(*self.img_size)
        self._has_stage_norms = check_flag("stage_norm", stage_norm)
        self._init = check_choice("init", init, INITS)
        self._head_bias_from_class_num = check_flag("nlhb", nlhb)

        self.stem = PatchEmbed(self.in_channels, dims[0], patch_sizes[0], epsilon if stem_norm else None)
        if make_positions is not None:
            height, width = (side // patch_sizes[0] for side in self.img_size)
            self.pos_embed = make_positions(height, width, dims[0])
        stages = []
        for i, dim in enumerate(dims):
            blocks = [
                SequencerBlock(
                    dim,
                    make_mixer(dim, hidden_sizes[i]),
                    Mlp(dim, int(mlp_ratios[i] * dim), activation, drop_rate),
                    epsilon,
                    rate,
                )
                for rate in rates[i]
            ]
            downsample = Downsample(dims[i - 1], dim, patch_sizes[i]) if i else None
            norm = LayerNorm(dim, epsilon=epsilon) if stage_norm and i < count - 1 else None
            stages.append(Stage(blocks, downsample, norm=norm))
        self.stages = nn.Sequential(*stages)
        self.norm = LayerNorm(dims[-1], epsilon=epsilon)
        self.pool = GlobalAveragePool()
        self._init_weights()
        self.reset_head(class_num)

    def _init_weights(self) -> None:
        """Initialise as the official code does, or Linear layers by a truncated normal of deviation 0.02.

        Paddle's own defaults serve for LayerNorm (1 and 0) and for the RNNs (uniform within 1 / sqrt(hidden size)).
        """
        for name, layer in self.named_sublayers():
            if isinstance(layer, nn.Linear) and self._init == "trunc_normal":
                init_linear(layer, truncated_normal(0.02))
            elif isinstance(layer, nn.Linear):
                I.XavierUniform()(layer.weight)
                (I.Normal(std=1e-6) if "mlp" in name else I.Constant(0.0))(layer.bias)
            elif isinstance(layer, nn.Conv2D) and self._init == "official":
                lecun_normal(layer)

    def make_head(self, class_num: int) -> nn.Layer:
        """Return a classifier of zeros (bias -log(classes) with ``nlhb``), or of truncated normals."""
        head = nn.Linear(self.num_features, class_num)
        init_linear(head, truncated_normal(0.02) if self._init == "trunc_normal" else I.Constant(0.0))
        if self._head_bias_from_class_num:
            I.Constant(-math.log(class_num))(head.bias)
        return head

    def feature_of(self, index: int, output: paddle.Tensor) -> paddle.Tensor:
        """Normalise the last stage's map where the other stages end with a norm."""
        is_last = index == len(self.stage_channels) - 1
        return self.norm(output) if is_last and self._has_stage_norms else output


class Sequencer2D(SequencerNetwork):
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
        check_choice("rnn_type", rnn_type, list(RNNS))
        check_integer("num_rnn_layers", num_rnn_layers, maximum=MAX_DEPTH)
        check_flag("bidirectional", bidirectional)
        check_choice("union", union, UNIONS)
        check_flag("with_fc", with_fc)

        def make_mixer(dim: int, hidden_size: int) -> RNN2D:
            return RNN2D(dim, hidden_size, rnn_type, num_rnn_layers, bidirectional, union, with_fc)

        super().__init__(
            make_mixer,
            class_num=class_num,
            in_channels=in_channels,
            img_size=img_size,
            depths=depths,
            patch_sizes=patch_sizes,
            embed_dims=embed_dims,
            hidden_sizes=hidden_sizes,
            mlp_ratios=mlp_ratios,
            activation=activation,
            epsilon=epsilon,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            stem_norm=stem_norm,
            stage_norm=stage_norm,
            nlhb=nlhb,
            init=init,
        )


# ---- variants --------------------------------------------------------------------------------------------------

PAPER = "Sequencer: Deep LSTM for Image Classification, arXiv 2205.01972"
_LICENCE = "Apache-2.0 (of the official repository; its release states no other for the weights)"
_RELEASE = "https://github.com/okojoalg/sequencer/releases/download/weights/"
_AT_392 = Preprocessing(input_size=(3, 392, 392), resize_short=392)
ABLATION = "ablation of the paper; no weights published"

_M = {"depths": [4, 3, 14, 3]}
_L = {"depths": [8, 8, 16, 4]}
WIDE_RNN = {"hidden_sizes": [96, 192, 192, 192]}


def _timm(top1: float, top5: float) -> Accuracy:
    return Accuracy(top1, "authors' weights evaluated by timm, results/results-imagenet.csv", top5)


def _released(letter: str) -> tuple:
    return (Weights(f"{_RELEASE}sequencer2d_{letter}.pth", "sequencer", _LICENCE),)


_SOURCES = (
    Source(
        "sequencer",
        "okojoalg/sequencer, PyTorch",
        (
            Rule("absolute_pos_embed", "pos_embed.weight"),
            # The last child of a stage leads to the next one, which begins with it here.
            Rule("blocks.{s}.{depth}.down.{rest}", "stages.{s+1}.downsample.down.{rest}"),
            Rule("blocks.{s}.{i}.{rest}", "stages.{s}.blocks.{i}.{rest}"),
            *unchanged("stem", "norm", "head"),
        ),
    ),
    Source("timm", "timm, PyTorch", (Rule("head.fc.{rest}", "head.{rest}"), *unchanged("stages", "stem", "norm"))),
)

FAMILY = Family(
    name="Sequencer",
    networks=(Sequencer2D,),
    paper=PAPER,
    sources=_SOURCES,
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
            notes=ABLATION,
        ),
        Variant("Sequencer2D_S_add", arguments={"union": "add"}, params=26_545_768, macs=7_994_268_672, notes=ABLATION),
        Variant("Sequencer2D_S_h2x", arguments=WIDE_RNN, params=45_395_560, macs=13_769_825_280, notes=ABLATION),
        Variant(
            "Sequencer2D_S_without_fc",
            arguments={"with_fc": False},
            params=25_433_704,
            macs=7_654_530_048,
            notes=ABLATION,
        ),
        Variant(
            "Sequencer2D_S_vertical",
            arguments={**WIDE_RNN, "union": "vertical", "with_fc": False},
            params=27_645_544,
            macs=8_334_007_296,
            notes=ABLATION,
        ),
        Variant(
            "Sequencer2D_S_horizontal",
            arguments={**WIDE_RNN, "union": "horizontal", "with_fc": False},
            params=27_645_544,
            macs=8_334_007_296,
            notes=ABLATION,
        ),
        Variant(
            "GRUSequencer2D_S", arguments={"rnn_type": "gru"}, params=24_874_600, macs=7_484_660_736, notes=ABLATION
        ),
        Variant(
            "RNNSequencer2D_S", arguments={"rnn_type": "rnn"}, params=19_320_424, macs=5_785_967_616, notes=ABLATION
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
