"""How publishers name the tensors of ViT; :mod:`ppcls_ext.utils.key_rules` explains the rules."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from ppcls_ext.utils.key_rules import PADDLE, Rule, Source, Transform, unchanged

_RULES = (
    Rule("cls_token", "stem.cls_token"),
    Rule("pos_embed", "stem.pos_embed"),
    Rule("patch_embed.{rest}", "stem.{rest}"),
    Rule("blocks.{block}.{rest}", "stages.{s}.blocks.{i}.{rest}"),
    Rule("pre_logits.fc.{rest}", "pre_logits.0.{rest}"),
    *unchanged("norm", "head"),
)
_TIMM = Source("timm", "timm, PyTorch", _RULES)
_PADDLECLAS = Source("paddleclas", "PaddleClas, Paddle", _RULES, PADDLE)


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
_JAX = Source(
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

SOURCES = (_TIMM, _PADDLECLAS, _JAX)
