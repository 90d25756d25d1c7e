"""Print the documentation's tables of the recipes: ``python -m ppcls_ext.analysis.recipe_table``.

Every figure comes from the configurations and the registry; a test compares the page on recipes with what this prints.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Iterator, Optional, Sequence

import yaml

from ppcls_ext import registry

HEADER = (
    "| Recipe | Epochs | Images<br>per step | Learning<br>rate | Decay | Drop<br>path | Top1 | MACs<br>(G) | "
    "Params<br>(M) |"
)
OURS_HEADER = "| Recipe | Ours |"
#: What marks a value that no source confirms: at the end of its line, or of the line that opens its section.
MARK = re.compile(r"^\s*(?:- )?(?P<key>\w+):[^#]*# ours\b")

#: The figure that a recipe's head promises; others, of other recipes, may follow it.
TOP1 = re.compile(r"^# Top-1: +([\d.]+) published", re.MULTILINE)


def recipes(configs: Path) -> list[Path]:
    """Return the recipes below ``configs``: on ImageNet by family, then the transfers, without the quick start."""
    found = [path for path in configs.rglob("*.yaml") if path.relative_to(configs).parts[0] != "quick_start"]
    return sorted(found, key=lambda path: (path.relative_to(configs).parts[0] != "ImageNet", str(path).lower()))


def ours(path: Path) -> list[str]:
    """Return the keys that a recipe marks as ours, in the order of the file."""
    found = map(MARK.match, path.read_text(encoding="utf-8").splitlines())
    return [match["key"] for match in found if match]


def recipe_table(configs: Path) -> str:
    """Return a Markdown table, one row per recipe; links are relative to a folder ``docs/<language>``."""
    return "\n".join([HEADER, "|" + " :--: |" * (HEADER.count("|") - 1), *_rows(configs)])


def ours_table(configs: Path) -> str:
    """Return a Markdown table of the recipes with values of ours, each with the keys."""
    rows = [(path, ours(path)) for path in recipes(configs)]
    lines = [f"| {_name(path, configs)} | {', '.join(f'`{key}`' for key in keys)} |" for path, keys in rows if keys]
    return "\n".join([OURS_HEADER, "| :--: | :--: |", *lines])


def _rows(configs: Path) -> Iterator[str]:
    for path in recipes(configs):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        optimizer, arch, run = config["Optimizer"], config["Arch"], config["Global"]
        name = arch["name"].rpartition(".")[2]
        spec = registry.get_spec(name)
        lr = optimizer["lr"]
        rate = lr["values"][0] if "values" in lr else lr["learning_rate"]
        decay = optimizer.get("weight_decay", optimizer.get("regularizer", {}).get("coeff"))
        images = run.get("base_batch_size")
        top1 = TOP1.search(path.read_text(encoding="utf-8"))
        cells = [
            f"[{_name(path, configs)}](../../configs/{path.relative_to(configs).as_posix()})",
            run["epochs"],
            "-" if images is None else images,
            f"{rate:g}",
            "-" if decay is None else f"{decay:g}",
            arch.get("drop_path_rate", "-"),
            f"{float(top1[1]) / 100:.4f}" if top1 else "-",
            f"{spec.macs / 1e9:.2f}",
            f"{spec.params / 1e6:.2f}",
        ]
        yield "| " + " | ".join(map(str, cells)) + " |"


def _name(path: Path, configs: Path) -> str:
    folder = path.relative_to(configs).parts[0]
    return path.stem if folder == "ImageNet" else f"{path.stem}, {folder}"


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", default="configs", type=Path, help="folder of the configurations (%(default)s)")
    configs = parser.parse_args(argv).configs
    print(recipe_table(configs), ours_table(configs), sep="\n\n")


if __name__ == "__main__":
    main()
