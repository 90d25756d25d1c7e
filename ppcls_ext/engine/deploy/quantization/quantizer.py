"""From a float ONNX export to an int8 one that passed the gate.

Everything is made and measured aside. Only a model that passes takes the place of an earlier one.
"""

from __future__ import annotations

import json
import logging
import platform
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Collection, Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.image_files import list_images
from ppcls_ext.engine.deploy.engines.base import Engine, EngineError
from ppcls_ext.engine.deploy.engines.choice import ENGINES
from ppcls_ext.engine.deploy.engines.graphs import ONNX_FILE, GraphFiles, onnx_graph
from ppcls_ext.engine.deploy.inference_yml import FILE_NAME, InferenceConfig
from ppcls_ext.engine.deploy.placing import REPORT_FILE, move_into_place
from ppcls_ext.engine.deploy.predictor import Predictor
from ppcls_ext.engine.deploy.quantization.calibration import DEFAULT_IMAGES, METHODS, choose_images, prepare
from ppcls_ext.engine.deploy.quantization.errors import QuantizationError
from ppcls_ext.engine.deploy.quantization.evaluation import UNREAD, EvaluationImages, damage, probabilities
from ppcls_ext.engine.deploy.quantization.gate import Gate, pass_gate
from ppcls_ext.engine.deploy.quantization.graph import QuantizableGraph
from ppcls_ext.engine.deploy.quantization.presets import PRESETS
from ppcls_ext.engine.deploy.quantization.report import QuantizationReport
from ppcls_ext.engine.deploy.quantization.timing import BATCH_SIZE, ROUNDS, milliseconds_an_image
from ppcls_ext.metrics.agreement import Agreement
from ppcls_ext.utils.cpu_features import cpu_features
from ppcls_ext.utils.cpu_settings import default_threads
from ppcls_ext.version import __version__

logger = logging.getLogger("ppcls_ext")

#: Instructions that add products of 8-bit numbers in 32 bits; without them x86 adds pairs in 16, which overflow.
SAFE_SUMS = ("avx_vnni", "avx512_vnni", "amx_int8")
#: Images on which the damage of each group of layers is measured.
DAMAGE_IMAGES = 64


@dataclass(frozen=True)
class QuantizationOptions:
    """How to quantise.

    Attributes:
        images: how many to calibrate with.
        seed: of the choice of images.
        method: how a range is found: ``minmax``, ``entropy`` or ``percentile``.
        preset: what becomes int8; None takes the preset that fits the graph.
        engine: that is gated: ``onnxruntime`` or ``openvino``.
        reduce_range: weights of seven bits; None: where the processor needs it.
        gate: what the model must reach.
        accept_slower: whether to write a model that is not faster than float here.
        threads: of the engines; None takes all cores of this process.
    """

    images: int = DEFAULT_IMAGES
    seed: int = 0
    method: str = "minmax"
    preset: Optional[str] = None
    engine: str = "onnxruntime"
    reduce_range: Optional[bool] = None
    gate: Gate = Gate()
    accept_slower: bool = False
    threads: Optional[int] = None

    def __post_init__(self):
        for name, value, known in (
            ("method", self.method, tuple(METHODS)),
            ("preset", self.preset, (None, *PRESETS)),
            ("engine", self.engine, ("onnxruntime", "openvino")),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(str, known))}")


