"""Measure six backbones beside the same networks of timm or of the papers' authors, in the same rounds.

    pip install "ppcls_ext[cpu,deploy,openvino,parity]" onnxscript
    python benchmarks/peers.py --vip VisionPermutator --dilateformer dilateformer --output benchmarks/results/peers.json

Here: eager mode, Paddle Inference, ONNX Runtime and OpenVINO. There: PyTorch in eager mode, and what
``torch.onnx.export`` writes for each batch size, in ONNX Runtime and OpenVINO with the settings of this package's own
engines. Both of PyTorch's exporters are tried, and the graph that is faster in an engine counts there. Vision
Permutator and DilateFormer are measured from clones of the official repositories, which have to be given:
github.com/houqb/VisionPermutator and github.com/JIAOJIAYUASD/dilateformer. Everything runs in float32 with random
weights.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Optional, Sequence

import numpy as np
from benchmark_page import configurations, fastest, find

from ppcls_ext.analysis.benchmark.child import Child, ChildError
from ppcls_ext.analysis.benchmark.gemm import MACS, matrices
from ppcls_ext.analysis.benchmark.images import normalised_noise
from ppcls_ext.analysis.benchmark.plan import Job, Options, plan
from ppcls_ext.analysis.benchmark.results import FORWARD, TRAIN, Case, Ratio, Report, Settings
from ppcls_ext.analysis.benchmark.session import Session
from ppcls_ext.analysis.benchmark.tables import progress_bar, to_json
from ppcls_ext.analysis.benchmark.targets import Target, find_targets
from ppcls_ext.utils.cpu_settings import usable_cores

HERE = Path(__file__).resolve().parent
#: Our name: where theirs is from and what it is called there.
MODELS = {
    "Sequencer2D_S": ("timm", "sequencer2d_s"),
    "ViP_Small_7": ("vip", "vip_s7"),
    "DilateFormer_Tiny": ("dilateformer", "dilateformer_tiny"),
    "SwinTransformer_tiny_patch4_window7_224": ("timm", "swin_tiny_patch4_window7_224"),
    "ViT_S_16_224": ("timm", "vit_small_patch16_224"),
    "ResNet50": ("timm", "resnet50"),
}
#: The file in a clone of an official repository that holds the networks.
OFFICIAL_FILES = {"vip": "models/vip.py", "dilateformer": "models/dilateformer.py"}
OURS = ("eager", "paddle", "onnxruntime", "openvino")
THEIRS = ("torch", "onnxruntime", "openvino")
EXPORTERS = ("torchscript", "dynamo")
LEARNING_RATE = 1e-6
#: Largest difference of an exported graph from PyTorch, relative to the largest output.
TOLERANCE = 1e-3
#: Definitions of operators last as long as these objects.
_KEPT: list = []


# ---- what the child processes run --------------------------------------------------------------------------------


def import_torch() -> Any:
    """Import PyTorch, and let a torchvision that was built for another PyTorch be imported after it.

    timm imports torchvision, which asks for two operators of its own; no network here uses them.
    """
    import torch

    found = importlib.util.find_spec("torchvision")
    if found is not None and found.origin is not None:
        try:
            for path in Path(found.origin).parent.glob("_C*.so"):
                torch.ops.load_library(path)
        except OSError:
            library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _KEPT.append(library)
    return torch


def build_theirs(options: dict) -> Any:
    """Return the network with random weights, in evaluation mode."""
    source, name, root = options["source"], options["name"], options["root"]
    warnings.simplefilter("ignore")
    import timm

    if source == "timm":
        return without_zeros(timm.create_model(name)).eval()
    path = Path(root) / OFFICIAL_FILES[source]
    spec = importlib.util.spec_from_file_location(f"official_{source}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return without_zeros(getattr(module, name)()).eval()


def without_zeros(model: Any) -> Any:
    """Give a network random numbers where it starts from zeros.

    A classifier of zeros gives zeros whatever the image is, and no graph could be compared with it.
    """
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    return model


class Torch:
    """PyTorch's eager mode: a forward pass in inference mode, or a step with AdamW."""

    def __init__(self, case: Case, options: dict):
        self.torch = import_torch()
        self.torch.set_num_threads(case.threads)
        self.case = case
        self.options = options

    def open(self) -> dict:
        """Build the network."""
        self.model = build_theirs(self.options)
        self.images = self.torch.from_numpy(normalised_noise(self.case.batch, self.case.height, self.case.width))
        if self.case.mode == TRAIN:
            self.model.train()
            self.optimizer = self.torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE)
            self.labels = self.torch.arange(self.case.batch)
        return {"library": f"torch {self.torch.__version__}", "place": "CPU"}

    def run(self) -> None:
        """Run once."""
        if self.case.mode == TRAIN:
            loss = self.torch.nn.functional.cross_entropy(self.model(self.images), self.labels)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        else:
            with self.torch.inference_mode():
                self.model(self.images)


