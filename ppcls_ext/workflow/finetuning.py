"""``finetune``: from a prepared data set, or a user's folder, to a trained, evaluated and exported model."""

from __future__ import annotations

import logging
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional, Sequence, Union

from ppcls_ext.analysis.drawing import require_matplotlib
from ppcls_ext.analysis.report.options import ReportOptions
from ppcls_ext.analysis.report.single import report
from ppcls_ext.config import ConfigError, load_config
from ppcls_ext.config.finetuning.facts import DataFacts, Wishes
from ppcls_ext.config.finetuning.recipe import FILE, make_recipe
from ppcls_ext.data.preparation.facts import IMBALANCED
from ppcls_ext.data.preparation.writing import PreparedDataset, open_dataset
from ppcls_ext.engine.deploy.exporter import export
from ppcls_ext.engine.deploy.onnx.errors import OnnxExportError
from ppcls_ext.engine.deploy.onnx.requirements import check_installed
from ppcls_ext.engine.deploy.predictor import Predictor
from ppcls_ext.engine.evaluator import EvaluationOptions, evaluate
from ppcls_ext.engine.train.checkpoint import checkpoint_names
from ppcls_ext.engine.train.trainer import train
from ppcls_ext.factory import named_factory
from ppcls_ext.registry import bare_name
from ppcls_ext.utils.checkpoint_path import LATEST
from ppcls_ext.workflow.errors import FinetuneError, LateStepError
from ppcls_ext.workflow.measuring import measure_machine, measure_network
from ppcls_ext.workflow.preparing import PrepareOptions, prepare_dataset
from ppcls_ext.workflow.weights import starting_weights

logger = logging.getLogger("ppcls_ext")

PROGRAM = "ppcls_ext"
BEST = "best_model"
PREDICTIONS, REPORT_FOLDER, DATASET_FOLDER = "predictions.npz", "report", "dataset"


@dataclass(frozen=True)
class FinetuneOptions:
    """How a model is fine-tuned; what is None is left to the rules.

    Attributes:
        epochs: number of epochs.
        batch_size: images per batch.
        img_size: height and width of the images.
        pretrained: file of weights to start from; None means the published ones.
        from_scratch: start from random weights.
        overrides: ``key=value`` pairs, as after ``-o``; they become part of the YAML file.
        device: ``cpu`` or ``gpu``.
        flip: whether mirrored images keep their class.
        seed: of weights, order and augmentation, and of the split if the data is not prepared yet.
        overwrite: whether an earlier run in the folder may be replaced.
        dry_run: write the YAML file alone.
        say: gets the line that each step begins with.
    """

    epochs: Optional[int] = None
    batch_size: Optional[int] = None
    img_size: Optional[int] = None
    pretrained: Optional[str] = None
    from_scratch: bool = False
    overrides: Sequence[str] = ()
    device: Optional[str] = None
    flip: bool = True
    seed: int = 0
    overwrite: bool = False
    dry_run: bool = False
    say: Callable[[str], object] = print


@dataclass
class FinetuneResult:
    """A run.

    Attributes:
        config: the YAML file.
        output: folder of the run.
        dataset: what it was trained on.
        weights: the best weights; None after a dry run.
        top1: accuracy of the best weights on the validation images, in [0, 1].
        test_top1: the same on the test images, if there are any.
        report: page of the report.
        exported: folder of the exported model.
        left_out: steps that were left out, each with the reason.
    """

    config: Path
    output: Path
    dataset: PreparedDataset
    weights: Optional[Path] = None
    top1: Optional[float] = None
    test_top1: Optional[float] = None
    report: Optional[Path] = None
    exported: Optional[Path] = None
    left_out: dict[str, str] = field(default_factory=dict)

    def predict(self, images: object) -> list[dict]:
        """Classify images with the exported model; see :meth:`ppcls_ext.engine.deploy.predictor.Predictor.predict`."""
        if self.exported is None:
            raise FinetuneError("there is no exported model yet")
        return Predictor(self.exported).predict(images)


