"""Train the ablations of Sequencer and ViP on digits, over several seeds, and tabulate them.

    python tools/prepare_digits.py
    python benchmarks/ablations.py

trains each variant once per seed, evaluates the last epoch's weights (not the best ones by validation), and fills the
measured table of docs/*/ablations.md. Every finished run is written into ``benchmarks/results/ablations.json`` at once:
started again, the command leaves out what is finished and continues the run that was stopped. ``--output`` keeps the
runs, ``--results`` another file, which leaves the pages as they are.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Sequence

from benchmark_page import filled

from ppcls_ext.analysis.benchmark.caption import of_machine
from ppcls_ext.analysis.benchmark.columns import LANGUAGES
from ppcls_ext.analysis.benchmark.results import Report
from ppcls_ext.analysis.benchmark.tables import markdown_table
from ppcls_ext.analysis.machine import describe
from ppcls_ext.config import load_config
from ppcls_ext.engine.evaluator import evaluate
from ppcls_ext.engine.model import load_trained
from ppcls_ext.engine.train.checkpoint import checkpoint_names
from ppcls_ext.engine.train.output_dir import resume_own
from ppcls_ext.engine.train.trainer import train
from ppcls_ext.utils.checkpoint_path import LATEST
from ppcls_ext.utils.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "ablations.json"
EPOCHS, SEEDS = 6, (0, 1, 2)


class AblationError(ValueError):
    """The study cannot go on; the message says why."""


@dataclass(frozen=True)
class Variant:
    """A recipe of configs/quick_start and what is changed in its ``Arch``.

    Attributes:
        name: as the table shows it.
        recipe: file without suffix.
        changes: keys of ``Arch``; None takes one out.
    """

    name: str
    recipe: str
    changes: dict = field(default_factory=dict)

    @property
    def overrides(self) -> list[str]:
        """The changes as after ``-o``."""
        return [f"Arch.{key}={json.dumps(value)}" for key, value in self.changes.items()]


SEQUENCER, VIP = "Sequencer2D_digits", "ViP_digits"
#: As wide as two LSTMs of half the hidden size: the official ablations keep the cost.
WIDE = {"hidden_sizes": [32, 32]}
#: VSequencer has no hierarchy: the first patches are as large as those of Sequencer2D's second stage.
FLAT = {"name": "VSequencer", "patch_sizes": [4, 1], **WIDE}
#: The first of a recipe is what its others are compared with.
VARIANTS = (
    Variant("Sequencer2D", SEQUENCER),
    Variant("union: add", SEQUENCER, {"union": "add"}),
    Variant("without channel fusion", SEQUENCER, {"with_fc": False}),
    Variant("vertical only", SEQUENCER, {**WIDE, "union": "vertical", "with_fc": False}),
    Variant("horizontal only", SEQUENCER, {**WIDE, "union": "horizontal", "with_fc": False}),
    Variant("unidirectional", SEQUENCER, {"bidirectional": False}),
    Variant("hidden size x 2", SEQUENCER, WIDE),
    Variant("GRU", SEQUENCER, {"rnn_type": "gru"}),
    Variant("RNN (tanh)", SEQUENCER, {"rnn_type": "rnn"}),
    Variant("VSequencer", SEQUENCER, FLAT),
    Variant("VSequencer (H)", SEQUENCER, {**FLAT, "patch_sizes": [2, 2]}),
    Variant("VSequencer (PE)", SEQUENCER, {**FLAT, "use_pos_embed": True}),
    Variant("ViP, weighted", VIP),
    Variant("ViP, plain sum", VIP, {"weighted": False}),
    Variant("ViP, channels for height", VIP, {"height_branch": "channel"}),
    Variant("ViP, channels for width", VIP, {"width_branch": "channel"}),
)
#: Chinese names of what has English words in its own.
CHINESE = {
    "union: add": "合并方式：相加",
    "without channel fusion": "无通道融合",
    "vertical only": "仅垂直方向",
    "horizontal only": "仅水平方向",
    "unidirectional": "单向",
    "hidden size x 2": "隐藏宽度 ×2",
    "RNN (tanh)": "RNN（tanh）",
    "VSequencer (H)": "VSequencer（H）",
    "VSequencer (PE)": "VSequencer（PE）",
    "ViP, weighted": "ViP，加权",
    "ViP, plain sum": "ViP，直接求和",
    "ViP, channels for height": "ViP，高度分支换成通道",
    "ViP, channels for width": "ViP，宽度分支换成通道",
}


def base_of(variant: Variant) -> Variant:
    """Return what a variant is compared with: its recipe as it is."""
    return next(other for other in VARIANTS if other.recipe == variant.recipe)


# ---- running ---------------------------------------------------------------------------------------------------------


def study(
    variants: Sequence[Variant],
    seeds: Sequence[int],
    epochs: int,
    output: Path,
    results: Path,
    overrides: Sequence[str] = (),
) -> dict:
    """Train what is missing in the results, and return them.

    Args:
        variants: to train.
        seeds: of each.
        epochs: of each run.
        output: folder of the runs.
        results: file that is read first and written after each run.
        overrides: ``key=value`` for all trainings, as after ``-o``.

    Raises:
        AblationError: the results are of other settings.
    """
    found = read(results) or {"settings": {}, "machine": describe().model_dump(), "runs": []}
    settings = {"epochs": epochs, "overrides": list(overrides)}
    if found["runs"] and found["settings"] != settings:
        raise AblationError(
            f"{results} holds runs with {found['settings']}, not {settings}; give another file with --results, or "
            "delete it"
        )
    found["settings"] = settings
    for variant in variants:
        for seed in seeds:
            known = [run for run in found["runs"] if (run["variant"], run["seed"]) == (variant.name, seed)]
            if known and known[0]["arch"] == variant.changes:
                continue
            if known:
                raise AblationError(f"{results} holds a run of {variant.name!r} with {known[0]['arch']} changed")
            run = {"variant": variant.name, "seed": seed, "arch": variant.changes}
            run.update(_run(variant, seed, epochs, output, overrides))
            found["runs"].append(run)
            write(results, found)
            print(f"{variant.name}, seed {seed}: top-1 {run['top1']:.4f} in {run['seconds']:.0f} s", flush=True)
    return found


def _run(variant: Variant, seed: int, epochs: int, output: Path, overrides: Sequence[str]) -> dict:
    """Train a variant, or what is left of its training, and evaluate it."""
    config = ROOT / "configs" / "quick_start" / f"{variant.recipe}.yaml"
    folder = output / f"{epochs}_epochs" / _file_name(variant.name) / f"seed_{seed}"
    own = [*overrides, *variant.overrides, f"Global.seed={seed}", f"Global.output_dir={folder}"]
    own += [f"Global.epochs={epochs}", "Global.eval_during_train=False"]
    begin = time.monotonic()
    cfg = load_config(config, own)
    if LATEST in checkpoint_names(folder):
        resume_own(cfg)
    train(cfg)
    trained = load_config(config, [*own, f"Global.pretrained_model={folder / LATEST}"], mode="eval")
    figures = evaluate(trained)
    model = load_trained(trained, "counted")
    return {
        "top1": figures["top1"],
        "loss": figures["loss"],
        "params": sum(int(p.size) for p in model.parameters()),
        "seconds": round(time.monotonic() - begin, 1),
    }


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def read(path: Path) -> Optional[dict]:
    """Return the results in a file; None without one."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def write(path: Path, found: dict) -> None:
    """Write results, a line for each run."""
    runs = ",\n".join(json.dumps(run) for run in found["runs"])
    rest = {key: value for key, value in found.items() if key != "runs"}
    text = json.dumps(rest, ensure_ascii=False)[:-1] + f', "runs": [\n{runs}\n]}}\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8"))


