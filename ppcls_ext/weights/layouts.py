"""The table of published layouts: how each family's tensors are named elsewhere, and how here.

A family lists its layouts; the first is the one to write when PyTorch's names are asked for. A layout is a list of
rules, ``(published name, our name)``; the first that matches applies, in either direction. What a rule may say besides
is in :mod:`ppcls_ext.weights.key_rules`. Renaming PyTorch's batch norm buffers and turning the weights of linear layers
is done for every layout and is no rule.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from ppcls_ext.weights.key_rules import OURS, PADDLE, Layout, Rule, Structure, Transform

_SEQUENCER = Layout(
    "sequencer",
    "okojoalg/sequencer, PyTorch",
    (
        Rule("absolute_pos_embed", "pos_embed.weight"),
        # The last child of a stage leads to the next one, which begins with it here.
        Rule("blocks.{s}.{depth}.down.{rest}", "stages.{s+1}.downsample.down.{rest}"),
        Rule("blocks.{s}.{i}.{rest}", "stages.{s}.blocks.{i}.{rest}"),
        Rule("stem.{rest}", "stem.{rest}"),
        Rule("norm.{rest}", "norm.{rest}"),
        Rule("head.{rest}", "head.{rest}"),
    ),
)
_SEQUENCER_TIMM = Layout(
    "timm",
    "timm, PyTorch",
    (
        Rule("head.fc.{rest}", "head.{rest}"),
        Rule("stages.{rest}", "stages.{rest}"),
        Rule("stem.{rest}", "stem.{rest}"),
        Rule("norm.{rest}", "norm.{rest}"),
    ),
)


def _as_convolution(weight: np.ndarray) -> list:
    return [weight[:, :, None, None] if weight.ndim == 2 else weight]


#: A linear layer of ours that is a 1 x 1 convolution there; the model's layer says how to read it.
_CONVOLUTION = Transform(lambda arrays: arrays[0], _as_convolution)


def _dilated(structure: Structure) -> list:
    return [s for s, dilated in enumerate(structure.config["dilate_attention"]) if dilated]


_DILATEFORMER = Layout(
    "dilateformer",
    "JIAOJIAYUASD/dilateformer, PyTorch",
    (
        Rule("patch_embed.{rest}", "stem.{rest}"),
        # A stage ends there with the merging, and with its position encoding, with which the next one begins here.
        Rule("stages.{s}.downsample.proj.0.{rest}", "stages.{s+1}.downsample.conv.{rest}"),
        Rule("stages.{s}.downsample.proj.1.{rest}", "stages.{s+1}.downsample.norm.{rest}"),
        Rule("stages.{s}.downsample.pos_embed.{rest}", "stages.{s+1}.cpe.{rest}"),
        Rule("stages.{s}.blocks.{i}.pos_embed.{rest}", "stages.{s}.blocks.{i}.cpe.{rest}"),
        Rule("stages.{s}.blocks.{i}.attn.qkv.weight", "stages.{s}.blocks.{i}.attn.qkv.weight", _CONVOLUTION, _dilated),
        Rule("stages.{s}.blocks.{i}.{rest}", "stages.{s}.blocks.{i}.{rest}"),
        Rule("norm.{rest}", "norm.{rest}"),
        Rule("head.{rest}", "head.{rest}"),
    ),
)

_VIP_RULES = (
    Rule("patch_embed.{rest}", "stem.{rest}"),
    # One flat list holds the stages and, where the grid or the width changes, the convolutions between them.
    Rule("network.{downsample_slot}.proj.{rest}", "stages.{s}.downsample.down.{rest}"),
    Rule("network.{slot}.{i}.{rest}", "stages.{s}.blocks.{i}.{rest}"),
    Rule("norm.{rest}", "norm.{rest}"),
    Rule("head.{rest}", "head.{rest}"),
)
_VIP = Layout("vip", "houqb/VisionPermutator, PyTorch", _VIP_RULES)
_VIP_PADDLEVIT = Layout("paddlevit", "BR-IDL/PaddleViT, Paddle", _VIP_RULES, PADDLE)

_VIT_RULES = (
    Rule("cls_token", "stem.cls_token"),
    Rule("pos_embed", "stem.pos_embed"),
    Rule("patch_embed.{rest}", "stem.{rest}"),
    Rule("blocks.{block}.{rest}", "stages.{s}.blocks.{i}.{rest}"),
    Rule("norm.{rest}", "norm.{rest}"),
    Rule("pre_logits.fc.{rest}", "pre_logits.0.{rest}"),
    Rule("head.{rest}", "head.{rest}"),
)
_VIT_TIMM = Layout("timm", "timm, PyTorch", _VIT_RULES)
_VIT_PADDLECLAS = Layout("paddleclas", "PaddleClas, Paddle", _VIT_RULES, PADDLE)


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Join the kernels ``[C, heads, D]`` or biases ``[heads, D]`` of queries, keys and values on their last axis."""
    lead = arrays[0].shape[:-2]
    return np.concatenate([array.reshape(*lead, -1) for array in arrays], axis=-1)