def quantize(
    model_dir: Union[str, Path],
    calibrate: Union[str, Path],
    output: Union[str, Path],
    evaluate: Union[str, Path, None] = None,
    options: Optional[QuantizationOptions] = None,
) -> QuantizationReport:
    """Quantise the ONNX graph of an export.

    Args:
        model_dir: folder of the float export.
        calibrate: a list or a folder of images like those that the model will see.
        output: the folder for ``inference.onnx``, ``inference.yml`` and ``quantization.json``.
        evaluate: a list with a class id a line, or a folder, which has no labels; None takes the calibration images,
            without labels.
        options: None takes the defaults.

    Raises:
        QuantizationError: the model does not pass the gate, or is not faster than float.
        FileNotFoundError, ValueError: an argument is wrong; see :func:`check_folders`.
        EngineError: the engine that is to be gated is not installed or cannot run the graph.
    """
    options = options or QuantizationOptions()
    config, graph = check_folders(model_dir, output)
    calibration = prepare(choose_images(list_images(calibrate), options.images, options.seed), config, graph)
    if evaluate is None:
        logger.warning("no images to evaluate on: accuracy is not measured, only agreement on the calibration images")
        images = EvaluationImages(calibration.paths)
    else:
        images = EvaluationImages.read(evaluate, len(config.label_list))
        if images.labels is None:
            logger.warning("%s is a folder, without labels: accuracy is not measured, only agreement", evaluate)
    quantizable = QuantizableGraph(graph.path, options.preset, _reduce_range(options.reduce_range))
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as name:
        trial = _Trial(Path(name), config, quantizable, images, calibration.batches, options)
        trial.start(Path(model_dir))
        quantizable.calibrate(trial.folder, options.method, calibration.batches)
        passed = pass_gate(options.gate, list(quantizable.groups), trial.compare, trial.damage_of)
        times, not_run, others = trial.in_all_engines()
        report = QuantizationReport(
            model=config.model_name,
            engine=options.engine,
            versions=trial.versions,
            settings={
                "preset": quantizable.preset,
                "method": options.method,
                "images": len(calibration.paths),
                "seed": options.seed,
                "per_channel": True,
                "reduce_range": quantizable.reduce_range,
                "gate": asdict(options.gate),
            },
            operators=trial.operators,
            bytes={
                "float": sum(path.stat().st_size for path in graph.files),
                "int8": sum(path.stat().st_size for path in trial.graph.files),
            },
            labelled=images.labels is not None,
            comparison=passed.found,
            unread={"calibration": calibration.unread, "evaluation": int((trial.expected == UNREAD).sum())},
            in_float=passed.in_float,
            damages=passed.damages,
            tried=passed.tried,
            milliseconds=times,
            timing={
                "batch_size": BATCH_SIZE,
                "rounds": ROUNDS,
                "threads": options.threads or default_threads(),
                "clock": "process" if trial.cpu_time else "wall",
                "cpu": cpu_features(),
            },
            not_run=not_run,
            other_engines=others,
        )
        _check_speed(report, options.accept_slower)
        trial.finish(report)
        output.mkdir(exist_ok=True)
        move_into_place(trial.result, output)
    return report


def check_folders(model_dir: Union[str, Path], output: Union[str, Path]) -> tuple[InferenceConfig, GraphFiles]:
    """Return what an export says of itself, and its ONNX graph.

    Raises:
        FileNotFoundError: there is no such folder, or no ONNX graph in it.
        DamagedExportError: the graph is not the one that was exported.
        ValueError: it is in int8 already, or ``output`` is the same folder.
    """
    config = InferenceConfig.load_from(model_dir)
    graph = onnx_graph(model_dir, config)
    if graph is None:
        raise FileNotFoundError(f"{model_dir} holds no {ONNX_FILE}; write it with `ppcls_ext export --format onnx`")
    if "int8" in config.facts:
        raise ValueError(f"{model_dir} is in int8 already; give the float export")
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is no folder")
    if output.resolve() == Path(model_dir).resolve():
        raise ValueError(f"the output {output} is the float export itself; name another folder")
    config.verify(model_dir, graph.files)
    return config, graph


def _reduce_range(asked: Optional[bool]) -> bool:
    """Return whether weights have seven bits, and say so."""
    if asked is not None:
        return asked
    if platform.machine().lower() not in ("x86_64", "amd64", "x86", "i686"):
        return False
    if set(SAFE_SUMS) & set(cpu_features()):
        return False
    logger.warning(
        "this processor has no VNNI, as far as the system tells: weights get seven bits (reduce_range), so that sums "
        "of products do not overflow; int8 gains little speed here"
    )
    return True


def _check_speed(report: QuantizationReport, accept_slower: bool) -> None:
    if report.best_ratio < 1:
        return
    said = (
        f"int8 in {report.engine} takes {report.best_ratio:.2f} times as long as float in {report.best_float} "
        "on this machine"
    )
    if not accept_slower:
        raise QuantizationError(f"nothing is written: {said}; --accept_slower writes it all the same")
    logger.warning("%s", said)


