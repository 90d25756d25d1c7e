"""What the doctor checks, each on its own: a function that returns a remark, or says why it failed or was skipped."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Callable

import numpy as np
import paddle
import yaml
from paddle.nn import functional as F

from ppcls_ext.analysis.doctor import networks
from ppcls_ext.analysis.doctor.diagnosis import with_this_package
from ppcls_ext.arch.layers.attention import HALVES, attention, has_fused_kernel
from ppcls_ext.config import load_config
from ppcls_ext.data.preprocess import build_transforms
from ppcls_ext.engine.deploy.engines.choice import ENGINES
from ppcls_ext.engine.deploy.exporter import export
from ppcls_ext.engine.deploy.inputs import inputs_of
from ppcls_ext.engine.deploy.predictor import Predictor
from ppcls_ext.engine.precision import Precision
from ppcls_ext.factory import create_backbone

#: Largest difference, relative to the largest value. Float32 sums in another order give about 1e-6; a GPU may compute
#: convolutions and products in TF32, which has ten bits.
TOLERANCE = {"cpu": 1e-4, "gpu": 1e-2}
#: Of a loss in half precision, relative to float32: bfloat16 has eight bits.
HALF_TOLERANCE = 0.05


class CheckFailed(RuntimeError):
    """The machine does not compute what it should; the message says what it gave."""


class Skipped(RuntimeError):
    """The check does not apply here; the message says why."""


def _kind(device: str) -> str:
    return device.partition(":")[0]


def _compare(found: np.ndarray, expected: np.ndarray, tolerance: float) -> str:
    if found.shape != expected.shape:
        raise CheckFailed(f"shape {list(found.shape)}; expected {list(expected.shape)}")
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not difference <= tolerance:  # NaN fails too
        raise CheckFailed(f"differs by {difference:.2g} of the largest value; {tolerance:g} is allowed")
    return f"differs by {difference:.1e}"


def check_golden(name: str) -> Callable[[str, float], str]:
    """Return the check that a small network gives on the device what it gives on a CPU."""

    def check(device: str, seconds: float) -> str:
        found = networks.logits(networks.build(name))
        return _compare(found, networks.golden()[name], TOLERANCE[_kind(device)])

    return check


def check_training(level: str, dtype: str) -> Callable[[str, float], str]:
    """Return the check of one training step of every network: the loss is right, and smaller after it."""

    def check(device: str, seconds: float) -> str:
        _check_precision(device, level, dtype)
        worst, worst_name = 0.0, ""
        for name in networks.NETWORKS:
            expected, _ = _losses_of_a_step(name, Precision())
            before, after = _losses_of_a_step(name, Precision(enabled=level != "O0", level=level, dtype=dtype))
            difference = abs(before - expected) / expected
            if not difference <= HALF_TOLERANCE:
                raise CheckFailed(f"{name}: the loss is {before:.4f}; in float32 it is {expected:.4f}")
            if not after < before:
                raise CheckFailed(f"{name}: the loss is {before:.4f} before a step and {after:.4f} after it")
            if difference >= worst:
                worst, worst_name = difference, name
        if level == "O0":
            return f"{len(networks.NETWORKS)} networks: the loss falls"
        return f"{len(networks.NETWORKS)} networks: the loss falls; at most {worst:.1e} from float32 ({worst_name})"

    return check


def _check_precision(device: str, level: str, dtype: str) -> None:
    if level == "O0":
        return
    if _kind(device) == "cpu":
        raise Skipped("Paddle trains in float32 on a CPU")
    supported = {"float16": paddle.amp.is_float16_supported, "bfloat16": paddle.amp.is_bfloat16_supported}[dtype]
    if not supported():
        raise Skipped(f"this device has no {dtype}")


def _losses_of_a_step(name: str, precision: Precision) -> tuple[float, float]:
    """Return the loss before and after one step of SGD on two images."""
    model = networks.build(name)
    model.train()
    optimizer = paddle.optimizer.Momentum(0.01, 0.0, parameters=model.parameters(), multi_precision=True)
    precision.decorate(model, optimizer)
    scaler = precision.scaler()
    x, labels = paddle.to_tensor(networks.images()), paddle.to_tensor(networks.labels())
    losses = []
    for step in range(2):
        with precision.autocast():
            output = model(x)
        loss = F.cross_entropy(output.astype("float32"), labels)
        losses.append(float(loss))
        if step == 1:
            break
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        optimizer.clear_grad()
    return losses[0], losses[1]


def check_fused_attention(device: str, seconds: float) -> str:
    """Compare the fused kernel with products and a softmax in float32."""
    shape = (2, 4, 49, 32)
    query, key, value = (np.random.default_rng(n).standard_normal(shape).astype(np.float32) for n in range(3))
    logits = query @ key.swapaxes(-1, -2) / np.sqrt(shape[-1])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    expected = weights / weights.sum(-1, keepdims=True) @ value
    remarks = []
    for dtype in HALVES:
        tensors = [paddle.to_tensor(x).astype(dtype) for x in (query, key, value)]
        if has_fused_kernel(tensors[0]):
            found = attention(*tensors).astype("float32").numpy()
            remarks.append(f"{str(dtype).rpartition('.')[2].lower()} {_compare(found, expected, 0.02)}")
    if not remarks:
        raise Skipped("Paddle has no fused kernel on this device")
    return ", ".join(remarks)


def check_processes(device: str, seconds: float) -> str:
    """Let two processes add numbers, over NCCL on two GPUs and over gloo otherwise."""
    cards = paddle.device.cuda.device_count() if _kind(device) == "gpu" else 0
    backend = "nccl" if cards >= 2 else "gloo"
    with tempfile.TemporaryDirectory(prefix="ppcls_ext-doctor-") as folder:
        command = [sys.executable, "-m", "paddle.distributed.launch", "--log_dir", folder]
        command += ["--gpus", "0,1"] if backend == "nccl" else ["--nproc_per_node", "2", "--backend", "gloo"]
        command += [str(Path(__file__).with_name("two_processes.py")), "gpu" if backend == "nccl" else "cpu", folder]
        environment = with_this_package(os.environ)
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
        sums = sorted(path.read_text() for path in Path(folder).glob("sum-*"))
    if done.returncode or sums != ["3.0", "3.0"]:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise CheckFailed(f"{backend}: the sums are {sums}; expected two of 3.0; {' '.join(last)}")
    return f"{backend}: two processes agree" + ("; NCCL needs two GPUs" if cards == 1 else "")


def check_export(device: str, seconds: float) -> str:
    """Export a small network and predict with every engine that is installed."""
    engines = [name for name, kind in ENGINES.items() if kind.installed()]
    has_onnx = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))
    image = (128 + 40 * networks.images()[0].transpose(1, 2, 0)).clip(0, 255).astype(np.uint8)
    with tempfile.TemporaryDirectory(prefix="ppcls_ext-doctor-") as name:
        folder = Path(name)
        weights = folder / "weights.pdparams"
        model = networks.build("Sequencer2D_S")
        paddle.save(model.state_dict(), str(weights))
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump(_export_config(weights, folder)), encoding="utf-8")
        made = export(load_config(config, mode="export"), ["default", "onnx"] if has_onnx else "default")
        remarks = []
        for engine in engines:
            if engine != "paddle" and not has_onnx:
                continue
            on_device = device if engine == "paddle" else "cpu"
            predictor = Predictor(made, engine=engine, device=on_device, topk=networks.CLASSES)
            expected = _probabilities(model, predictor, image)
            (result,) = predictor.predict(image)
            scores = dict(zip(result["class_ids"], result["scores"]))
            found = np.array([scores[index] for index in range(networks.CLASSES)])
            remarks.append(f"{engine} {_compare(found, expected, TOLERANCE[_kind(on_device)])}")
    return ", ".join(remarks)


def _export_config(weights: Path, folder: Path) -> dict:
    normalize = {"scale": "1.0/255.0", "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "order": ""}
    return {
        "Global": {
            "device": "cpu",
            "pretrained_model": str(weights),
            "save_inference_dir": str(folder / "inference"),
            "output_dir": str(folder / "output"),
            "image_shape": [3, networks.SIZE, networks.SIZE],
        },
        "Arch": {"name": "Sequencer2D_S", "class_num": networks.CLASSES, **networks.NETWORKS["Sequencer2D_S"]},
        "Infer": {
            "transforms": [
                {"DecodeImage": {"to_rgb": True, "channel_first": False}},
                {"NormalizeImage": normalize},
                {"ToCHWImage": None},
            ],
            "PostProcess": {"name": "Topk", "topk": networks.CLASSES},
        },
    }


def _probabilities(model: paddle.nn.Layer, predictor: Predictor, image: np.ndarray) -> np.ndarray:
    model.eval()
    (single,) = inputs_of(image)
    array = build_transforms(predictor.config.preprocessing)(single.content())
    with paddle.no_grad():
        return F.softmax(model(paddle.to_tensor(array[None])), axis=-1).numpy()[0]


def check_throughput(device: str, seconds: float) -> str:
    """Run ResNet50 forward, then training steps, for half of the time each."""
    batch = 8 if _kind(device) == "cpu" else 64
    model = create_backbone("ResNet50")
    x = paddle.randn([batch, 3, 224, 224])
    labels = paddle.zeros([batch], dtype="int64")
    optimizer = paddle.optimizer.AdamW(1e-3, parameters=model.parameters())

    def forward() -> None:
        model(x)

    def train() -> None:
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()
        optimizer.clear_grad()

    remarks = []
    for text, step, training in (("forward", forward, False), ("training", train, True)):
        model.train() if training else model.eval()
        with nullcontext() if training else paddle.no_grad():
            step()
            count, start = 0, _clock(device)
            while _clock(device) - start < seconds / 2:
                step()
                count += 1
            elapsed = _clock(device) - start
        remarks.append(f"{text} {batch * count / elapsed:.1f} images/s")
    return f"ResNet50, 224×224, float32, batches of {batch}: {', '.join(remarks)}"


def _clock(device: str) -> float:
    if _kind(device) == "gpu":
        paddle.device.synchronize()
    return time.perf_counter()


def check_device(device: str, seconds: float) -> str:
    """Multiply matrices of small whole numbers, which every precision computes exactly."""
    a = np.arange(64, dtype=np.float32).reshape(8, 8) % 7
    product = paddle.matmul(paddle.to_tensor(a), paddle.to_tensor(a.T))
    if not np.array_equal(product.numpy(), a @ a.T):
        raise CheckFailed("a product of small whole numbers is wrong")
    return f"computes on {product.place}"


#: In the order of the table.
CHECKS: dict[str, Callable[[str, float], str]] = {
    "device": check_device,
    **{f"golden output of {name}": check_golden(name) for name in networks.NETWORKS},
    "training in float32": check_training("O0", "float32"),
    "training in float16, O1": check_training("O1", "float16"),
    "training in float16, O2": check_training("O2", "float16"),
    "training in bfloat16, O1": check_training("O1", "bfloat16"),
    "training in bfloat16, O2": check_training("O2", "bfloat16"),
    "fused attention": check_fused_attention,
    "two processes": check_processes,
    "export and prediction": check_export,
    "throughput": check_throughput,
}
