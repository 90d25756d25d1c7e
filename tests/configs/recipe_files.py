"""The configurations of the tree, and their reduction to a size that trains in a second."""

from __future__ import annotations

import copy
from pathlib import Path

import yaml
from families import FAMILIES

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
#: What a family's Arch and images become. Sizes are the smallest that the family's strides allow with room for its
#: windows; depths leave one block a stage (DLA's tree has no such argument), widths what all variants' heads divide.
REDUCED = {prefix: reduced for row in FAMILIES.values() for prefix, reduced in row.recipes.items()}


def relative(path: Path) -> str:
    """Return the name of a configuration below ``configs/``, as a test's id."""
    return str(path.relative_to(ROOT / "configs"))


def read(path: Path) -> dict:
    """Return a configuration as PyYAML reads it, which is how PaddleClas does."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def reduce(config: dict, images: Path, output: Path) -> dict:
    """Return ``config`` for a CPU, small images, batches of four, three classes and a shallow model.

    Args:
        config: as :func:`read` returned it.
        images: folder of eight images with ``list.txt``.
        output: for ``Global.output_dir``.
    """
    config = copy.deepcopy(config)
    name = config["Arch"]["name"].rpartition(".")[2]
    arch, size = {}, config["Global"]["image_shape"][1]
    native = size
    if "quick_start" not in config["Global"]["output_dir"] and size >= 224:
        arch, size = next(value for prefix, value in REDUCED.items() if name.startswith(prefix))
    config["Arch"].update(arch, class_num=3, pretrained=False)
    config["Global"].update(
        device="cpu", epochs=1, update_freq=1, print_batch_step=1, output_dir=str(output), pretrained_model=None
    )
    config["Global"]["image_shape"] = [3, size, size]
    if "base_batch_size" in config["Global"] and config["Optimizer"]["lr"].get("learning_rate", 1) < 0.1:
        config["Global"]["base_batch_size"] = 4  # small rates, scaled down by hundreds, change nothing in float32
    for key in ("warmup_epoch", "cooldown_epoch"):
        config["Optimizer"]["lr"].pop(key, None)  # else the one epoch would be all warm-up, in ViT from a rate of 0
    if "AMP" in config:
        config["AMP"]["use_amp"] = False
    for split in ("Train", "Eval"):
        section = config["DataLoader"][split]
        section["sampler"]["batch_size"] = 4
        section["loader"]["num_workers"] = 0
        kept = {key: section["dataset"][key] for key in section["dataset"] if key.endswith("transform_ops")}
        section["dataset"] = {
            "name": "ImageNetDataset",
            "image_root": str(images),
            "cls_label_path": str(images / "list.txt"),
            **kept,
        }
        for item in section["dataset"]["transform_ops"]:
            _resize(item, size)
        for item in kept.get("batch_transform_ops") or []:
            if "MixToken" in item:  # of images' labels: there are no label maps
                item["MixToken"]["grid"] = item["MixToken"]["grid"] * size // native
        for item in config["Metric"].get(split, []):
            item["TopkAcc"]["topk"] = [1, 2]
    config.pop("Infer", None)
    return config


def _resize(item: dict, size: int) -> None:
    """Let an operator that gives or expects the model's size give or expect ``size``."""
    ((operator, arguments),) = item.items()
    for key in ("size", "img_size"):
        if operator != "ResizeImage" and key in (arguments or {}):
            arguments[key] = size
    if operator == "ResizeImage":
        arguments.pop("size", None)
        arguments["resize_short"] = size + 4
