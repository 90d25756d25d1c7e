"""How the tensors of each family are named by publishers; :mod:`ppcls_ext.utils.key_rules` explains the rules."""

from __future__ import annotations

from typing import Callable, Iterator, Sequence

import numpy as np

from ppcls_ext.utils.key_rules import OWN_SOURCE, PADDLE, Rule, Source, Structure, Transform

_SEQUENCER = Source(
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
_SEQUENCER_TIMM = Source(
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


_DILATEFORMER = Source(
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
        Rule("aux_head.{rest}", "aux_head.{rest}"),
    ),
)

_VIP_RULES = (
    Rule("patch_embed.{rest}", "stem.{rest}"),
    # One flat list holds the stages and, where the grid or the width changes, the convolutions between them.
    Rule("network.{downsample_slot}.proj.{rest}", "stages.{s}.downsample.down.{rest}"),
    Rule("network.{slot}.{i}.{rest}", "stages.{s}.blocks.{i}.{rest}"),
    Rule("norm.{rest}", "norm.{rest}"),
    Rule("head.{rest}", "head.{rest}"),
    Rule("aux_head.{rest}", "aux_head.{rest}"),
)
_VIP = Source("vip", "houqb/VisionPermutator, PyTorch", _VIP_RULES)
_VIP_PADDLEVIT = Source("paddlevit", "BR-IDL/PaddleViT, Paddle", _VIP_RULES, PADDLE)

_VIT_RULES = (
    Rule("cls_token", "stem.cls_token"),
    Rule("pos_embed", "stem.pos_embed"),
    Rule("patch_embed.{rest}", "stem.{rest}"),
    Rule("blocks.{block}.{rest}", "stages.{s}.blocks.{i}.{rest}"),
    Rule("norm.{rest}", "norm.{rest}"),
    Rule("pre_logits.fc.{rest}", "pre_logits.0.{rest}"),
    Rule("head.{rest}", "head.{rest}"),
)
_VIT_TIMM = Source("timm", "timm, PyTorch", _VIT_RULES)
_VIT_PADDLECLAS = Source("paddleclas", "PaddleClas, Paddle", _VIT_RULES, PADDLE)


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
_VIT_JAX = Source(
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
_SWIN = Source("swin", "microsoft/Swin-Transformer, PyTorch", _SWIN_RULES, dropped=_SWIN_COMPUTED)
_SWIN_PADDLECLAS = Source("paddleclas", "PaddleClas, Paddle", _SWIN_RULES, PADDLE, _SWIN_COMPUTED)
_SWIN_TIMM = Source(
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

_BLOCK_OF_RESNET = "stages.{s}.blocks.{i}"


def _layers(theirs: str, ours: str, conv: str, norm: str) -> tuple:
    """Return the rules of a convolution and its BatchNorm, which are ``conv`` and ``norm`` of ``theirs``."""
    return (
        Rule(f"{theirs}{conv}.{{rest}}", f"{ours}.conv.{{rest}}"),
        Rule(f"{theirs}{norm}.{{rest}}", f"{ours}.norm.{{rest}}"),
    )


def _form(form: str) -> Callable[[dict], dict]:
    """Return what weights of one form need: Res2Nets and ResNets of basic blocks have two, all others one."""

    def needs(config: dict) -> dict:
        return {"form": form} if "form" in config and config.get("block") != "bottleneck" else {}

    return needs


#: torchvision's names, which timm and the official Res2Net have too.
_TORCH_BLOCKS = (
    *_layers("layer{s+1}.{i}.", f"{_BLOCK_OF_RESNET}.conv{{k}}", "conv{k}", "bn{k}"),
    *_layers("layer{s+1}.{i}.", f"{_BLOCK_OF_RESNET}.split.convs.{{k}}", "convs.{k}", "bns.{k}"),
    Rule("layer{s+1}.{i}.se.{rest}", f"{_BLOCK_OF_RESNET}.se.{{rest}}"),
    Rule("fc.{rest}", "head.{rest}"),
)
_TORCH_PLAIN = (
    *_layers("", "stem.0", "conv1", "bn1"),
    *_layers("layer{s+1}.{i}.", f"{_BLOCK_OF_RESNET}.shortcut", "downsample.0", "downsample.1"),
    *_TORCH_BLOCKS,
)
_TORCH_DEEP = (
    *_layers("conv1.", "stem.0", "0", "1"),
    *_layers("conv1.", "stem.1", "3", "4"),
    *_layers("", "stem.2", "conv1.6", "bn1"),
    *_layers("layer{s+1}.{i}.", f"{_BLOCK_OF_RESNET}.shortcut", "downsample.1", "downsample.2"),
    *_TORCH_BLOCKS,
)
_TORCHVISION = Source("torchvision", "torchvision and timm, PyTorch", _TORCH_PLAIN, needs=_form("official"))
_RES2NET = Source("res2net", "Res2Net/Res2Net-PretrainedModels, PyTorch", _TORCH_PLAIN, needs=_form("official"))
_RES2NET_V1B = Source(
    "res2net_v1b", "Res2Net/Res2Net-PretrainedModels (v1b), PyTorch", _TORCH_DEEP, needs=_form("official")
)

_RESNET_PADDLECLAS = Source(
    "paddleclas",
    "PaddleClas, Paddle",
    (
        *_layers("stem.{k}.", "stem.{k}", "conv", "bn"),
        *_layers("blocks.{block}.conv{k}.", f"{_BLOCK_OF_RESNET}.conv{{k+1}}", "conv", "bn"),
        *_layers("blocks.{block}.short.", f"{_BLOCK_OF_RESNET}.shortcut", "conv", "bn"),
        Rule("fc.{rest}", "head.{rest}"),
    ),
    PADDLE,
    needs=_form("paddleclas"),
)
_RESNEXT_PADDLECLAS = Source(
    "paddleclas_resnext",
    "PaddleClas, Paddle",
    (
        *_layers("conv.", "stem.0", "_conv", "_batch_norm"),
        *_layers("bb_{s}_{i}.conv{k}.", f"{_BLOCK_OF_RESNET}.conv{{k+1}}", "_conv", "_batch_norm"),
        *_layers("bb_{s}_{i}.short.", f"{_BLOCK_OF_RESNET}.shortcut", "_conv", "_batch_norm"),
        Rule("out.{rest}", "head.{rest}"),
    ),
    PADDLE,
)
_WSL_PADDLECLAS = Source(
    "paddleclas_wsl",
    "PaddleClas, Paddle",
    (
        *_layers("_conv_stem.", "stem.0", "_conv", "_bn"),
        *_layers("_conv{s+1}_{i}._conv{k}.", f"{_BLOCK_OF_RESNET}.conv{{k+1}}", "_conv", "_bn"),
        *_layers("_conv{s+1}_{i}._short._conv.", f"{_BLOCK_OF_RESNET}.shortcut", "_conv", "_bn"),
        Rule("_out.{rest}", "head.{rest}"),
    ),
    PADDLE,
)

_RES2NET_BLOCKS = (
    *_layers("bb_{s}_{i}.conv0.", f"{_BLOCK_OF_RESNET}.conv1", "_conv", "_batch_norm"),
    *_layers(
        "bb_{s}_{i}.res{s+2}{letters}_branch2b_{k+1}.",
        f"{_BLOCK_OF_RESNET}.split.convs.{{k}}",
        "_conv",
        "_batch_norm",
    ),
    *_layers("bb_{s}_{i}.conv2.", f"{_BLOCK_OF_RESNET}.conv3", "_conv", "_batch_norm"),
    *_layers("bb_{s}_{i}.short.", f"{_BLOCK_OF_RESNET}.shortcut", "_conv", "_batch_norm"),
    Rule("out.{rest}", "head.{rest}"),
)
_RES2NET_PADDLECLAS = Source(
    "paddleclas",
    "PaddleClas, Paddle",
    (*_layers("conv1.", "stem.0", "_conv", "_batch_norm"), *_RES2NET_BLOCKS),
    PADDLE,
    needs=_form("paddleclas"),
)
_RES2NET_VD_PADDLECLAS = Source(
    "paddleclas_vd",
    "PaddleClas (vd), Paddle",
    (*_layers("conv1_{k+1}.", "stem.{k}", "_conv", "_batch_norm"), *_RES2NET_BLOCKS),
    PADDLE,
    needs=_form("paddleclas"),
)


def _dla_rules(levels: tuple) -> Iterator[Rule]:
    """Return the rules of trees of these heights: where the tree branches is a number in ones and zeros."""
    for s, level in enumerate(levels):
        for i in range(2**level):
            tree, block = f"level{s + 2}." + _path(i, level), f"stages.{s}.blocks.{i}"
            yield from _layers(tree, f"{block}.conv{{k}}", "conv{k}", "bn{k}")
            yield from _layers(tree, f"{block}.split.convs.{{k}}", "convs.{k}", "bns.{k}")
        for leaf in range(2 ** (level - 1)):
            yield from _layers(
                f"level{s + 2}." + _path(leaf, level - 1) + "root.", f"stages.{s}.roots.{leaf}", "conv", "bn"
            )
        project = f"level{s + 2}." + _path(0, level - 1) + "project."
        yield from _layers(project, f"stages.{s}.blocks.0.shortcut", "0", "1")


def _path(number: int, steps: int) -> str:
    return "".join(f"tree{(number >> step & 1) + 1}." for step in reversed(range(steps)))


_RES2NET_DLA = Source(
    "res2net_dla",
    "Res2Net/Res2Net-PretrainedModels (DLA), PyTorch",
    (
        *_layers("base_layer.", "stem.0", "0", "1"),
        *_layers("level0.", "stem.1", "0", "1"),
        *_layers("level1.", "stem.2", "0", "1"),
        *_dla_rules((1, 2, 3, 1)),
        Rule("fc.{rest}", "head.{rest}"),
    ),
    dropped=(r"level3\.project\..*", r"level4\.(tree1\.)?project\..*"),  # the trees inside have their own
)

#: family (as in the registry): its published sources
SOURCES: dict = {
    "Sequencer": (_SEQUENCER, _SEQUENCER_TIMM),
    "VisionPermutator": (_VIP, _VIP_PADDLEVIT),
    "DilateFormer": (_DILATEFORMER,),
    "ResNet": (_TORCHVISION, _RESNET_PADDLECLAS, _RESNEXT_PADDLECLAS, _WSL_PADDLECLAS),
    "Res2Net": (_RES2NET, _RES2NET_V1B, _RES2NET_DLA, _RES2NET_PADDLECLAS, _RES2NET_VD_PADDLECLAS),
    "ViT": (_VIT_TIMM, _VIT_PADDLECLAS, _VIT_JAX),
    "SwinTransformer": (_SWIN, _SWIN_TIMM, _SWIN_PADDLECLAS),
}


def sources_of(family: str) -> tuple:
    """Return the sources that a file of ``family`` may have: the published ones, then this package's own."""
    return (*SOURCES.get(family, ()), OWN_SOURCE)