def finetune(
    data: Union[str, Path, PreparedDataset],
    arch: str,
    output: Union[str, Path, None] = None,
    options: Optional[FinetuneOptions] = None,
) -> FinetuneResult:
    """Train a model on a user's data by rules, evaluate its best weights, write the report, and export.

    Args:
        data: a data set that ``prepare`` wrote, or what ``prepare`` takes, which is then prepared into
            ``<output>/dataset``.
        arch: a backbone; a bare name is this package's if it has one, ``paddleclas.<Name>`` is PaddleClas's.
        output: folder of the run; by default ``output/<data>_<arch>``.
        options: how.

    Returns:
        Where everything is, and the accuracy.

    Raises:
        FinetuneError: if the run cannot start: no weights, no validation images, an earlier run in the folder.
        KeyError: with the nearest names, if there is no such backbone.
        PreparationError, LabelFileError: if the data cannot become a data set.
        ConfigError: if an override does not fit.
        LateStepError: if a step after training fails; the weights are there.
    """
    options = options or FinetuneOptions()
    name = data.folder if isinstance(data, PreparedDataset) else Path(data)
    folder = Path(output) if output is not None else _default_output(name, arch)
    _check_output(folder, options.overwrite)
    named_factory(arch)  # first of all: an unknown name is told before images are looked at
    dataset = _dataset(data, folder, options)
    if not dataset.count("val"):
        raise FinetuneError(f"{dataset.folder} has no validation images; prepare the data with --val above 0")

    pretrained, start = starting_weights(
        arch, len(dataset.class_names), options.pretrained, options.from_scratch, fetch=not options.dry_run
    )
    options.say(f"configuration: measuring {bare_name(arch)} and this machine")
    network = measure_network(arch, len(dataset.class_names))
    wishes = Wishes(
        str(folder),
        options.epochs,
        options.batch_size,
        options.img_size,
        pretrained,
        options.flip,
        options.seed,
    )
    recipe = make_recipe(_facts(dataset), network, measure_machine(options.device), wishes)
    recipe.override(options.overrides)
    config = folder / FILE
    recipe.write(config, _header(arch, dataset, config))
    result = FinetuneResult(config, folder, dataset)
    try:
        cfg = load_config(config, mode="train")
    except ConfigError:
        config.unlink()  # the message names what the user gave; a file that nothing can read would only be in the way
        raise
    options.say(f"configuration: {config}; training starts from {start}")
    if options.dry_run:
        return result
    cfg.Global.overwrite = options.overwrite
    _train(cfg, result, options)
    _finish(result, options)
    return result


def _default_output(data: Path, arch: str) -> Path:
    name = data.resolve().name if data.is_dir() else data.stem
    return Path("output") / f"{name}_{bare_name(arch)}"


def _check_output(folder: Path, overwrite: bool) -> None:
    """Check that a run may be written into a folder.

    Raises:
        FinetuneError: if it holds an earlier run.
    """
    if folder.exists() and not folder.is_dir():
        raise FinetuneError(f"--output {folder} is a file; expected a folder")
    there = [FILE] if (folder / FILE).exists() else []
    there += checkpoint_names(folder) if folder.is_dir() else []
    if there and not overwrite:
        raise FinetuneError(
            f"--output {folder} holds {', '.join(there)} of an earlier run. To continue that run: "
            f"{PROGRAM} train -c {shlex.quote(str(folder / FILE))} --resume. To keep it: another --output. To replace "
            "it: --overwrite"
        )


def _dataset(data: Union[str, Path, PreparedDataset], folder: Path, options: FinetuneOptions) -> PreparedDataset:
    """Return the data set; prepare it if that has not been done."""
    if isinstance(data, PreparedDataset):
        return data
    found = open_dataset(Path(data)) if Path(data).is_dir() else None
    if found is not None:
        options.say(f"data: {found.folder}, {found.report['images']:,} images in {len(found.class_names)} classes")
        return found
    options.say(f"data: preparing {data} into {folder / DATASET_FOLDER}")
    prepared = prepare_dataset(
        data, folder / DATASET_FOLDER, PrepareOptions(seed=options.seed, overwrite=options.overwrite)
    )
    for sentence in prepared.report["warnings"]:
        options.say(f"data: warning: {sentence}")
    return prepared


def _facts(dataset: PreparedDataset) -> DataFacts:
    return DataFacts(
        folder=str(dataset.folder),
        image_root=str(dataset.image_root),
        delimiter=dataset.delimiter,
        classes=len(dataset.class_names),
        train=dataset.count("train"),
        val=dataset.count("val"),
        short_side=dataset.report["short_side"]["median"],
        imbalance=dataset.report["imbalance"],
    )


