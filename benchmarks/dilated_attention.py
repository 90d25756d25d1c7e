"""Compare ways to compute multi-scale dilated attention: time and memory.

    python benchmarks/dilated_attention.py

prints the table of the model pages. A form takes tokens ``[N, H, W, C]`` and the projection to queries, keys and
values, and returns ``[N, H, W, C]``; all give the same numbers, which is checked first. Forms run in turns and the
median counts, so that a busy machine slows all of them down. The table's last columns are what a forward pass keeps
for the backward pass, the peak of Paddle's allocator in a training step, and that of a fresh process, whose heap keeps
some of what was freed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ppcls_ext  # noqa: F401 isort: skip - sets the number of threads, before Paddle is imported

import numpy as np
import paddle
from paddle import nn
from paddle.base import core
from paddle.nn import functional as F

from ppcls_ext.arch.layers.dilated_attention import DilatedAttention, _attend
from ppcls_ext.engine.deploy.engines.base import Engine
from ppcls_ext.engine.deploy.engines.graphs import GraphFiles
from ppcls_ext.engine.deploy.engines.paddle_engine import PaddleEngine

sys.path.append(str(Path(__file__).parents[1] / "tests" / "arch"))
from dilated_attention_forms import unfold_module

DILATIONS, SIZE = [1, 2, 3], 3
CASES = [(56, 72, 3, 1), (56, 72, 3, 8), (28, 144, 6, 1), (28, 144, 6, 8)]  # height and width, C, heads, batch
ROUNDS = {1: 9, 8: 3}  # by batch


def split(x, weight, bias, heads: int) -> list:
    """Return (scaled query, key, value) of each dilation, channels last."""
    scale = (x.shape[-1] // heads) ** -0.5
    groups = F.linear(x, weight, bias).chunk(3 * len(DILATIONS), axis=-1)
    return [(groups[i] * scale, *groups[i + 3 :: 3]) for i in range(len(DILATIONS))]


def package(x, weight, bias, heads: int):
    """What the package does: place by place, with a derivative written by hand."""
    layer = DilatedAttention(x.shape[-1], heads, DILATIONS, SIZE, True, 0.0)
    layer.qkv.weight, layer.qkv.bias, layer.proj = weight, bias, nn.Identity()
    return layer(x)


def without_derivative(x, weight, bias, heads: int):
    """The same forward pass, differentiated by the framework, which keeps every product."""
    outputs = []
    for (query, key, value), dilation in zip(split(x, weight, bias, heads), DILATIONS):
        outputs.append(_attend(query, key, value, heads // len(DILATIONS), SIZE, dilation, [])[0])
    return paddle.concat(outputs, axis=-1)


def unfold(x, weight, bias, heads: int):
    """Nine copies of keys and values, batched products."""
    return unfold_module(x, weight, bias, heads, SIZE, DILATIONS)


def neighbours(x, dilation: int, axis: int) -> list:
    """Return the nine shifted views of a map whose height is ``axis`` and whose width follows."""
    height, width = x.shape[axis : axis + 2]
    x = F.pad(x, [dilation] * 4, data_format="NHWC" if axis == 1 else "NCHW")
    views = []
    for i in range(SIZE**2):
        row, column = dilation * (i // SIZE), dilation * (i % SIZE)
        views.append(x.slice([axis, axis + 1], [row, column], [row + height, column + width]))
    return views


def shifts(x, weight, bias, heads: int):
    """Shifted views; sums and broadcasts over the channels of a head, channels last."""
    outputs = []
    for (query, key, value), dilation in zip(split(x, weight, bias, heads), DILATIONS):
        shape = [0, 0, 0, heads // len(DILATIONS), -1]
        query = query.reshape(shape)
        logits = [(query * view.reshape(shape)).sum(axis=-1) for view in neighbours(key, dilation, 1)]
        parts = F.softmax(paddle.stack(logits, axis=-1), axis=-1).split(SIZE**2, axis=-1)
        views = neighbours(value, dilation, 1)
        outputs.append(sum(part * view.reshape(shape) for part, view in zip(parts, views)).flatten(3))
    return paddle.concat(outputs, axis=-1)


def shifts_first(x, weight, bias, heads: int):
    """Shifted views, channels first."""
    n, height, width, channels = x.shape
    kernel = weight.transpose([1, 0]).reshape([3 * channels, channels, 1, 1])
    groups = F.conv2d(x.transpose([0, 3, 1, 2]), kernel, bias).chunk(3 * len(DILATIONS), axis=1)
    shape = [n, heads // len(DILATIONS), channels // heads, height, width]
    outputs = []
    for i, dilation in enumerate(DILATIONS):
        query = groups[i].reshape(shape) * shape[2] ** -0.5
        views = neighbours(groups[i + 3], dilation, 2)
        logits = [(query * view.reshape(shape)).sum(axis=2, keepdim=True) for view in views]
        parts = F.softmax(paddle.stack(logits), axis=0).unbind()
        views = neighbours(groups[i + 6], dilation, 2)
        outputs.append(sum(part * view.reshape(shape) for part, view in zip(parts, views)).flatten(1, 2))
    return paddle.concat(outputs, axis=1).transpose([0, 2, 3, 1])


def window_index(height: int, width: int) -> np.ndarray:
    """Return ``[dilation, pixel, key]``: rows of the table of all dilations' tokens, each with a row of zeros last."""
    y, x = np.mgrid[:height, :width]
    steps = np.arange(SIZE) - SIZE // 2
    tables = []
    for i, dilation in enumerate(DILATIONS):
        rows = y.reshape(-1, 1, 1) + dilation * steps[:, None]
        columns = x.reshape(-1, 1, 1) + dilation * steps[None]
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        index = np.where(inside, rows * width + columns, height * width) + i * (height * width + 1)
        tables.append(index.reshape(height * width, -1))
    return np.stack(tables)


