"""Every model at every image size: can it, what does it cost, how well does it do?"""

from __future__ import annotations

import gc
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional, Sequence

import paddle

from ppcls_ext.analysis import machine
from ppcls_ext.analysis.benchmark.plan import EAGER, Job
from ppcls_ext.analysis.benchmark.results import Case, Report, Settings
from ppcls_ext.analysis.benchmark.session import Progress, Session
from ppcls_ext.analysis.benchmark.targets import Target, find_targets
from ppcls_ext.analysis.benchmark.worker import reason
from ppcls_ext.analysis.macs import count_macs
from ppcls_ext.analysis.resolution import transforms_at_resolution
from ppcls_ext.analysis.subjects import Network, open_network, split_label
from ppcls_ext.analysis.sweep.results import Point, Sweep
from ppcls_ext.engine.distributed import Session as Process
from ppcls_ext.engine.evaluator import Evaluator
from ppcls_ext.engine.precision import Precision
from ppcls_ext.utils.checkpoint_path import has_checkpoint

logger = logging.getLogger("ppcls_ext")

#: What :class:`Session` of the benchmark calls the source of these models, and what it runs for them.
SOURCE = "subject"
SUBJECTS = {f"{SOURCE} {EAGER}": "ppcls_ext.analysis.sweep.subject:Opened"}


class SweepError(ValueError):
    """A sweep that cannot be made; the message says why."""


@dataclass
class Options:
    """What is swept, and how.

    Attributes:
        sizes: heights and widths.
        output: folder for tables of evaluation, such as a confusion matrix.
        overrides: ``key=value`` as after ``-o``.
        random_weights: accept models without weights.
        accuracy: whether to evaluate.
        speed: whether to measure time and memory.
        batch: images a run when time and memory are measured.
        threads: on the CPU then.
        device: ``cpu``, ``gpu`` or ``gpu:<number>``.
        settings: of the benchmark.
    """

    sizes: Sequence[tuple[int, int]]
    output: Path
    overrides: Sequence[str] = ()
    random_weights: bool = False
    accuracy: bool = True
    speed: bool = True
    batch: int = 1
    threads: int = 1
    device: str = "cpu"
    settings: Settings = field(default_factory=Settings)

    def open(self, word: str) -> Network:
        """Open a model, with its data if it is to be evaluated.

        Raises:
            SweepError: it has no data or no metric, and is to be evaluated.
            SubjectError, ConfigError, …: see :func:`~ppcls_ext.analysis.subjects.open_network`.
        """
        if self.accuracy and _is_backbone(word):  # before its weights are fetched
            raise SweepError(
                f"{word} names a backbone, which has no data to be evaluated on; give a run or a YAML file, or leave "
                "accuracy out with --no_accuracy"
            )
        network = open_network(word, self._overrides, self._random, "eval" if self.accuracy else "export")
        if self.accuracy and network.cfg is not None and not network.cfg.section("Metric.Eval"):
            raise SweepError(f"{word} has no Metric.Eval, so that there is no accuracy; set it, or give --no_accuracy")
        return network

    @property
    def _random(self) -> bool:
        """Cost does not depend on weights, so that published ones are not fetched for it."""
        return self.random_weights or not self.accuracy

    @property
    def _overrides(self) -> list[str]:
        return [*self.overrides, f"Global.device={self.device}"]

    def subject(self, word: str) -> dict:
        """Return the options of :class:`~ppcls_ext.analysis.sweep.subject.Opened`."""
        return {"word": word, "overrides": self._overrides, "random_weights": self._random}


def sweep(words: Sequence[str], options: Options, progress: Optional[Callable[[str], None]] = None) -> Sweep:
    """Ask every model at every size; what cannot be is a point with its reason.

    Args:
        words: each names a model, see :func:`~ppcls_ext.analysis.subjects.open_network`; their labels must differ.
        options: what is asked.
        progress: called with what is done next.

    Raises:
        SweepError: a size that no model takes, two models of one label, or a model that cannot be evaluated.
    """
    tell = progress or (lambda text: None)
    paddle.set_device(options.device)
    sizes = sorted(set(options.sizes), key=lambda size: (size[0] * size[1], size))
    found = Sweep(measured=Report(machine=machine.describe(), settings=options.settings))
    by_word: dict[str, list[Point]] = {}
    for word in words:
        tell(f"{word}: multiply-adds")
        network = options.open(word)
        if network.label in found.lines:
            raise SweepError(f"two models are called {network.label}; name them, such as a={word}")
        by_word[word] = [_cost(network, size) for size in sizes]
        found.points += by_word[word]
        del network  # they may not fit into memory together
        gc.collect()
    _refuse_sizes(found.points)
    for word, points in by_word.items():
        if options.accuracy:
            _evaluate(word, points, options, found, tell)
    if options.speed:
        _measure(by_word, options, found, tell)
    return found


