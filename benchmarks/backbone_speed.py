"""Compare backbones with PaddleClas's own of the same name: time and memory.

    python benchmarks/backbone_speed.py [NAME ...] [--batch 1 8] [--rounds 9]

prints the table of docs/en/speed.md. Both models of a pair hold the same weights and give the same logits, which is
checked first. They run in turns, the first one of a round being the second of the next, and the median of the rounds'
ratios counts, with its quartiles: below 1, ours is faster. Processor time, of all threads together, stands beside the
time on the clock, since other work on the machine lengthens the one less than the other. Memory is by how much one pass
forward and backward lifts the peak of Paddle's allocator, which is the same in every run, and that of a fresh process,
whose heap keeps some of what was freed.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import logging
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ppcls_ext  # isort: skip - sets the number of threads, before Paddle is imported

import numpy as np
import paddle
from paddle import nn
from paddle.base import core
from paddle.utils import unique_name

from ppcls_ext.weights.conversion import convert_file

#: name: arguments that make ours the same network as PaddleClas's
BACKBONES: dict = {
    "ResNet18": {},
    "ResNet50": {},
    "ResNeXt50_32x4d": {},
    "Res2Net50_26w_4s": {},
    "Res2Net50_vd_26w_4s": {},
    "ViT_small_patch16_224": {},
    "ViT_base_patch16_224": {},
    "ViT_S_16_224": {},
    "SwinTransformer_tiny_patch4_window7_224": {"always_shift": True},
}
#: name: (module, class, arguments) of PaddleClas's where it has the network but not the name
UNNAMED = {
    "ViT_S_16_224": (
        "backbone.model_zoo.vision_transformer",
        "VisionTransformer",
        {"embed_dim": 384, "num_heads": 6, "qkv_bias": True, "epsilon": 1e-6},
    ),
}
SIZE = 224
MEASURED_SECONDS = 0.4  # at least, by one figure of one round: shorter passes are repeated


def build_theirs(name: str) -> nn.Layer:
    """Return PaddleClas's model."""
    module, factory, arguments = UNNAMED.get(name, ("backbone", name, {}))
    with unique_name.guard():  # some of its models name their parameters, which may exist once
        return getattr(importlib.import_module(f"paddleclas.ppcls.arch.{module}"), factory)(**arguments)


def build_ours(name: str, pretrained=False) -> nn.Layer:
    """Return this package's model."""
    return ppcls_ext.create_backbone(f"ppcls_ext.{name}", pretrained=pretrained, **BACKBONES[name])


def build_pair(name: str) -> tuple:
    """Return (ours, PaddleClas's) with PaddleClas's fresh weights in both."""
    paddle.seed(0)
    theirs = build_theirs(name)
    with tempfile.TemporaryDirectory() as folder:
        paddle.save(theirs.state_dict(), f"{folder}/theirs.pdparams")
        convert_file(name, f"{folder}/theirs.pdparams", f"{folder}/ours.pdparams", arguments=BACKBONES[name])
        return build_ours(name, f"{folder}/ours.pdparams"), theirs


def forward(model: nn.Layer, images: paddle.Tensor) -> paddle.Tensor:
    """One pass of evaluation."""
    with paddle.no_grad():
        return model(images)


def forward_backward(model: nn.Layer, images: paddle.Tensor) -> None:
    """One pass of training, without the optimizer's step."""
    model(images).mean().backward()
    for parameter in model.parameters():
        parameter.clear_gradient(set_to_zero=False)


def clocked(step, model: nn.Layer, images: paddle.Tensor, repeats: int) -> np.ndarray:
    """Return the seconds of a pass on the clock and of the processors."""
    begin = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        step(model, images)
    return (np.array([time.perf_counter(), time.process_time()]) - begin) / repeats


def ratios(step, pair: tuple, images: paddle.Tensor, rounds: int) -> tuple:
    """Return ours over PaddleClas's ``[round, clock and processors]`` and PaddleClas's seconds, the same shape."""
    for model in pair:
        step(model, images)
    fastest = min(clocked(step, model, images, 1)[0] for model in pair)
    repeats = max(1, round(MEASURED_SECONDS / fastest))
    seconds = np.empty([rounds, 2, 2])
    gc.disable()
    for i in range(rounds):
        for which in (0, 1) if i % 2 else (1, 0):
            seconds[i, which] = clocked(step, pair[which], images, repeats)
        gc.collect()
    gc.enable()
    return seconds[:, 0] / seconds[:, 1], seconds[:, 1]