# ---- showing ---------------------------------------------------------------------------------------------------------


def table(found: dict, language: str = "en", variants: Sequence[Variant] = VARIANTS) -> str:
    """Return the measured table: mean and standard deviation over the seeds, and the difference seed by seed."""
    english = language == "en"
    head = (
        ["Variant", "Params", "Top-1, %: mean ± sd", "Lowest–highest", "Difference, points", "Seeds"]
        if english
        else ["变体", "参数量", "Top-1，%：均值 ± 标准差", "最低–最高", "差值，百分点", "种子数"]
    )
    rows = []
    by_name = {variant.name: _by_seed(found, variant.name) for variant in variants}
    for variant in variants:
        runs = by_name[variant.name]
        if not runs:
            continue
        base = base_of(variant)
        top1 = [100 * run["top1"] for run in runs.values()]
        pairs = [100 * (run["top1"] - by_name[base.name][seed]["top1"]) for seed, run in runs.items()]
        rows.append(
            [
                variant.name if english else CHINESE.get(variant.name, variant.name),
                f"{next(iter(runs.values()))['params']:,}",
                spread(top1),
                f"{min(top1):.1f}–{max(top1):.1f}",
                "-" if variant is base else spread(pairs, signed=True),
                str(len(runs)),
            ]
        )
    return markdown_table([head, *rows], [False, True, True, True, True, True])