_QKV = Transform(_joined)
_HEADS = Transform(lambda arrays: arrays[0].reshape(-1, arrays[0].shape[-1]))  # [heads, D, C]
_KERNEL = Transform(lambda arrays: arrays[0].transpose(3, 2, 0, 1))  # [height, width, in, out]
_ENCODER, _BLOCK = "Transformer/encoderblock_{block}", "stages.{s}.blocks.{i}"
_ATTENTION = f"{_ENCODER}/MultiHeadDotProductAttention_1"

#: Linear layers are [in, out] in JAX, as in Paddle.
_VIT_JAX = Layout(
    "jax",
    "google-research/vision_transformer, JAX",
    (
        Rule("cls", "stem.cls_token"),
        Rule("Transformer/posembed_input/pos_embedding", "stem.pos_embed"),
        Rule("embedding/kernel", "stem.proj.weight", _KERNEL),
        Rule("embedding/bias", "stem.proj.bias"),
        Rule(f"{_ENCODER}/LayerNorm_0/scale", f"{_BLOCK}.norm1.weight"),
        Rule(f"{_ENCODER}/LayerNorm_0/bias", f"{_BLOCK}.norm1.bias"),
        *(
            Rule(
                tuple(f"{_ATTENTION}/{part}/{theirs}" for part in ("query", "key", "value")),
                f"{_BLOCK}.attn.qkv.{ours}",
                _QKV,
            )
            for theirs, ours in (("kernel", "weight"), ("bias", "bias"))
        ),
        Rule(f"{_ATTENTION}/out/kernel", f"{_BLOCK}.attn.proj.weight", _HEADS),
        Rule(f"{_ATTENTION}/out/bias", f"{_BLOCK}.attn.proj.bias"),
        Rule(f"{_ENCODER}/LayerNorm_2/scale", f"{_BLOCK}.norm2.weight"),
        Rule(f"{_ENCODER}/LayerNorm_2/bias", f"{_BLOCK}.norm2.bias"),
        Rule(f"{_ENCODER}/MlpBlock_3/Dense_0/kernel", f"{_BLOCK}.mlp.fc1.weight"),
        Rule(f"{_ENCODER}/MlpBlock_3/Dense_0/bias", f"{_BLOCK}.mlp.fc1.bias"),
        Rule(f"{_ENCODER}/MlpBlock_3/Dense_1/kernel", f"{_BLOCK}.mlp.fc2.weight"),
        Rule(f"{_ENCODER}/MlpBlock_3/Dense_1/bias", f"{_BLOCK}.mlp.fc2.bias"),
        Rule("Transformer/encoder_norm/scale", "norm.weight"),
        Rule("Transformer/encoder_norm/bias", "norm.bias"),
        Rule("pre_logits/kernel", "pre_logits.0.weight"),
        Rule("pre_logits/bias", "pre_logits.0.bias"),
        Rule("head/kernel", "head.weight"),
        Rule("head/bias", "head.bias"),
    ),
    PADDLE,
)

_SWIN_RULES = (
    Rule("patch_embed.{rest}", "stem.{rest}"),
    # A stage ends there with the merging, with which the next one begins here.
    Rule("layers.{s}.downsample.{rest}", "stages.{s+1}.downsample.{rest}"),
    Rule("layers.{s}.blocks.{i}.{rest}", "stages.{s}.blocks.{i}.{rest}"),
    Rule("norm.{rest}", "norm.{rest}"),
    Rule("head.{rest}", "head.{rest}"),
)
#: What the code computes anew from the size of the window and of the image.
_SWIN_COMPUTED = (r".*\.relative_position_index", r".*\.relative_position_bias", r".*\.attn_mask")
_SWIN = Layout("swin", "microsoft/Swin-Transformer, PyTorch", _SWIN_RULES, dropped=_SWIN_COMPUTED)
_SWIN_PADDLECLAS = Layout("paddleclas", "PaddleClas, Paddle", _SWIN_RULES, PADDLE, _SWIN_COMPUTED)
_SWIN_TIMM = Layout(
    "timm",
    "timm, PyTorch",
    (
        Rule("patch_embed.{rest}", "stem.{rest}"),
        Rule("layers.{s}.downsample.{rest}", "stages.{s}.downsample.{rest}"),
        Rule("layers.{s}.blocks.{i}.{rest}", "stages.{s}.blocks.{i}.{rest}"),
        Rule("norm.{rest}", "norm.{rest}"),
        Rule("head.fc.{rest}", "head.{rest}"),
    ),
    dropped=_SWIN_COMPUTED,
)

#: family (as in the registry): its published layouts
LAYOUTS: dict = {
    "Sequencer": (_SEQUENCER, _SEQUENCER_TIMM),
    "VisionPermutator": (_VIP, _VIP_PADDLEVIT),
    "DilateFormer": (_DILATEFORMER,),
    "ViT": (_VIT_TIMM, _VIT_PADDLECLAS, _VIT_JAX),
    "SwinTransformer": (_SWIN, _SWIN_TIMM, _SWIN_PADDLECLAS),
}

#: Our own names, which every family has.
OWN_LAYOUT = Layout(OURS, "ppcls_ext, Paddle", (Rule("{rest}", "{rest}"),), PADDLE)


def layouts_of(family: str) -> tuple:
    """Return the layouts that a file of ``family`` may have: the published ones, then ours."""
    return (*LAYOUTS.get(family, ()), OWN_LAYOUT)
