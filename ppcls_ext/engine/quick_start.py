"""The main job on real data, from nothing to a prediction: what ``tools/quick_start.py`` does.

Handwritten digits that scikit-learn carries become image files; a backbone trains on them through Paddle's launcher, is
evaluated, exported, and the exported files predict the held-out images again.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from rich.console import Console
from rich.table import Table

from ppcls_ext.config import load_config
from ppcls_ext.config.recipes import find_recipe
from ppcls_ext.data import build_dataset
from ppcls_ext.data.digits import prepare_digits
from ppcls_ext.engine.deploy.exporter import export
from ppcls_ext.engine.deploy.predictor import Predictor
from ppcls_ext.engine.evaluator import evaluate

DATA = Path("dataset/digits")
RECIPE = "quick_start/Sequencer2D_digits"


class QuickStartError(RuntimeError):
    """A step did not do what it should."""


@dataclass(frozen=True)
class Result:
    """What the quick start measured: accuracies in [0, 1], seconds, mebibytes."""

    eval_top1: float
    predict_top1: float
    images: int
    train_seconds: float
    train_peak_mib: float


def quick_start(root: Path, script: Path, config: Optional[Path] = None, overrides: tuple = ()) -> Result:
    """Prepare the digits, train, evaluate, export and predict.

    Args:
        root: folder for data and results, the working directory; relative paths in the config start there.
        script: what Paddle's launcher starts; it takes the words ``train -c …``.
        config: a config that trains on the digits; by default the small Sequencer2D.
        overrides: ``key=value`` pairs, as after ``-o``.

    Raises:
        QuickStartError: if training fails, or the exported model's accuracy is not the evaluated one's.
    """
    console = Console()
    config = config or find_recipe(RECIPE)
    say = lambda text: console.rule(f"[bold]{text}", align="left")  # noqa: E731

    say("1/5  data: scikit-learn's handwritten digits as image files")
    prepare_digits(root / DATA)

    say("2/5  train, through paddle.distributed.launch")
    output_dir = root / load_config(config, overrides).Global.output_dir
    command = [sys.executable, "-m", "paddle.distributed.launch", "--log_dir", str(output_dir / "log")]
    command += [str(script), "train", "-c", str(config)]
    for override in ("Global.overwrite=True", *overrides):  # the quick start may be repeated
        command += ["-o", override]
    console.print("[dim]" + " ".join(command), soft_wrap=True)
    started = time.monotonic()
    if subprocess.run(command, cwd=root, check=False).returncode != 0:
        raise QuickStartError("training failed; its log is above")
    seconds = time.monotonic() - started
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024

    weights = f"Global.pretrained_model={output_dir / 'best_model'}"
    say("3/5  evaluate best_model")
    evaluated = evaluate(load_config(config, [*overrides, weights], mode="eval"))

    say("4/5  export, with self-check")
    folder = export(load_config(config, [*overrides, weights], mode="export"))

    say("5/5  predict the held-out images with the exported files")
    held_out = build_dataset(load_config(config, overrides, mode="eval").section("DataLoader.Eval")["dataset"], "Eval")
    paths = [held_out.image_path(index) for index in range(len(held_out))]
    predictions = Predictor(folder, batch_size=64).predict(paths)
    right = sum(p["class_ids"][0] == label for p, label in zip(predictions, held_out.labels.tolist()))
    result = Result(evaluated["top1"], right / len(paths), len(paths), seconds, peak_mib)
    console.print(_table(result, predictions[0], output_dir, folder))
    if round(result.eval_top1 * len(paths)) != right:
        raise QuickStartError(
            f"the exported model is right on {right} of {len(paths)} images, the evaluated one on "
            f"{round(result.eval_top1 * len(paths))}"
        )
    return result


def _table(result: Result, example: dict, output_dir: Path, folder: Path) -> Table:
    table = Table(title="quick start", show_header=False)
    table.add_row("top-1, evaluated", f"{100 * result.eval_top1:.2f} % of {result.images} held-out images")
    table.add_row("top-1, exported files", f"{100 * result.predict_top1:.2f} %")
    table.add_row("training", f"{result.train_seconds:.0f} s, peak memory {result.train_peak_mib:.0f} MiB")
    best = f"{example['label_names'][0]} ({example['scores'][0]:.3f})"
    table.add_row("first prediction", f"{Path(example['file_name']).name}: {best}")
    table.add_row("checkpoints, log", str(output_dir))
    table.add_row("exported model", str(folder))
    return table