def _is_backbone(word: str) -> bool:
    """Return whether a word is the name of a backbone, and neither a file nor a folder."""
    rest = split_label(word)[1]
    if Path(rest).exists() or has_checkpoint(Path(rest)):
        return False
    try:
        return bool(find_targets([rest]))
    except KeyError:
        return False


def _cost(network: Network, size: tuple[int, int]) -> Point:
    """Return multiply-adds at a size, or the reason why the model does not take it."""
    height, width = size
    model = network.model
    point = Point(label=network.label, arch=network.arch, height=height, width=width, native=size == network.size)
    point.params = sum(int(parameter.size) for parameter in model.parameters() if not parameter.stop_gradient)
    channels = network.cfg.Global.image_shape[0] if network.cfg is not None else 3
    try:
        point.macs = sum(count_macs(model, [channels, height, width]).values())
    except Exception as uncounted:  # noqa: BLE001 - of PaddleClas's models anything may come
        try:
            with paddle.no_grad():
                model(paddle.zeros([1, channels, height, width]))
            logger.warning("multiply-adds of %s are not known: %s", network.label, reason(uncounted))
        except Exception as error:  # noqa: BLE001
            point.error = reason(error)
    return point


def _refuse_sizes(points: Sequence[Point]) -> None:
    """Refuse a size that no model takes: it is a mistake on the command line.

    Raises:
        SweepError: naming the size and each model's reason.
    """
    for resolution in dict.fromkeys(point.resolution for point in points):
        of_size = [point for point in points if point.resolution == resolution]
        if all(point.error for point in of_size):
            reasons = "; ".join(f"{point.label}: {point.error}" for point in of_size)
            raise SweepError(f"no model takes images of size {resolution}: {reasons}")


def _evaluate(word: str, points: Sequence[Point], options: Options, found: Sweep, tell: Callable) -> None:
    """Evaluate a model at each size that it takes, with the resizing and cropping of its recipe in proportion."""
    network = options.open(word)
    cfg = network.cfg
    if cfg is None:  # cannot be: `open` refuses it
        return
    cfg.Global.output_dir = str(options.output)
    transforms = cfg.section("DataLoader.Eval")["dataset"]["transform_ops"]
    process, precision = Process(options.device), Precision.from_config(cfg)
    for point in points:
        if point.error:
            continue
        tell(f"{point.label}: accuracy at {point.resolution}")
        try:
            scaled = transforms_at_resolution(transforms, network.size, (point.height, point.width))
            evaluator = Evaluator(cfg, process, precision, dataset={"transform_ops": scaled})
            found.criterion = found.criterion or evaluator.criterion
            found.samples[point.label] = len(evaluator.loader.dataset)
            point.metrics = evaluator.run(network.model, suffix=f"_{point.label.replace('/', '_')}_{point.resolution}")
        except Exception as error:  # noqa: BLE001 - a reason in the table, like those of speed
            point.error = reason(error)


def _measure(by_word: dict, options: Options, found: Sweep, tell: Callable) -> None:
    """Measure time and memory of each point in a process of its own, in interleaved rounds."""
    jobs, points = [], []
    for word, of_word in by_word.items():
        for point in of_word:
            if point.macs is None and point.error:
                continue
            case = Case(
                model=point.label,
                source=SOURCE,
                batch=options.batch,
                height=point.height,
                width=point.width,
                threads=options.threads,
                device=options.device,
            )
            jobs.append(
                Job(case, Target(point.label, SOURCE, (point.height, point.width)), None, options.subject(word))
            )
            points.append(point)
    seen: Progress = lambda text, _steps: tell(f"speed of {text}")  # noqa: E731
    report = Session(options.settings, gemm=False, progress=seen, subjects=SUBJECTS).run(jobs)
    for point, row in zip(points, report.rows):
        row.macs, row.params = point.macs, point.params
        point.speed = row
        point.error = point.error or row.error
    report.rows = []  # they stand in the points
    found.measured = report