class _Trial:
    """The model in the making: its folder, and the float model that it is compared with."""

    def __init__(
        self,
        folder: Path,
        config: InferenceConfig,
        quantizable: QuantizableGraph,
        images: EvaluationImages,
        batches: Sequence[np.ndarray],
        options: QuantizationOptions,
    ):
        self.folder = folder
        self.result = folder / "result"
        self.result.mkdir()
        self.config, self.quantizable, self.images, self.options = config, quantizable, images, options
        self.batches = list(batches[: max(1, DAMAGE_IMAGES // len(batches[0]))])
        self.cpu_time = (options.threads or default_threads()) == 1
        self.operators: dict = {}
        self.versions: dict = {}

    def start(self, model_dir: Path) -> None:
        """Run the float model."""
        self._float = {self.options.engine: self._predictor(model_dir, self.options.engine)}
        for name in ("onnxruntime", "openvino"):
            if name not in self._float and ENGINES[name].installed():
                self._float[name] = self._predictor(model_dir, name)
        self.versions = {name: predictor.engine.version for name, predictor in self._float.items()}
        self.expected = self.images.classes(self._float[self.options.engine])
        self._expected_probabilities: Optional[list] = None

    def compare(self, in_float: Collection[str]) -> Agreement:
        """Make the model with some groups in float and compare it."""
        self.operators = self._write(self.result, in_float)
        logger.info("evaluating the model in int8 but for %s", ", ".join(in_float) or "nothing")
        found = self.images.classes(self._predictor(self.result, self.options.engine))
        return self.images.compare(self.expected, found)

    def damage_of(self, group: str) -> float:
        """Measure the model in which one group alone is in int8."""
        alone = self.folder / "alone"
        alone.mkdir(exist_ok=True)
        self._write(alone, [name for name in self.quantizable.groups if name != group])
        if self._expected_probabilities is None:
            self._expected_probabilities = probabilities(self._float[self.options.engine], self.batches)
        found = probabilities(self._predictor(alone, self.options.engine), self.batches)
        return damage(self._expected_probabilities, found)

    def in_all_engines(self) -> tuple[dict, dict, dict]:
        """Return the times, why an engine does not run the int8 graph, and what the others make of it."""
        engines: dict[str, Engine] = {f"float/{name}": predictor.engine for name, predictor in self._float.items()}
        not_run, others = {}, {}
        for name in self._float:
            try:
                predictor = self._predictor(self.result, name)
                if name != self.options.engine:
                    found = self.images.classes(predictor)
                    others[name] = self.images.compare(self.expected, found)
            except (EngineError, RuntimeError, ValueError) as error:
                if name == self.options.engine:
                    raise
                not_run[name] = str(error).strip().split("\n")[-1][:300]
                continue
            engines[f"int8/{name}"] = predictor.engine
        batch = np.resize(self.batches[0], (BATCH_SIZE, *self.batches[0].shape[1:]))
        return milliseconds_an_image(engines, batch, self.cpu_time), not_run, others

    def finish(self, report: QuantizationReport) -> None:
        """Put the description and the report beside the graph."""
        config = self._described()
        config.facts["int8"] = {
            "engine": report.engine,
            "version": report.versions[report.engine],
            "operators": report.operators,
            "in_float": report.in_float,
            **{name: report.settings[name] for name in ("preset", "method", "images", "reduce_range")},
            "time": round(report.same_engine_ratio, 3),
            "cpu": report.timing["cpu"],
        }
        config.facts["ppcls_ext"] = __version__
        config.record(self.graph.files)
        config.save(self.result / FILE_NAME)
        text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n"
        (self.result / REPORT_FILE).write_text(text, encoding="utf-8")

    @property
    def graph(self) -> GraphFiles:
        """The int8 graph."""
        found = onnx_graph(self.result, self.config)
        if found is None:
            raise QuantizationError("the int8 graph has not been written")
        return found

    def _write(self, folder: Path, in_float: Collection[str]) -> dict:
        operators = self.quantizable.write(folder / ONNX_FILE, in_float)
        self._described().save(folder / FILE_NAME)
        return operators

    def _described(self) -> InferenceConfig:
        """Return the description of the int8 export; the float export's with Paddle's graph left out."""
        config = InferenceConfig(**self.config.to_dict())
        for name in ("onednn", "files"):
            config.facts.pop(name, None)
        config.facts["graph"] = ONNX_FILE
        onnx = config.facts.get("onnx")
        if isinstance(onnx, dict):
            onnx.pop("difference", None)
            config.facts["dynamic"] = list(onnx.get("dynamic", []))
            config.softmax = onnx["outputs"][0] == "probabilities"
        return config

    def _predictor(self, folder: Path, engine: str) -> Predictor:
        return Predictor(
            folder,
            batch_size=BATCH_SIZE,
            threads=self.options.threads,
            topk=1,
            workers=2,
            verify=False,
            engine=engine,
        )
