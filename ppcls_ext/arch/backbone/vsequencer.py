"""VSequencer: the "vanilla" Sequencer of the paper's ablation, one LSTM over all tokens in reading order.

Paper: "Sequencer: Deep LSTM for Image Classification", Tatsunami and Taki, arXiv 2205.01972, section 4.3.
Official code: https://github.com/okojoalg/sequencer (Apache-2.0); no weights are published.

Everything but the token mixer and the position embedding is Sequencer2D's.
"""

from __future__ import annotations

from typing import Sequence, Union

import paddle
from paddle import nn
from paddle.nn import functional as F
from paddle.nn import initializer as I

from ppcls_ext.arch.backbone.sequencer import ABLATION, PAPER, RNNS, WIDE_RNN, SequencerNetwork
from ppcls_ext.arch.layers import run_rnn, shape_of
from ppcls_ext.registry import Family, Variant
from ppcls_ext.utils.validate import MAX_DEPTH, check_choice, check_flag, check_integer


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
        height = shape_of(x)[1]
        tokens = x.flatten(1, 2).transpose([1, 0, 2])  # (N, H, W, C) -> (H * W, N, C)
        tokens = run_rnn(self.rnn, tokens, self.training).transpose([1, 0, 2])
        return tokens.reshape([0, height, -1, tokens.shape[-1]])  # (N, H * W, C) -> (N, H, W, C)


class PositionEmbedding(nn.Layer):
    """A learned table added to the tokens; for a different grid it is resampled (bicubic) on the fly."""

    def __init__(self, height: int, width: int, dim: int):
        super().__init__()
        self.weight = self.create_parameter([1, height, width, dim], default_initializer=I.Normal(std=0.02))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take and return ``[N, H, W, C]``."""
        if paddle.in_dynamic_mode() and x.shape[1:3] == self.weight.shape[1:3]:
            return x + self.weight
        table = self.weight.transpose([0, 3, 1, 2])  # (1, H, W, C) -> (1, C, H, W)
        return x + F.interpolate(table, size=shape_of(x)[1:3], mode="bicubic").transpose([0, 2, 3, 1])

    def multiply_adds(self, x: paddle.Tensor, output: paddle.Tensor) -> int:
        """Return 0: the table is added, and resampling is not counted."""
        return 0


class VSequencer(SequencerNetwork):
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
        check_choice("rnn_type", rnn_type, list(RNNS))
        check_integer("num_rnn_layers", num_rnn_layers, maximum=MAX_DEPTH)
        check_flag("bidirectional", bidirectional)
        check_flag("use_pos_embed", use_pos_embed)

        def make_mixer(dim: int, hidden_size: int) -> RNN1D:
            return RNN1D(dim, hidden_size, rnn_type, num_rnn_layers, bidirectional)

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
            stage_norm=False,
            nlhb=nlhb,
            init=init,
            make_positions=PositionEmbedding if use_pos_embed else nn.Identity,
        )
        self.position_tables = ("pos_embed.weight",) if use_pos_embed else ()

    def forward_stem(self, x: paddle.Tensor) -> paddle.Tensor:
        """Check the images and return tokens ``[N, H', W', C]``, with the position embedding if there is one."""
        self.check_input(x)
        return self.pos_embed(self.stem(x))


# ---- variants --------------------------------------------------------------------------------------------------

FAMILY = Family(
    name="Sequencer",
    networks=(VSequencer,),
    paper=PAPER,
    variants=(
        Variant("VSequencer_S", params=33_016_552, macs=8_325_159_936, notes=ABLATION),
        Variant(
            "VSequencer_S_H",
            arguments={"patch_sizes": [7, 2, 1, 1], "embed_dims": [192, 384, 384, 384], **WIDE_RNN},
            params=27_645_544,
            macs=8_334_007_296,
            notes=ABLATION,
        ),
        Variant(
            "VSequencer_S_PE",
            arguments={"use_pos_embed": True},
            params=33_114_856,
            macs=8_325_159_936,
            notes=ABLATION,
        ),
    ),
)
