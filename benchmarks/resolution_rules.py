"""How well does Vision Permutator work at image sizes that it was not trained at, by the rule that makes its weights?

    python tools/prepare_digits.py
    python benchmarks/resolution_rules.py -c configs/quick_start/ViP_digits.yaml

trains the config's model once per seed at the config's size, evaluates every model at other sizes with every rule, and
prints the table of the model page: mean top-1 over the seeds, and in brackets the lowest and highest. Images are
resized and cropped in proportion, so all sizes show the same part of an image. Beside the rules that a model can be
told to use, other kernels are compared.
"""

from __future__ import annotations

import argparse
import functools
import json
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional, Sequence

from ppcls_ext.analysis.resolution import transforms_at_resolution
from ppcls_ext.arch.layers import axis_linear
from ppcls_ext.config import load_config
from ppcls_ext.engine.evaluator import evaluate
from ppcls_ext.engine.train.trainer import train

SIZES = (8, 12, 20, 24, 32)
SEEDS = tuple(range(10))
#: The rules of a model, and others with other kernels, which are rules while the study runs.
RULES = {
    **{
        f"resample, {kernel}{'' if antialias else ', no antialias'}": functools.partial(
            axis_linear.resample, kernel=kernel, antialias=antialias
        )
        for kernel, antialias in (
            ("linear", True),
            ("linear", False),
            ("cubic", True),
            ("cubic", False),
            ("area", True),
        )
    },
    "pool, linear": functools.partial(axis_linear.pool, kernel="linear"),
    "pool, cubic": functools.partial(axis_linear.pool, kernel="cubic"),
    "pad": axis_linear.pad,
}


def study(
    config: Path,
    seeds: Sequence[int] = SEEDS,
    sizes: Sequence[int] = SIZES,
    rules: Sequence[str] = tuple(RULES),
    overrides: Sequence[str] = (),
) -> dict:
    """Train one model per seed and evaluate it by every rule, at the config's size and the others.

    The last epoch's weights are used, not the best by validation.

    Args:
        config: A config whose ``Arch`` takes ``resize_rule`` and whose evaluation resizes the short side, then crops.
        seeds: Of the trainings.
        sizes: Sides of the square images, besides the config's own.
        rules: Names of :data:`RULES`.
        overrides: ``key=value`` pairs for the trainings, as after ``-o``.

    Returns:
        ``{rule: {size: [top-1 of each seed, in [0, 1]]}}``.
    """
    base = load_config(config, overrides)
    native = base.Global.image_shape[-1]
    results: dict = {rule: {size: [] for size in sorted({native, *sizes})} for rule in rules}
    for seed in seeds:
        folder = Path(base.Global.output_dir) / f"seed_{seed}"
        own = [*overrides, f"Global.seed={seed}", f"Global.output_dir={folder}"]
        train(load_config(config, own))
        with _all_rules():
            for rule, by_size in results.items():
                for size, figures in by_size.items():
                    at_size = [*own, f"Global.pretrained_model={folder / 'latest'}", f"Arch.resize_rule={rule}"]
                    at_size += _evaluation_at(base, size, native)
                    figures.append(evaluate(load_config(config, at_size, mode="eval"))["top1"])
    return results


def _evaluation_at(base, size: int, native: int) -> list[str]:
    """Return the overrides that scale the evaluation's resizing and cropping from ``native`` pixels to ``size``."""
    operators = base.section("DataLoader.Eval")["dataset"]["transform_ops"]
    scaled = transforms_at_resolution(operators, (native, native), (size, size))
    return [
        f"Global.image_shape=[{base.Global.image_shape[0]},{size},{size}]",
        f"DataLoader.Eval.dataset.transform_ops={json.dumps(scaled)}",
    ]


@contextmanager
def _all_rules() -> Iterator[None]:
    """Let a model be built with any rule of the study."""
    own = dict(axis_linear.RULES)
    axis_linear.RULES.update(RULES)
    try:
        yield
    finally:
        axis_linear.RULES.clear()
        axis_linear.RULES.update(own)


def table(results: dict) -> str:
    """Return the results as a Markdown table of percentages."""
    sizes = list(next(iter(results.values())))
    rows = ["| Rule | " + " | ".join(map(str, sizes)) + " |", "|" + " :--: |" * (len(sizes) + 1)]
    for rule, by_size in results.items():
        cells = [
            f"{100 * sum(figures) / len(figures):.1f} ({100 * min(figures):.1f}–{100 * max(figures):.1f})"
            for figures in by_size.values()
        ]
        rows.append(f"| {rule} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Run the study that the command line asks for and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-c", "--config", type=Path, required=True)
    parser.add_argument("-o", "--override", action="append", default=[], help="key=value for the trainings")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=RULES)
    arguments = parser.parse_args(argv)
    print(table(study(arguments.config, arguments.seeds, arguments.sizes, arguments.rules, arguments.override)))


if __name__ == "__main__":
    main()
