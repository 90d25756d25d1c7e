"""What class weights and samplers by class do for rare classes: digits with few images of some classes.

    python tools/prepare_digits.py
    python benchmarks/imbalance.py --data dataset/digits --seeds 5

Class c keeps n_c = round(n * ratio ** (c / 9)) of its training images, so that class 9 has `ratio` times as many as
class 0. All validation images stay. Each setting trains configs/quick_start/ResNet_digits.yaml once for each seed, on
the same images; the table gives mean and standard deviation over the seeds after the last epoch (docs/en/training.md).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that a plain clone works

import numpy as np  # noqa: E402

from ppcls_ext.config import load_config  # noqa: E402
from ppcls_ext.engine.train.trainer import train  # noqa: E402

CE = {"CELoss": {"weight": 1.0, "epsilon": 0.1}}
USUAL = {"name": "DistributedBatchSampler", "batch_size": 32, "shuffle": True}
#: Setting -> loss and sampler of training.
SETTINGS = {
    "plain": (CE, USUAL),
    "CELoss.class_weights: balanced": ({"CELoss": {**CE["CELoss"], "class_weights": "balanced"}}, USUAL),
    "FocalLoss, gamma 2": ({"FocalLoss": {"gamma": 2.0}}, USUAL),
    "ClassBalancedSampler": (CE, {"name": "ClassBalancedSampler", "batch_size": 32}),
    "RepeatFactorSampler, threshold 0.1": (
        CE,
        {"name": "RepeatFactorSampler", "batch_size": 32, "repeat_threshold": 0.1},
    ),
}
METRICS = [{"TopkAcc": {"topk": [1]}}, {"Recall": {"average": ["macro"]}}, {"F1": {"average": ["macro"]}}]


def write_imbalanced(source: Path, target: Path, ratio: float) -> list[int]:
    """Write a list with fewer images of later classes; return how many each class keeps."""
    by_class = defaultdict(list)
    for line in source.read_text(encoding="utf-8").splitlines():
        by_class[int(line.split()[1])].append(line)
    kept = {label: lines[: round(len(lines) * ratio ** (label / 9))] for label, lines in sorted(by_class.items())}
    target.write_text("".join(f"{line}\n" for lines in kept.values() for line in lines), encoding="utf-8")
    return [len(lines) for lines in kept.values()]


def figures_of(folder: Path, data: Path, labels: Path, setting: str, seed: int, epochs: int) -> dict:
    """Train once and return the figures of the last evaluation."""
    import yaml

    config = yaml.safe_load((ROOT / "configs/quick_start/ResNet_digits.yaml").read_text(encoding="utf-8"))
    loss, sampler = SETTINGS[setting]
    config["Loss"]["Train"], config["DataLoader"]["Train"]["sampler"] = [loss], sampler
    config["Metric"]["Eval"] = METRICS
    for split, path in (("Train", labels), ("Eval", data / "val_list.txt")):
        config["DataLoader"][split]["dataset"].update(image_root=str(data), cls_label_path=str(path))
    config["Global"].update(
        output_dir=str(folder / "run"), seed=seed, epochs=epochs, eval_interval=epochs, overwrite=True
    )
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return train(load_config(path, mode="train"))["history"][-1]


def main() -> None:
    """Train all settings and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "dataset/digits", help="folder of the digits")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--ratio", type=float, default=0.02, help="images of class 9 by those of class 0")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kept = write_imbalanced(arguments.data / "train_list.txt", folder / "train.txt", arguments.ratio)
        found: dict[str, list] = {setting: [] for setting in SETTINGS}
        for seed in range(arguments.seeds):  # settings within a seed, so that a stop leaves whole seeds
            for setting, results in found.items():
                results.append(
                    figures_of(folder, arguments.data, folder / "train.txt", setting, seed, arguments.epochs)
                )
    print(f"images of classes 0 to 9: {kept}; {arguments.epochs} epochs, {arguments.seeds} seeds")
    names = ["top1", "recall_macro", "f1_macro"]
    print("| setting | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1))
    for setting, results in found.items():
        cells = []
        for key in names:
            values = 100 * np.array([result[f"eval_{key}"] for result in results])
            cells.append(f"{values.mean():.1f} ± {values.std(ddof=1):.1f}")
        print(f"| {setting} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
