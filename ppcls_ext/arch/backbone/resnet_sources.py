"""How publishers name the tensors of ResNet, ResNeXt and Res2Net; :mod:`ppcls_ext.utils.key_rules` explains rules."""

from __future__ import annotations

from typing import Callable

from ppcls_ext.utils.key_rules import PADDLE, Rule, Source

_BLOCK = "stages.{s}.blocks.{i}"


def convolution_rules(theirs: str, ours: str, conv: str, norm: str) -> tuple:
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
    *convolution_rules("layer{s+1}.{i}.", f"{_BLOCK}.conv{{k}}", "conv{k}", "bn{k}"),
    *convolution_rules("layer{s+1}.{i}.", f"{_BLOCK}.split.convs.{{k}}", "convs.{k}", "bns.{k}"),
    Rule("layer{s+1}.{i}.se.{rest}", f"{_BLOCK}.se.{{rest}}"),
    Rule("fc.{rest}", "head.{rest}"),
)
_TORCH_PLAIN = (
    *convolution_rules("", "stem.0", "conv1", "bn1"),
    *convolution_rules("layer{s+1}.{i}.", f"{_BLOCK}.shortcut", "downsample.0", "downsample.1"),
    *_TORCH_BLOCKS,
)
_TORCH_DEEP = (
    *convolution_rules("conv1.", "stem.0", "0", "1"),
    *convolution_rules("conv1.", "stem.1", "3", "4"),
    *convolution_rules("", "stem.2", "conv1.6", "bn1"),
    *convolution_rules("layer{s+1}.{i}.", f"{_BLOCK}.shortcut", "downsample.1", "downsample.2"),
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
        *convolution_rules("stem.{k}.", "stem.{k}", "conv", "bn"),
        *convolution_rules("blocks.{block}.conv{k}.", f"{_BLOCK}.conv{{k+1}}", "conv", "bn"),
        *convolution_rules("blocks.{block}.short.", f"{_BLOCK}.shortcut", "conv", "bn"),
        Rule("fc.{rest}", "head.{rest}"),
    ),
    PADDLE,
    needs=_form("paddleclas"),
)
_RESNEXT_PADDLECLAS = Source(
    "paddleclas_resnext",
    "PaddleClas, Paddle",
    (
        *convolution_rules("conv.", "stem.0", "_conv", "_batch_norm"),
        *convolution_rules("bb_{s}_{i}.conv{k}.", f"{_BLOCK}.conv{{k+1}}", "_conv", "_batch_norm"),
        *convolution_rules("bb_{s}_{i}.short.", f"{_BLOCK}.shortcut", "_conv", "_batch_norm"),
        Rule("out.{rest}", "head.{rest}"),
    ),
    PADDLE,
)
_WSL_PADDLECLAS = Source(
    "paddleclas_wsl",
    "PaddleClas, Paddle",
    (
        *convolution_rules("_conv_stem.", "stem.0", "_conv", "_bn"),
        *convolution_rules("_conv{s+1}_{i}._conv{k}.", f"{_BLOCK}.conv{{k+1}}", "_conv", "_bn"),
        *convolution_rules("_conv{s+1}_{i}._short._conv.", f"{_BLOCK}.shortcut", "_conv", "_bn"),
        Rule("_out.{rest}", "head.{rest}"),
    ),
    PADDLE,
)

_RES2NET_BLOCKS = (
    *convolution_rules("bb_{s}_{i}.conv0.", f"{_BLOCK}.conv1", "_conv", "_batch_norm"),
    *convolution_rules(
        "bb_{s}_{i}.res{s+2}{letters}_branch2b_{k+1}.",
        f"{_BLOCK}.split.convs.{{k}}",
        "_conv",
        "_batch_norm",
    ),
    *convolution_rules("bb_{s}_{i}.conv2.", f"{_BLOCK}.conv3", "_conv", "_batch_norm"),
    *convolution_rules("bb_{s}_{i}.short.", f"{_BLOCK}.shortcut", "_conv", "_batch_norm"),
    Rule("out.{rest}", "head.{rest}"),
)
_RES2NET_PADDLECLAS = Source(
    "paddleclas",
    "PaddleClas, Paddle",
    (*convolution_rules("conv1.", "stem.0", "_conv", "_batch_norm"), *_RES2NET_BLOCKS),
    PADDLE,
    needs=_form("paddleclas"),
)
_RES2NET_VD_PADDLECLAS = Source(
    "paddleclas_vd",
    "PaddleClas (vd), Paddle",
    (*convolution_rules("conv1_{k+1}.", "stem.{k}", "_conv", "_batch_norm"), *_RES2NET_BLOCKS),
    PADDLE,
    needs=_form("paddleclas"),
)

RESNET_SOURCES = (_TORCHVISION, _RESNET_PADDLECLAS, _RESNEXT_PADDLECLAS, _WSL_PADDLECLAS)
RES2NET_SOURCES = (_RES2NET, _RES2NET_V1B, _RES2NET_PADDLECLAS, _RES2NET_VD_PADDLECLAS)
