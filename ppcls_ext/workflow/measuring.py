"""What the rules of fine-tuning have to know of a network and of the machine, found out by looking."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Optional

import paddle
from paddle import nn

from ppcls_ext import registry
from ppcls_ext.config.finetuning.facts import MachineFacts, NetworkFacts
from ppcls_ext.factory import PADDLECLAS, create_backbone, named_factory
from ppcls_ext.registry import Preprocessing

#: For networks of PaddleClas, whose stages halve the image five times.
DEFAULT_MULTIPLE = 32


def name_in_yaml(arch: str) -> str:
    """Return ``Arch.name`` for a command's word.

    Raises:
        KeyError: with the nearest names, if there is no such backbone.
    """
    if hasattr(named_factory(arch), "arguments"):
        return f"{registry.NAMESPACE}.{registry.bare_name(arch)}"
    return arch.removeprefix(f"{PADDLECLAS}.")


def measure_network(arch: str, classes: int) -> NetworkFacts:
    """Build a network and run one image through it.

    Args:
        arch: as in commands: a bare name is this package's, if it has one.
        classes: number of classes.

    Raises:
        KeyError: with the nearest names, if there is no such backbone.
    """
    model = create_backbone(arch, class_num=classes)
    preprocessing, arguments = Preprocessing(), {}
    factory = named_factory(arch)
    if hasattr(factory, "arguments"):
        bare = registry.bare_name(arch)
        arguments = factory.arguments
        if bare in registry.list_backbones():
            preprocessing = registry.get_spec(bare).preprocessing
        elif isinstance(arguments.get("img_size"), int):  # a class with every hyper-parameter open
            side = arguments["img_size"]
            preprocessing = Preprocessing(input_size=(3, side, side), resize_short=side)
    size = preprocessing.input_size[1]
    return NetworkFacts(
        name=name_in_yaml(arch),
        size=size,
        resize_short=preprocessing.resize_short,
        interpolation=preprocessing.interpolation,
        backend=preprocessing.backend,
        mean=preprocessing.mean,
        std=preprocessing.std,
        multiple=max(getattr(model, "stage_strides", [DEFAULT_MULTIPLE])),
        has_img_size="img_size" in arguments,
        has_drop_path="drop_path_rate" in arguments,
        layer_norm=any(isinstance(layer, nn.LayerNorm) for layer in model.sublayers()),
        layer_groups=hasattr(model, "layer_groups"),
        parameters=sum(int(parameter.size) for parameter in model.parameters()),
        activations=count_activations(model, size),
    )


def count_activations(model: nn.Layer, size: int) -> int:
    """Return how many numbers the innermost layers put out for one image ``[1, 3, size, size]``."""
    total = 0

    def count(layer: nn.Layer, inputs: Any, output: Any) -> None:
        nonlocal total
        outputs = output if isinstance(output, (list, tuple)) else [output]
        total += sum(int(tensor.size) for tensor in outputs if isinstance(tensor, paddle.Tensor))

    hooks = [layer.register_forward_post_hook(count) for layer in model.sublayers() if not layer.sublayers()]
    model.eval()
    try:
        with paddle.no_grad():
            model(paddle.zeros([1, 3, size, size]))
    finally:
        for hook in hooks:
            hook.remove()
    return total


def measure_machine(device: Optional[str] = None) -> MachineFacts:
    """Return the device to train on, its free memory, and the processors.

    Args:
        device: ``cpu`` or ``gpu``; None takes a GPU if there is one.
    """
    has_gpu = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    device = device or ("gpu" if has_gpu else "cpu")
    if device == "gpu":
        free = int(paddle.device.cuda.get_device_properties().total_memory) if has_gpu else None
    else:
        free = _free_memory()
    affinity = getattr(os, "sched_getaffinity", None)
    return MachineFacts(device, free, len(affinity(0)) if affinity else os.cpu_count() or 1)


def _free_memory() -> Optional[int]:
    """Return the free bytes of main memory, within a container's limit; None where the system does not tell."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _text("/proc/meminfo"), re.MULTILINE)
    amounts = [int(found[1]) * 1024] if found else []
    limit, used = (_text(f"/sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current"))
    if limit.isdecimal() and used.isdecimal():
        amounts.append(int(limit) - int(used))
    return min(amounts, default=None)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