def _by_seed(found: dict, name: str) -> dict:
    return {run["seed"]: run for run in found["runs"] if run["variant"] == name}


def spread(values: Sequence[float], signed: bool = False) -> str:
    """Return mean and sample standard deviation; the mean alone of a single value."""
    mean = statistics.fmean(values)
    text = f"{mean:+.1f}" if signed else f"{mean:.1f}"
    return f"{text} ± {statistics.stdev(values):.1f}" if len(values) > 1 else text


def notes(found: dict, language: str = "en") -> str:
    """Return what stands beside the table."""
    epochs, count = found["settings"]["epochs"], len(found["runs"])
    minutes = sum(run["seconds"] for run in found["runs"]) / 60
    lines = (
        f"{count} runs of {epochs} epochs on 1,437 images, {minutes:.0f} minutes in all; evaluated on 360 images, of "
        "which one is 0.28 points"
        if language == "en"
        else f"共 {count} 次训练，每次在 1,437 张图像上训练 {epochs} 轮，合计 {minutes:.0f} 分钟；在 360 张图像上评估，"
        "一张图像为 0.28 个百分点"
    )
    report = Report.model_validate({"machine": found["machine"], "settings": {}})
    return "\n".join(f"- {line}" for line in [lines, *of_machine(report, language)])


def fill_pages(found: dict) -> None:
    """Fill the pages of both languages."""
    for language in LANGUAGES:
        path = ROOT / "docs" / language / "ablations.md"
        text = filled(path.read_text(encoding="utf-8"), {"measured": block(found, language)})
        write_atomically(path, lambda aside, text=text: aside.write_text(text, encoding="utf-8"))


def block(found: dict, language: str) -> str:
    """Return the measured part of a page."""
    return f"{table(found, language)}\n\n{notes(found, language)}"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the study that the command line asks for, print its table and fill the pages."""
    names = [variant.name for variant in VARIANTS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of each run (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--variants", nargs="+", default=names, choices=names, metavar="NAME", help="; ".join(names))
    parser.add_argument("-o", "--override", action="append", default=[], help="key=value for all trainings")
    parser.add_argument("--output", type=Path, default=Path("output/ablations"), help="folder of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the figures (default: the repository's)")
    arguments = parser.parse_args(argv)
    chosen = [variant for variant in VARIANTS if variant.name in arguments.variants]
    bases = [base_of(variant) for variant in chosen]
    try:
        found = study(
            [variant for variant in VARIANTS if variant in (*chosen, *bases)],
            arguments.seeds,
            arguments.epochs,
            arguments.output,
            arguments.results,
            arguments.override,
        )
    except AblationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(found))
    if arguments.results.resolve() == RESULTS:
        fill_pages(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