class TorchGraph:
    """A graph that PyTorch exported, in ONNX Runtime or OpenVINO."""

    def __init__(self, case: Case, options: dict):
        self.case = case
        self.options = options
        self.library = __import__(case.engine)

    def open(self) -> dict:
        """Load the graph."""
        self.images = normalised_noise(self.case.batch, self.case.height, self.case.width)
        load = self._onnxruntime if self.case.engine == "onnxruntime" else self._openvino
        self.run = load(self.options["graph"])
        return {"library": f"{self.case.engine} {self.library.__version__.partition('-')[0]}", "place": "CPU"}

    def _onnxruntime(self, path: str) -> Any:
        options = self.library.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self.case.threads
        session = self.library.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda: (session.run(None, {name: self.images}), None)[1]

    def _openvino(self, path: str) -> Any:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.case.threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        request = self.library.Core().compile_model(path, "CPU", settings).create_infer_request()
        return lambda: (request.infer([self.images]), None)[1]


class TorchExport:
    """Writes a network as ONNX with one exporter, and compares it with PyTorch in ONNX Runtime."""

    def __init__(self, case: Case, options: dict):
        self.torch = import_torch()
        self.case = case
        self.options = options

    def open(self) -> dict:
        """Write the graph for the batch size of the case."""
        import onnxruntime

        torch, case, path = self.torch, self.case, self.options["graph"]
        torch.manual_seed(0)
        model = build_theirs(self.options)
        images = torch.from_numpy(normalised_noise(case.batch, case.height, case.width))
        with torch.inference_mode():
            expected = model(images).numpy()
        dynamo = self.options["exporter"] == "dynamo"
        version = {} if dynamo else {"opset_version": 17}
        torch.onnx.export(model, (images,), path, dynamo=dynamo, input_names=["x"], verbose=False, **version)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (found, *_) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        difference = float(np.abs(found - expected).max() / np.abs(expected).max())
        if not difference <= TOLERANCE:
            raise ValueError(f"the exported graph differs from PyTorch by {difference:.1e} of the largest output")
        return {}

    def run(self) -> None:
        """Do nothing."""


class TorchGemm:
    """The product of matrices by PyTorch."""

    def __init__(self, case: Case, options: dict):
        import torch

        torch.set_num_threads(case.threads)
        self.torch = torch

    def open(self) -> dict:
        """Make the matrices."""
        self.a, self.b = map(self.torch.from_numpy, matrices())
        return {"library": f"torch {self.torch.__version__}", "place": "CPU", "macs": MACS}

    def run(self) -> None:
        """Multiply."""
        self.torch.matmul(self.a, self.b)


SOURCES = ("timm", *OFFICIAL_FILES)
SUBJECTS = {
    "gemm torch": "peers:TorchGemm",
    **{f"{source} torch": "peers:Torch" for source in SOURCES},
    **{
        f"{source}, {exporter} {engine}": "peers:TorchGraph"
        for source in SOURCES
        for exporter in EXPORTERS
        for engine in THEIRS[1:]
    },
}


# ---- what the parent does ----------------------------------------------------------------------------------------


