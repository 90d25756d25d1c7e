"""All that the tests have to be told of a family; the rest they read in the registry.

A new family adds one row to :data:`FAMILIES`. From it follow the contract tests, the comparison with golden files, the
tests of precision, of the model pages, of conversion and of the recipes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from ppcls_ext import registry

GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Facts:
    """What the tests know of a family.

    Attributes:
        small: From the arguments of a variant to those that make it run in no time on images of 56 x 56: the same
            branches of code, one or two blocks a stage, narrow.
        page: Its page in ``docs/*/models/ImageNet1k``.
        golden: Its folder in ``tests/golden``.
        keys: Lists of published keys in ``tests/golden/keys``, and the source that each is of.
        converted: List of keys: the smallest variant in it, and how the file for the test is written.
        recipes: Beginning of a recipe's ``Arch.name``: the arguments that make it shallow, and the image size that
            then is enough. The first that fits applies.
        compat: Variants that are tested on Paddle 2.6 too, one of each kind.
        precise: Variants that are trained in mixed precision, one of each kind.
        any_size: Whether every height and width is taken, not multiples of the last stage's stride alone.
        fixed_export: Why an exported graph has the height and width that it was traced with, if it has.
        without_gradient: Pattern of the parameters whose gradient is zero in training, and why.
    """

    small: Callable[[dict], dict]
    page: str
    golden: str
    keys: dict = field(default_factory=dict)
    converted: dict = field(default_factory=dict)
    recipes: dict = field(default_factory=dict)
    compat: tuple = ()
    precise: tuple = ()
    any_size: bool = False
    fixed_export: str = ""
    without_gradient: tuple = ("", "")


CLASSES = 5


def small_sequencer(arguments: dict) -> dict:
    """Divide every width by 16."""
    return {
        "depths": [1, 1, 2, 1],
        "embed_dims": [dim // 16 for dim in arguments["embed_dims"]],
        "hidden_sizes": [size // 16 for size in arguments["hidden_sizes"]],
        "img_size": 56,
    }


def small_dilateformer(arguments: dict) -> dict:
    """Take 12 channels and three heads or six."""
    return {"depths": [1, 1, 2, 1], "embed_dim": 12, "num_heads": [3, 3, 3, 6], "img_size": 56}


def small_vision_permutator(arguments: dict) -> dict:
    """Divide every width by 8 and the native grid by 4."""
    return {
        "depths": [1, 1, 2, 1],
        "embed_dims": [dim // 8 for dim in arguments["embed_dims"]],
        "segments": [number // 4 for number in arguments["segments"]],
        "img_size": 56,
    }


def small_resnet(arguments: dict) -> dict:
    """Divide every width by 8, cardinality too, where there is one."""
    cardinality = max(arguments["cardinality"] // 8, 1)
    base_width = arguments["base_width"] if cardinality == 1 else 32
    return {
        "depths": [1, 1, 2, 1],
        "planes": [width // 8 for width in arguments["planes"]],
        "cardinality": cardinality,
        "base_width": base_width,
    }


def small_vit(arguments: dict) -> dict:
    """Take three heads of width 8, and patches that fit the images."""
    return {
        "depths": [1, 1, 2, 1],
        "embed_dim": 24,
        "num_heads": 3,
        "img_size": 56,
        "patch_size": 14,
        "drop_remainder": False,
    }


def small_res2net(arguments: dict) -> dict:
    """Take eighths of all widths and three parts."""
    if "levels" in arguments:  # a DLA
        sizes = {"levels": [1, 1, 2, 1], "channels": [2, 4, 16, 32, 64, 128]}
        return {**sizes, "base_width": 16, "scale": 3, "cardinality": 1}
    if "alpha" in arguments:  # a Big-Little Net, whose stages have two blocks at least
        return {"depths": [2, 2, 3, 1], "planes": [8, 16, 32, 64], "base_width": 32, "scale": 3}
    cardinality = min(arguments["cardinality"], 2)
    return {"depths": [1, 1, 2, 1], "planes": [8, 16, 32, 64], "base_width": 16, "scale": 3, "cardinality": cardinality}


def small_mlp_mixer(arguments: dict) -> dict:
    """Take 24 channels, narrow MLPs, and patches that fit the images."""
    return {
        "depths": [1, 1, 2, 1],
        "embed_dim": 24,
        "tokens_mlp_dim": 12,
        "channels_mlp_dim": 48,
        "img_size": 56,
        "patch_size": 14,
    }


def small_swin(arguments: dict) -> dict:
    """Take one head of width 8 in the first stage, and windows of 4."""
    return {
        "depths": [1, 2, 2, 1],
        "embed_dim": 8,
        "num_heads": [1, 2, 2, 4],
        "window_size": 4,
        "img_size": 56,
        "class_num": CLASSES,
        "drop_path_rate": 0.0,
    }


SHALLOW = {"depths": [1, 1, 1, 1]}

#: Family (as in the registry): what the tests know of it.
FAMILIES = {
    "Sequencer": Facts(
        small=small_sequencer,
        page="Sequencer.md",
        golden="sequencer",
        keys={"sequencer": "sequencer", "sequencer_timm": "timm"},
        converted={
            "sequencer": ("Sequencer2D_S", {"wrapper": "state_dict", "prefix": "module."}),
            "sequencer_timm": ("Sequencer2D_S", {"legacy": True}),
        },
        recipes={
            name: (SHALLOW, 28) for name in ("Sequencer", "VSequencer", "Sequence_2d", "GRUSequencer", "RNNSequencer")
        },
        compat=("Sequencer2D_S", "Sequencer2D_S_unidirectional", "GRUSequencer2D_S", "VSequencer_S_PE", "Sequence_2d"),
        precise=("Sequencer2D_S", "GRUSequencer2D_S", "VSequencer_S_PE"),
    ),
    "DilateFormer": Facts(
        small=small_dilateformer,
        page="DilateFormer.md",
        golden="dilateformer",
        keys={"dilateformer": "dilateformer", "dilateformer_paddle": "paddle"},
        converted={
            "dilateformer": ("DilateFormer_Tiny", {"wrapper": "model", "legacy": True}),
            "dilateformer_paddle": ("DilateFormer_Tiny", {"paddle": True}),
        },
        recipes={"DilateFormer": (SHALLOW, 64)},
        compat=("DilateFormer_Tiny",),
        precise=("DilateFormer_Tiny",),
        any_size=True,
        without_gradient=(r"stages\.\d\.downsample\.conv\.bias", "the BatchNorm that follows subtracts the mean"),
    ),
    "VisionPermutator": Facts(
        small=small_vision_permutator,
        page="ViP.md",
        golden="vip",
        keys={"vip": "vip", "paddlevit": "paddlevit"},
        converted={
            "vip": ("ViP_Small_7", {"wrapper": "state_dict"}),
            "paddlevit": ("ViP_Small_7", {"paddle": True}),
        },
        recipes={"ViP": (SHALLOW, 56)},
        compat=("ViP_Small_7",),
        precise=("ViP_Small_7",),
        any_size=True,
        fixed_export="the weights along height and width are made for one size",
    ),
    "ResNet": Facts(
        small=small_resnet,
        page="ResNet.md",
        golden="resnet",
        keys={
            "torchvision": "torchvision",
            "resnet_paddleclas": "paddleclas",
            "resnext_paddleclas": "paddleclas_resnext",
            "wsl_paddleclas": "paddleclas_wsl",
        },
        recipes={
            "ResNeXt": ({**SHALLOW, "planes": [16, 32, 64, 128]}, 32),
            "ResNet": (SHALLOW, 32),
        },
        compat=("ResNet18", "ResNeXt50_32x4d"),
        precise=("ResNet18",),
        any_size=True,
    ),
    "Res2Net": Facts(
        small=small_res2net,
        page="Res2Net.md",
        golden="res2net",
        keys={
            "res2net": "res2net",
            "res2net_v1b": "res2net_v1b",
            "res2net_dla": "res2net_dla",
            "res2net_paddleclas": "paddleclas",
            "res2net_vd_paddleclas": "paddleclas_vd",
        },
        recipes={
            "Res2Net_DLA": ({}, 64),
            "Res2NeXt_DLA": ({}, 64),
            "Res2Net": (SHALLOW, 64),
            "Res2NeXt": (SHALLOW, 64),
            "bLRes2Net": ({"depths": [2, 2, 2, 1]}, 64),
            "SE_Res2Net": (SHALLOW, 64),
        },
        compat=("Res2Net50_vd_26w_4s", "Res2Net_DLA60", "bLRes2Net50"),
        precise=("Res2Net50_vd_26w_4s",),
        any_size=True,
    ),
    "ViT": Facts(
        small=small_vit,
        page="ViT.md",
        golden="vit",
        keys={"vit_timm": "timm", "vit_paddleclas": "paddleclas", "vit_jax": "jax"},
        converted={
            "vit_timm": ("ViT_S_32_224", {}),
            "vit_paddleclas": ("ViT_small_patch16_224", {"paddle": True}),
        },
        recipes={
            "ViT_huge": ({**SHALLOW, "embed_dim": 96}, 28),
            "ViT": ({**SHALLOW, "embed_dim": 96}, 32),
        },
        compat=("ViT_base_patch16_224",),
        precise=("ViT_base_patch16_224",),
    ),
    "SwinTransformer": Facts(
        small=small_swin,
        page="SwinTransformer.md",
        golden="swin",
        keys={"swin": "swin", "swin_timm": "timm", "swin_paddleclas": "paddleclas"},
        converted={
            "swin": ("SwinTransformer_tiny_patch4_window7_224", {"wrapper": "model"}),
            "swin_timm": ("SwinTransformer_tiny_patch4_window7_224", {"legacy": True}),
            "swin_paddleclas": ("SwinTransformer_tiny_patch4_window7_224", {"paddle": True}),
        },
        recipes={"SwinTransformer": ({**SHALLOW, "embed_dim": 24}, 32)},
        compat=("SwinTransformer_tiny_patch4_window7_224",),
        precise=("SwinTransformer_tiny_patch4_window7_224",),
        any_size=True,
    ),
    "MLPMixer": Facts(
        small=small_mlp_mixer,
        page="MLPMixer.md",
        golden="mlp_mixer",
        keys={"mlp_mixer_timm": "timm", "mlp_mixer_jax": "jax"},
        converted={"mlp_mixer_timm": ("Mixer_S_32_224", {})},
        without_gradient=(r".*\.mlp_tokens\.fc2\.bias", "every LayerNorm subtracts what all channels have in common"),
        recipes={"Mixer": ({**SHALLOW, "embed_dim": 96}, 32)},
        compat=("Mixer_S_32_224",),
        precise=("Mixer_S_32_224",),
    ),
}


def facts(family: str) -> Facts:
    """Return the row of a family.

    Raises:
        KeyError: that says where to add it, if there is none.
    """
    if family not in FAMILIES:
        raise KeyError(f"the family {family!r} has no row in FAMILIES of tests/families.py; add one")
    return FAMILIES[family]


def small_arguments(spec: registry.Variant) -> dict:
    """Return the arguments that make a variant small."""
    return {**facts(spec.family).small(spec.factory.arguments), "class_num": CLASSES}