def gather(x, weight, bias, heads: int):
    """One gather of the windows of all dilations, batched products."""
    n, height, width, channels = x.shape
    count, pixels = len(DILATIONS), height * width
    qkv = F.linear(x, weight, bias).reshape([n, pixels, 3, count, channels // count]).transpose([2, 3, 1, 0, 4])
    query, table = qkv[0] * (channels // heads) ** -0.5, F.pad(qkv[1:], [0, 0, 0, 0, 0, 1, 0, 0, 0, 0])
    index = paddle.to_tensor(window_index(height, width).reshape(-1))
    split_heads = [count, pixels, n, heads // count, 1, channels // heads]

    def windows(part):
        rows = paddle.gather(part.reshape([count * (pixels + 1), -1]), index)
        rows = rows.reshape([count, pixels, SIZE**2, n, heads // count, channels // heads])
        return rows.transpose([0, 1, 3, 4, 2, 5])

    probabilities = F.softmax(paddle.matmul(query.reshape(split_heads), windows(table[0]), transpose_y=True), axis=-1)
    return paddle.matmul(probabilities, windows(table[1])).transpose([2, 1, 0, 3, 4, 5]).reshape(x.shape)


FORMS = {
    "unfold": unfold,
    "shifted views, channels last": shifts,
    "shifted views, channels first": shifts_first,
    "one gather": gather,
    "package, framework's derivative": without_derivative,
    "package": package,
}


def tensors(side: int, channels: int, batch: int) -> list:
    """Return tokens, weight and bias, all of which want gradients."""
    paddle.seed(0)
    made = [paddle.randn([batch, side, side, channels]), paddle.randn([channels, 3 * channels]) * channels**-0.5]
    made.append(paddle.randn([3 * channels]))
    made = [paddle.create_parameter(t.shape, "float32", default_initializer=nn.initializer.Assign(t)) for t in made]
    return made


class Traced(nn.Layer):
    """A form as a layer, to export it."""

    def __init__(self, form, parameters: list, heads: int):
        super().__init__()
        self.form, self.weight, self.bias, self.heads = form, parameters[1], parameters[2], heads

    def forward(self, x):
        """Take and return ``[N, H, W, C]``."""
        return self.form(x, self.weight, self.bias, self.heads)


def exported(form, parameters: list, heads: int, folder: Path) -> Engine:
    """Save a form's graph for the shape of the tokens and open it in the inference engine."""
    spec = [paddle.static.InputSpec(parameters[0].shape, "float32")]
    layer = Traced(form, parameters, heads)
    layer.eval()
    paddle.jit.save(paddle.jit.to_static(layer, input_spec=spec, full_graph=True), str(folder / "inference"))
    graph = next(path for path in folder.glob("inference.*") if path.suffix in (".json", ".pdmodel"))
    return PaddleEngine(GraphFiles(graph, ("output",)))


def train(form, parameters: list, heads: int):
    """One forward and backward pass; return the output."""
    output = form(*parameters, heads)
    output.sum().backward()
    for parameter in parameters:
        parameter.clear_gradient()
    return output


def kept(form, parameters: list, heads: int) -> int:
    """Return the bytes that a forward pass keeps for the backward pass, shared memory counted once."""
    spans = []

    def keep(tensor):
        spans.append((tensor.data_ptr(), tensor.data_ptr() + tensor.size * tensor.element_size()))
        return tensor

    with paddle.autograd.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = form(*parameters, heads)
    total = end = 0
    for first, last in sorted(spans):
        total += max(0, last - max(first, end))
        end = max(end, last)
    del output
    return total


def peaks(name: str, case: int) -> list:
    """Return by how many bytes one training step lifts the peak of Paddle's allocator, and of a fresh process."""
    command = [sys.executable, __file__, "--peaks", name, "--case", str(case)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(value) for value in run.stdout.split()[-2:]]


def print_peaks(name: str, case: int) -> None:
    """What the fresh process does: a small step to load the kernels, then the one that is measured."""
    side, channels, heads, batch = CASES[case]
    train(FORMS[name], tensors(4, channels, 1), heads)
    parameters = tensors(side, channels, batch)
    # Linux: forget the peak so far, that of importing Paddle. ``ru_maxrss`` would begin with the parent's.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    resident = resident_bytes("VmRSS")
    allocated = core.host_memory_stat_current_value("Allocated", 0)
    train(FORMS[name], parameters, heads)
    print(core.host_memory_stat_peak_value("Allocated", 0) - allocated, resident_bytes("VmHWM") - resident)


def resident_bytes(kind: str) -> int:
    """Return the bytes of this process in memory: now (``VmRSS``) or at the peak (``VmHWM``)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(re.search(rf"{kind}:\s+(\d+) kB", status)[1])


def measure(case: int) -> dict:
    """Return the figures of every form: seconds run, trained and exported; bytes kept and at both peaks."""
    side, channels, heads, batch = CASES[case]
    parameters = tensors(side, channels, batch)
    times: dict = {name: ([], [], []) for name in FORMS}
    with tempfile.TemporaryDirectory() as folder:
        runners = {}
        for i, (name, form) in enumerate(FORMS.items()):
            (Path(folder) / str(i)).mkdir()
            runners[name] = exported(form, parameters, heads, Path(folder) / str(i))
        tokens = parameters[0].numpy()
        expected = unfold(*parameters, heads).numpy()
        for name, form in FORMS.items():
            for output in (form(*parameters, heads).numpy(), runners[name](tokens)):
                np.testing.assert_allclose(output, expected, atol=2e-5, err_msg=name)
        for _ in range(ROUNDS[batch]):
            for name, form in FORMS.items():
                with paddle.no_grad():
                    begin = time.perf_counter()
                    form(*parameters, heads)
                    times[name][0].append(time.perf_counter() - begin)
                begin = time.perf_counter()
                train(form, parameters, heads)
                times[name][1].append(time.perf_counter() - begin)
                begin = time.perf_counter()
                runners[name](tokens)
                times[name][2].append(time.perf_counter() - begin)
    figures = {name: [float(np.median(values)) for values in times[name]] for name in FORMS}
    for name, form in FORMS.items():
        figures[name].append(kept(form, parameters, heads))
        figures[name] += peaks(name, case) if batch == 8 else [None, None]
    return figures


def main() -> None:
    """Print one Markdown table: every figure of the unfold form, and of the others as a part of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peaks", choices=FORMS, help=argparse.SUPPRESS)
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peaks:
        print_peaks(arguments.peaks, arguments.case)
        return
    print("| Map, channels, batch | Form | forward | forward + backward | exported | kept | peak | process |")
    print("| :-- | :-- | --: | --: | --: | --: | --: | --: |")
    for case, (side, channels, _, batch) in enumerate(CASES):
        figures = measure(case)
        base = figures["unfold"]
        for name, row in figures.items():
            if name == "unfold":
                cells = [f"{value * 1e3:.0f} ms" for value in row[:3]]
                cells += ["-" if value is None else f"{value / 1e6:.0f} MB" for value in row[3:]]
            else:
                cells = ["-" if value is None else f"{value / whole:.2f}" for value, whole in zip(row, base)]
            label = f"{side}×{side}, {channels}, {batch}" if name == "unfold" else ""
            print(f"| {label} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