def their_jobs(ours: Sequence[Job], roots: dict, scratch: Path, settings: Settings) -> list[Job]:
    """Return the peers of our jobs in eager mode, their graphs written into ``scratch``."""
    found: list[Job] = []
    for job in (job for job in ours if job.case.engine == "eager"):
        source, name = MODELS[job.case.model]
        options = {"source": source, "name": name, "root": roots.get(source)}
        missing = None
        if source in OFFICIAL_FILES and not roots.get(source):
            missing = f"--{source} does not name a clone of the official repository"
        target = Target(job.case.model, source, job.target.size)
        found.append(Job(job.case.model_copy(update={"source": source, "engine": "torch"}), target, missing, options))
        if job.case.mode != FORWARD:
            continue
        for exporter in EXPORTERS:
            case = job.case.model_copy(update={"source": f"{source}, {exporter}"})
            graph = str(scratch / f"{case.model}_{case.batch}_{exporter}.onnx")
            given = {**options, "exporter": exporter, "graph": graph}
            refusal = missing or export(case, given, settings)
            target = Target(job.case.model, case.source, job.target.size)
            for engine in THEIRS[1:]:
                found.append(Job(case.model_copy(update={"engine": engine}), target, refusal, given))
    return found


def export(case: Case, options: dict, settings: Settings) -> Optional[str]:
    """Let PyTorch write a graph; return why it could not."""
    try:
        with Child("peers:TorchExport", case, options, settings.timeout, [HERE]) as child:
            child.open()
    except ChildError as error:
        return f"torch.onnx.export: {error}"
    return None


def ratios(report: Report) -> list[Ratio]:
    """Return ours over theirs for each model and batch size: best engine, eager forward and step of training."""
    found: list[Ratio] = []
    for model, batch in configurations(report):
        best = [
            fastest([find(report, model, batch, FORWARD, ours, engine) for engine in {*OURS, *THEIRS}])
            for ours in (True, False)
        ]
        eager = [
            [find(report, model, batch, mode, ours, engine) for ours, engine in ((True, "eager"), (False, "torch"))]
            for mode in (FORWARD, TRAIN)
        ]
        for here, there in (best, *eager):
            if here is not None and there is not None:
                found.append(Ratio.of(here, there))
    return list({(ratio.a, ratio.b): ratio for ratio in found}.values())


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Measure, and write the report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(MODELS), help="some of the six (default: all)")
    parser.add_argument("--batch_size", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--mode", nargs="+", choices=(FORWARD, TRAIN), default=[FORWARD, TRAIN])
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--vip", metavar="DIR", help="clone of github.com/houqb/VisionPermutator")
    parser.add_argument("--dilateformer", metavar="DIR", help="clone of github.com/JIAOJIAYUASD/dilateformer")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="least time of a turn")
    parser.add_argument("--runs", type=int, default=3, help="least runs of a turn")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the report as JSON")
    arguments = parser.parse_args(argv)
    unknown = sorted(set(arguments.models) - set(MODELS))
    if unknown:
        parser.error(f"no peer is known of {', '.join(unknown)}; there are {', '.join(MODELS)}")
    settings = Settings(
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        runs=arguments.runs,
        command=shlex.join(["python", "benchmarks/peers.py", *_words(sys.argv[1:] if argv is None else argv)]),
    )
    batches, threads = arguments.batch_size, [arguments.threads]
    targets = find_targets(arguments.models)
    ours = []
    for mode in arguments.mode:
        engines = OURS if mode == FORWARD else OURS[:1]
        ours += plan(targets, Options(engines=engines, batches=batches, threads=threads, modes=[mode]))
    roots = {name: getattr(arguments, name) for name in OFFICIAL_FILES}
    with tempfile.TemporaryDirectory(prefix="ppcls_ext-peers-") as scratch:
        jobs = [*ours, *their_jobs(ours, roots, Path(scratch), settings)]
        with progress_bar(jobs, settings) as progress:
            session = Session(settings, progress=progress, subjects=SUBJECTS, paths=[HERE], libraries=("torch",))
            report = session.run(jobs)
    macs = {(row.case.model, row.case.height): row.macs for row in report.rows if row.macs}
    for row in report.rows:
        row.macs = row.macs or macs.get((row.case.model, row.case.height))  # of the same network
    report.ratios = ratios(report)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(to_json(report), encoding="utf-8")


def _words(words: Sequence[str]) -> list[str]:
    """Return a command line without the folders of the machine that it was given on."""
    return [Path(word).name if Path(word).is_absolute() else word for word in words]


if __name__ == "__main__":
    main()