def _header(arch: str, dataset: PreparedDataset, config: Path) -> list[str]:
    name = shlex.quote(str(config))
    lines = [
        f"{bare_name(arch)} on {dataset.folder}: {dataset.count('train'):,} training and {dataset.count('val'):,} "
        f"validation images in {len(dataset.class_names)} classes.",
        "",
        f"Written by `{PROGRAM} finetune`; change what you like. Paths start from that command's working directory.",
        "",
        f"  {PROGRAM} train -c {name}",
        f"  {PROGRAM} train -c {name} --resume",
        f"  {PROGRAM} eval -c {name} -o Global.pretrained_model={shlex.quote(str(config.parent / BEST))}",
    ]
    if dataset.report["imbalance"] > IMBALANCED:
        lines += [
            "",
            f"The largest class has {dataset.report['imbalance']:.1f} times the training images of the smallest: look "
            "at the recall of each class, not at accuracy alone.",
        ]
    return lines


def _train(cfg, result: FinetuneResult, options: FinetuneOptions) -> None:
    options.say(
        f"train: {cfg.Global.epochs} epochs of {result.dataset.count('train'):,} images, "
        f"{cfg.DataLoader.Train.sampler.batch_size} a batch, {cfg.Global.image_shape[1]}x{cfg.Global.image_shape[2]}"
    )
    started = time.monotonic()
    try:
        train(cfg)
    except ConfigError:  # a value that only the network itself could refuse; nothing was trained
        result.config.unlink()
        raise
    except (Exception, SystemExit):
        if checkpoint_names(result.output):
            options.say(f"train: stopped; to go on: {PROGRAM} train -c {shlex.quote(str(result.config))} --resume")
        raise
    names = checkpoint_names(result.output)
    result.weights = result.output / (BEST if BEST in names else LATEST)
    options.say(f"train: done in {time.monotonic() - started:.0f} s; the best weights are {result.weights}")


def _finish(result: FinetuneResult, options: FinetuneOptions) -> None:
    """Evaluate, report and export; a step that fails does not keep the next from running.

    Raises:
        LateStepError: if any fails, with the command for each.
    """
    config = shlex.quote(str(result.config))
    weights = f"Global.pretrained_model={result.weights}"
    predictions = result.output / PREDICTIONS
    commands = {
        "evaluate": f"eval -c {config} -o {shlex.quote(weights)} --save_predictions {shlex.quote(str(predictions))}",
        "report": f"report {shlex.quote(str(predictions))} --output {shlex.quote(str(result.output / REPORT_FOLDER))}",
        "export": f"export -c {config} -o {shlex.quote(weights)}",
    }
    steps: dict[str, Callable[[], None]] = {
        "evaluate": lambda: _evaluate(result, weights, predictions, options),
        "report": lambda: _report(result, predictions, options),
        "export": lambda: _export(result, weights, options),
    }
    failures = []
    for name, step in steps.items():
        try:
            step()
        except Exception as error:  # whatever it is, hours of training are not lost by it
            logger.debug("%s failed", name, exc_info=True)
            options.say(f"{name}: failed: {error}")
            failures.append(f"{name} failed ({type(error).__name__}: {error}); to go on: {PROGRAM} {commands[name]}")
    if failures:
        raise LateStepError(f"the trained weights are {result.weights}, but " + "\n".join(failures))


def _evaluate(result: FinetuneResult, weights: str, predictions: Path, options: FinetuneOptions) -> None:
    options.say(f"evaluate: {result.weights} on {result.dataset.count('val'):,} validation images")
    figures = evaluate(
        load_config(result.config, [weights], mode="eval"), options=EvaluationOptions(save_predictions=predictions)
    )
    result.top1 = figures.get("top1")
    if result.dataset.count("test"):
        options.say(f"evaluate: the same on {result.dataset.count('test'):,} test images")
        test_list = f"DataLoader.Eval.dataset.cls_label_path={result.dataset.list_of('test')}"
        result.test_top1 = evaluate(load_config(result.config, [weights, test_list], mode="eval")).get("top1")


def _report(result: FinetuneResult, predictions: Path, options: FinetuneOptions) -> None:
    try:
        require_matplotlib()
    except RuntimeError as error:
        _leave_out(result, "report", str(error), options)
        return
    folder = result.output / REPORT_FOLDER
    report(predictions, ReportOptions(folder))
    result.report = folder / "index.html"
    options.say(f"report: {result.report}")


def _export(result: FinetuneResult, weights: str, options: FinetuneOptions) -> None:
    formats = ["default"]
    try:
        check_installed()
        formats.append("onnx")
    except OnnxExportError as error:
        _leave_out(result, "onnx", str(error), options)
    options.say(f"export: {' and '.join(formats)}")
    result.exported = export(load_config(result.config, [weights], mode="export"), formats)
    options.say(f"export: {result.exported}")


def _leave_out(result: FinetuneResult, step: str, reason: str, options: FinetuneOptions) -> None:
    result.left_out[step] = reason
    options.say(f"{step}: left out: {reason}")