def check_logits(pair: tuple, images: paddle.Tensor) -> None:
    """Raise an ``AssertionError`` if the two models do not give the same logits."""
    ours, theirs = (forward(model, images).numpy() for model in pair)
    np.testing.assert_allclose(ours / theirs.std(), theirs / theirs.std(), rtol=0, atol=1e-4)


def set_mode(pair: tuple, training: bool) -> None:
    """Switch both models."""
    for model in pair:
        model.train() if training else model.eval()


def peaks(name: str, batch: int, whose: str) -> list:
    """Return by how many bytes one pass lifts the peak of Paddle's allocator, and of a fresh process."""
    command = [sys.executable, __file__, name, "--batch", str(batch), "--peaks", whose]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(value) for value in run.stdout.split()[-2:]]


def print_peaks(name: str, batch: int, whose: str) -> None:
    """What the fresh process does: a pass with one image to load the kernels, then the one that is measured."""
    model = build_ours(name) if whose == "ours" else build_theirs(name)
    model.train()
    forward_backward(model, paddle.randn([1, 3, SIZE, SIZE]))
    images = paddle.randn([batch, 3, SIZE, SIZE])
    gc.collect()
    # Linux: forget the peak so far, that of building the model. ``ru_maxrss`` would begin with the parent's.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    resident = resident_bytes("VmRSS")
    allocated = core.host_memory_stat_current_value("Allocated", 0)
    forward_backward(model, images)
    print(core.host_memory_stat_peak_value("Allocated", 0) - allocated, resident_bytes("VmHWM") - resident)


def resident_bytes(kind: str) -> int:
    """Return the bytes of this process in memory: now (``VmRSS``) or at the peak (``VmHWM``)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(re.search(rf"{kind}:\s+(\d+) kB", status)[1])


def spread(values: np.ndarray) -> str:
    """Return the median and the quartiles."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{median:.2f} ({low:.2f}–{high:.2f})"


def row(name: str, pair: tuple, batch: int, rounds: int) -> list:
    """Return the cells of a model at a batch size."""
    images = paddle.randn([batch, 3, SIZE, SIZE])
    set_mode(pair, training=False)
    check_logits(pair, images)
    cells = [name, str(batch)]
    for step in (forward, forward_backward):
        set_mode(pair, training=step is forward_backward)
        values, theirs = ratios(step, pair, images, rounds)
        cells += [f"{np.median(theirs[:, 0]) * 1e3:.0f} ms", spread(values[:, 0]), spread(values[:, 1])]
    ours, theirs = (peaks(name, batch, whose) for whose in ("ours", "theirs"))
    return cells + [f"{a / 1e6:.0f} / {b / 1e6:.0f}" for a, b in zip(ours, theirs)]


def main() -> None:
    """Print one Markdown table: times of PaddleClas's models and of ours as a part of them, and peaks of both in MB."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BACKBONES)}; default: all")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8], help="images of a pass; default: 1 8")
    parser.add_argument("--rounds", type=int, default=9, help="default: 9")
    parser.add_argument("--peaks", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BACKBONES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(BACKBONES)}")
    if arguments.peaks:
        print_peaks(arguments.names[0], arguments.batch[0], arguments.peaks)
        return
    logging.getLogger("ppcls_ext").setLevel(logging.ERROR)
    print(
        "| Model | Batch | PaddleClas<br>forward | wall time<br>ratio | CPU time<br>ratio "
        "| PaddleClas<br>forward + backward | wall time<br>ratio | CPU time<br>ratio "
        "| peak memory, MB<br>ppcls_ext / PaddleClas | process growth, MB<br>ppcls_ext / PaddleClas |"
    )
    print("| :-- | --: | --: | :-- | :-- | --: | :-- | :-- | :-- | :-- |")
    for name in arguments.names or BACKBONES:
        pair = build_pair(name)
        for batch in arguments.batch:
            print(f"| {' | '.join(row(name, pair, batch, arguments.rounds))} |", flush=True)


if __name__ == "__main__":
    main()
