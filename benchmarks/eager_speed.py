"""Compare eager mode with PyTorch's, model by model: the forward pass and the training step on a CPU.

    python benchmarks/eager_speed.py                        # all models
    python benchmarks/eager_speed.py ViT_S_16_224 --batch 8 --rounds 9
    python benchmarks/eager_speed.py ViP_Small_7 --torch ViP_Small_7=their_module:make_model
    python benchmarks/eager_speed.py Sequencer2D_S --before ../older-checkout

prints the table of docs/en/speed.md. A training step is forward, cross-entropy, backward and AdamW. Each framework runs
in a process of its own, and they take turns: the ratios of the rounds count, by their median and quartiles. Processor
time, of all threads together, stands beside the time on the clock, which other work on the machine lengthens more.

PyTorch and timm are optional: where they are missing, or timm has no such model and ``--torch`` names no other, only
ours is measured. ``--before`` compares with another checkout of this repository as well.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

#: Ours: the same network in timm, if it has it.
MODELS = {
    "Sequencer2D_S": "sequencer2d_s",
    "ViP_Small_7": None,
    "DilateFormer_Tiny": None,
    "SwinTransformer_tiny_patch4_window7_224": "swin_tiny_patch4_window7_224",
    "ViT_S_16_224": "vit_small_patch16_224",
    "ResNet50": "resnet50",
}
STEPS = ("forward", "training step")
SIZE = 224
CLASSES = 1000
DROP_PATH = 0.1  # of both sides, except ResNet50
ROOT = Path(__file__).resolve().parents[1]


def ours(name: str, batch: int) -> dict:
    """Return the two steps of a backbone of ppcls_ext, as functions without arguments."""
    import ppcls_ext  # isort: skip - sets the number of threads, before Paddle is imported
    import paddle

    paddle.seed(0)
    options = {} if name.startswith("ResNet") else {"drop_path_rate": DROP_PATH}
    model = ppcls_ext.create_backbone(f"ppcls_ext.{name}", **options)
    optimizer = paddle.optimizer.AdamW(learning_rate=1e-4, parameters=model.parameters())
    images, labels = paddle.randn([batch, 3, SIZE, SIZE]), paddle.randint(0, CLASSES, [batch])

    def forward() -> None:
        model.eval()
        with paddle.no_grad():
            model(images)

    def training_step() -> None:
        model.train()
        paddle.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.clear_grad(set_to_zero=False)

    return dict(zip(STEPS, (forward, training_step)))


def theirs(source: str, batch: int) -> dict:
    """Return the same of a PyTorch model: ``module:function`` that makes it, or a name in timm."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    options = {} if source.startswith("resnet") else {"drop_path_rate": DROP_PATH}
    module, _, function = source.partition(":")
    if function:
        model = getattr(importlib.import_module(module), function)(**options)
    else:
        import timm

        model = timm.create_model(source, **options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    images, labels = torch.randn(batch, 3, SIZE, SIZE), torch.randint(0, CLASSES, (batch,))

    def forward() -> None:
        model.eval()
        with torch.no_grad():
            model(images)

    def training_step() -> None:
        model.train()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return dict(zip(STEPS, (forward, training_step)))


def serve(maker: str, source: str, batch: int) -> None:
    """What a child process does: for each line ``repeats step``, print the seconds on the clock and of processors."""
    steps = {"ours": ours, "theirs": theirs}[maker](source, batch)
    for line in sys.stdin:
        repeats, _, step = line.strip().partition(" ")
        begin = time.perf_counter(), time.process_time()
        for _ in range(int(repeats)):
            steps[step]()
        print(*((np.array([time.perf_counter(), time.process_time()]) - begin) / int(repeats)), flush=True)


class Child:
    """A process that holds one model of one framework."""

    def __init__(self, maker: str, source: str, batch: int, threads: int, root: Path = ROOT):
        count = str(threads)
        path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
        env = {**os.environ, "OMP_NUM_THREADS": count, "FLAGS_paddle_num_threads": count, "PYTHONPATH": path}
        command = [sys.executable, __file__, "--serve", maker, source, str(batch)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self._process = subprocess.Popen(command, env=env, **pipes)

    def run(self, step: str, repeats: int = 1) -> np.ndarray:
        """Return the seconds of one of ``repeats`` steps, on the clock and of the processors."""
        self._process.stdin.write(f"{repeats} {step}\n")
        return np.array([float(value) for value in self._process.stdout.readline().split()[-2:]])

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def compare(children: list, step: str, rounds: int, least: float) -> np.ndarray:
    """Return seconds ``[round, child, clock and processors]``; a figure takes ``least`` seconds or more to measure."""
    for child in children:
        child.run(step, 2)
    repeats = [max(1, round(least / child.run(step)[0])) for child in children]
    seconds = np.empty([rounds, len(children), 2])
    for i in range(rounds):
        for which in sorted(range(len(children)), reverse=bool(i % 2)):
            seconds[i, which] = children[which].run(step, repeats[which])
    return seconds


def spread(values: np.ndarray) -> str:
    """Return the median and the quartiles."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{median:.2f} ({low:.2f}–{high:.2f})"


def torch_source(name: str, given: dict) -> str | None:
    """Return where the PyTorch model of this name comes from, None if it cannot be had."""
    source = given.get(name, MODELS[name])
    needed = ["torch"] if source and ":" in source else ["torch", "timm"]
    return source if source and all(map(importlib.util.find_spec, needed)) else None


def main() -> None:
    """Print one Markdown table: milliseconds of ours, and ratios to PyTorch's and to another checkout's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODELS)}; default: all")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8], help="images of a pass; default: 1 8")
    parser.add_argument("--rounds", type=int, default=9, help="default: 9")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all cores")
    parser.add_argument("--least", type=float, default=0.5, help="seconds that a figure takes at least; default: 0.5")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--torch", nargs="+", default=[], metavar="NAME=MODULE:FUNCTION", help="PyTorch models")
    parser.add_argument("--before", type=Path, help="root of another checkout of this repository")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        maker, source, batch = arguments.serve
        serve(maker, source, int(batch))
        return
    unknown = set(arguments.names) - set(MODELS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(MODELS)}")
    given = dict(pair.split("=", 1) for pair in arguments.torch)
    print("| Model | Batch | Step | ppcls_ext | compared with | wall time ratio | CPU time ratio |")
    print("| :-- | --: | :-- | --: | :-- | :-- | :-- |")
    for name in arguments.names or MODELS:
        for batch in arguments.batch:
            children = {"ours": Child("ours", name, batch, arguments.threads)}
            if torch_source(name, given):
                children["PyTorch"] = Child("theirs", torch_source(name, given), batch, arguments.threads)
            if arguments.before:
                children["before"] = Child("ours", name, batch, arguments.threads, arguments.before.resolve())
            for step in arguments.steps:
                seconds = compare(list(children.values()), step, arguments.rounds, arguments.least)
                cells = [name, str(batch), step, f"{np.median(seconds[:, 0, 0]) * 1e3:.0f} ms"]
                if len(children) == 1:
                    print(f"| {' | '.join([*cells, '', '', ''])} |", flush=True)
                for which, other in list(enumerate(children))[1:]:
                    ratios = seconds[:, 0] / seconds[:, which]
                    row = [*cells, other, spread(ratios[:, 0]), spread(ratios[:, 1])]
                    print(f"| {' | '.join(row)} |", flush=True)
            for child in children.values():
                child.close()


if __name__ == "__main__":
    main()
