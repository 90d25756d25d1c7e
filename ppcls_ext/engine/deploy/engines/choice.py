"""Which engine runs an export."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Union

from ppcls_ext.engine.deploy.engines.base import Engine, EngineError
from ppcls_ext.engine.deploy.engines.graphs import ONNX_FILE, GraphFiles, onnx_graph, paddle_graph
from ppcls_ext.engine.deploy.inference_yml import InferenceConfig
from ppcls_ext.utils.spelling import nearest

AUTO = "auto"


@dataclass(frozen=True)
class EngineKind:
    """An engine before it is imported.

    Attributes:
        module: that holds it, and the class in it.
        package: that it needs.
        extra: of this package that installs it.
        onnx: whether it runs the ONNX graph; otherwise Paddle's.
    """

    module: str
    class_name: str
    package: str
    extra: str
    onnx: bool = True

    def installed(self) -> bool:
        """Return whether its package is there, without importing it."""
        return importlib.util.find_spec(self.package) is not None


_HERE = "ppcls_ext.engine.deploy.engines"
ENGINES = {
    "paddle": EngineKind(f"{_HERE}.paddle_engine", "PaddleEngine", "paddle", "cpu", onnx=False),
    "onnxruntime": EngineKind(f"{_HERE}.onnxruntime_engine", "OnnxRuntimeEngine", "onnxruntime", "onnxruntime"),
    "openvino": EngineKind(f"{_HERE}.openvino_engine", "OpenVinoEngine", "openvino", "openvino"),
}
#: The order in which ``auto`` tries them; see :func:`choose_engine`.
ON_CPU = ("openvino", "onnxruntime", "paddle")
ON_GPU = ("paddle", "onnxruntime")


@dataclass(frozen=True)
class Choice:
    """An engine, the graph that it is to run, and options of this engine alone."""

    engine: str
    graph: GraphFiles
    options: dict = field(default_factory=dict)


def check_engine(engine: str) -> str:
    """Return ``engine`` if there is one of this name.

    Raises:
        ValueError: otherwise.
    """
    if engine not in (AUTO, *ENGINES):
        hint = nearest(engine, (AUTO, *ENGINES), 1)
        raise ValueError(
            f"engine is {engine!r}; expected {', '.join((AUTO, *ENGINES))}" + (f" (nearest: {hint[0]})" if hint else "")
        )
    return engine


def check_device(device: str) -> str:
    """Return ``device`` if it is one; whether an engine can run there, it says itself.

    Raises:
        ValueError: otherwise.
    """
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "gpu") or (":" in device and (kind == "cpu" or not number.isdigit())):
        raise ValueError(f"device is {device!r}; expected cpu, gpu or gpu:<number>")
    return device


def choose_engine(folder: Union[str, Path], config: InferenceConfig, engine: str = AUTO, device: str = "cpu") -> Choice:
    """Return the engine for an export: the one that is asked for, or the first that is installed and fits.

    ``auto`` takes, of those whose graph is in the folder and whose package is installed: on a CPU OpenVINO, then ONNX
    Runtime, then Paddle; on a GPU Paddle, then ONNX Runtime.

    For a graph in int8 it takes the engine in which its accuracy was measured (``Export.int8.engine``), or none.

    Raises:
        FileNotFoundError: the folder or the graph is not there.
        EngineError: the engine, or every one that fits, is not installed.
        ValueError: there is no such engine or device.
    """
    folder = Path(folder)
    check_engine(engine)
    check_device(device)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    graphs = {True: onnx_graph(folder, config), False: paddle_graph(folder, config.softmax)}
    if engine != AUTO:
        kind = ENGINES[engine]
        graph = graphs[kind.onnx]
        if graph is None:
            wanted, format = (ONNX_FILE, "onnx") if kind.onnx else ("inference.json or inference.pdmodel", "default")
            raise FileNotFoundError(
                f"{folder} holds no {wanted}, which the engine {engine} runs; "
                f"write it with `ppcls_ext export --format {format}`"
            )
        _check_installed([engine])
        return Choice(engine, graph, _options(engine, config))
    if not any(graphs.values()):
        raise FileNotFoundError(
            f"{folder} holds no exported model: neither inference.json nor inference.pdmodel nor {ONNX_FILE}"
        )
    fitting = [
        Choice(name, graph, _options(name, config))
        for name in _order(config, device)
        if (graph := graphs[ENGINES[name].onnx]) is not None
    ]
    if not fitting:
        raise EngineError(f"{folder} holds no graph for {' or '.join(_order(config, device))}; export it again")
    _check_installed([choice.engine for choice in fitting])
    return next(choice for choice in fitting if ENGINES[choice.engine].installed())


def open_engine(
    folder: Union[str, Path],
    config: InferenceConfig,
    engine: str = AUTO,
    device: str = "cpu",
    threads: Optional[int] = None,
) -> Engine:
    """Choose an engine for an export and load the graph; see :func:`choose_engine`.

    Args:
        folder: of the export.
        config: its ``inference.yml``.
        engine: a name of :data:`ENGINES`, or ``auto``.
        device: ``cpu``, ``gpu`` or ``gpu:<number>``.
        threads: on the CPU; None takes all cores of this process.
    """
    return open_choice(choose_engine(folder, config, engine, device), device, threads)


def open_choice(choice: Choice, device: str = "cpu", threads: Optional[int] = None) -> Engine:
    """Import the engine of a choice and load the graph into it."""
    kind = ENGINES[choice.engine]
    engine = getattr(importlib.import_module(kind.module), kind.class_name)
    return engine(choice.graph, device, threads, **choice.options)


def _options(engine: str, config: InferenceConfig) -> dict:
    found = config.facts.get("onednn")  # nothing but what an export found out turns it on
    return {"onednn": found} if engine == "paddle" and isinstance(found, dict) else {}


def _order(config: InferenceConfig, device: str) -> tuple[str, ...]:
    int8 = config.facts.get("int8")
    if isinstance(int8, dict) and int8.get("engine") in ENGINES:
        return (int8["engine"],)
    return ON_CPU if device == "cpu" else ON_GPU


def _check_installed(engines: list) -> None:
    if any(ENGINES[name].installed() for name in engines):
        return
    hints = " or ".join(f'pip install "ppcls_ext[{ENGINES[name].extra}]"' for name in engines)
    which = f"{engines[0]} is not" if len(engines) == 1 else f"neither {' nor '.join(engines)} is"
    raise EngineError(f"{which} installed; install with: {hints}")
