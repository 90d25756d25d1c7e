"""What no single key can tell: sections that need each other, files, devices, backbones, operators, labels."""

from __future__ import annotations

import difflib
import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional

import paddle

from ppcls_ext import plugin, registry
from ppcls_ext.arch.backbone.base import THESEUS_ARGUMENTS
from ppcls_ext.config.schema.base import Ignored, Section, markers
from ppcls_ext.config.source import Problem
from ppcls_ext.config.token_label_checks import check_token_labels
from ppcls_ext.data.batch_ops import check_batch_transform_ops
from ppcls_ext.data.batch_ops.pipeline import label_smoothing
from ppcls_ext.data.build import DATASETS, dataset_arguments
from ppcls_ext.data.cifar import ARCHIVES
from ppcls_ext.data.loader import device_normalization_problem
from ppcls_ext.data.preprocess import build_transforms, check_transform_ops
from ppcls_ext.data.summary import LabelSummary, inspect_labels, relabel_problem
from ppcls_ext.factory import backbone_factory, is_ours
from ppcls_ext.optim.lr import piecewise_table
from ppcls_ext.utils.spelling import nearest
from ppcls_ext.weights.conversion_record import FORM
from ppcls_ext.weights.pretrained import NoPublishedWeightsError, choose, lacking, published_form

if TYPE_CHECKING:
    from ppcls_ext.config.loading import Config

#: Keys that every Arch section may have, and other libraries' names for them.
OWN_ARGUMENTS = ("class_num", "pretrained", "use_sync_bn", "use_ssld", "infer_add_softmax", "infer_output_key")
RENAMED_ARGUMENTS = {"num_classes": ["class_num"], "classes_num": ["class_num"]}
#: Models of PaddleClas's that are put together from others.
COMPOSED = ("AttentionModel", "DistillationModel", "RecModel")


class Report:
    """Collects problems and warnings, each with the place of its key."""

    def __init__(self, config: Config, mode: str):
        self.config = config
        self.mode = mode
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def wrong(self, key: str, message: str, kind: str = "wrong") -> None:
        """Report a mistake at a dotted key."""
        self.problems.append(Problem(self.config._source.where(_path(key)), key, message, kind))

    def warn(self, key: str, message: str) -> None:
        """Note something doubtful at a dotted key."""
        self.warnings.append(f"{self.config._source.where(_path(key))}: {key}: {message}")

    @property
    def evaluates(self) -> bool:
        """Whether the mode runs over ``DataLoader.Eval``."""
        return self.mode == "eval" or (self.mode == "train" and self.config.Global.eval_during_train)


def check(config: Config, mode: str) -> tuple:
    """Return ``(problems, warnings)`` of a configuration whose keys and types are right."""
    report = Report(config, mode)
    for step in (
        _needed,
        _keys,
        _device,
        _backbone,
        _schedule,
        _optimizer,
        _metrics,
        _weights,
        _images,
        _batches,
        check_token_labels,
        _infer,
    ):
        step(report)
    return report.problems, report.warnings


def _path(key: str) -> tuple:
    return tuple(int(step) if step.isdigit() else step for step in key.split("."))


# ---- sections --------------------------------------------------------------------------------------------------


def _needed(report: Report) -> None:
    """Check that the sections of the mode are there."""
    config, evaluates = report.config, report.evaluates
    needed = {
        "Global.epochs": report.mode == "train",
        "Loss.Train": report.mode == "train",
        "Optimizer": report.mode == "train",
        "DataLoader.Train": report.mode == "train",
        "DataLoader.Eval": evaluates,
        "Metric.Eval": evaluates and (report.mode == "train" or not config.section("Loss.Eval")),
        "Infer.infer_imgs": report.mode == "infer",
    }
    for key, is_needed in needed.items():
        if is_needed and config.section(key) is None:
            why = "train with Global.eval_during_train" if report.mode == "train" and "Eval" in key else report.mode
            report.wrong(key, f"the key is missing; {why} needs it", "missing")


def _keys(report: Report) -> None:
    """Warn of keys that have no effect."""

    def visit(section: Section, prefix: str) -> None:
        for name, value in section:
            for marker in markers(type(section), name, (Ignored,)):
                if value not in (None, False):
                    report.warn(prefix + name, f"has no effect: {marker.sentence}")
            if isinstance(value, Section):
                visit(value, f"{prefix}{name}.")

    visit(report.config, "")


# ---- device and precision --------------------------------------------------------------------------------------


def _device(report: Report) -> None:
    config = report.config
    if config.Global.device == "gpu":
        if not paddle.is_compiled_with_cuda():
            report.wrong(
                "Global.device",
                "got 'gpu', but this Paddle is built without CUDA; install paddlepaddle-gpu or set Global.device=cpu",
            )
            return
        if paddle.device.cuda.device_count() == 0:
            report.wrong("Global.device", "got 'gpu', but no GPU is visible; set Global.device=cpu")
            return
    amp = config.AMP
    uses_amp = amp is not None and amp.use_amp and (report.mode == "train" or (report.evaluates and amp.use_fp16_test))
    if not uses_amp:
        return
    if config.Global.device == "cpu":
        report.wrong("AMP.use_amp", "Paddle computes in float32 on a CPU; set AMP.use_amp=False or Global.device=gpu")
    elif amp.dtype == "bfloat16" and not paddle.amp.is_bfloat16_supported():
        report.wrong("AMP.dtype", "this GPU has no bfloat16; set AMP.dtype=float16")


# ---- backbone --------------------------------------------------------------------------------------------------


def _backbone(report: Report) -> None:
    arch = report.config.Arch
    if arch.name in COMPOSED:
        report.wrong("Arch.name", f"{arch.name} of PaddleClas is not supported; name a backbone", "unsupported")
        return
    factory = backbone_factory(arch.name)
    if factory is None:
        known = [*registry.factories(), *plugin.paddleclas_names()]
        hint = nearest(arch.name.rpartition(".")[2], known)
        advice = f"; did you mean {', '.join(hint)}?" if hint else ""
        missing = "" if plugin.HAS_PADDLECLAS else "; PaddleClas, which has others, is not installed"
        report.wrong("Arch.name", f"unknown backbone {arch.name!r}{advice}{missing}")
        return
    allowed = factory_arguments(factory)
    for name in arch.kwargs():
        if allowed is None:
            # PaddleClas's backbones swallow what they do not know: at least a misspelt key of ours is found.
            meant = RENAMED_ARGUMENTS.get(name) or difflib.get_close_matches(name, OWN_ARGUMENTS, n=1, cutoff=0.8)
            if meant and name not in OWN_ARGUMENTS:
                report.wrong(f"Arch.{name}", f"unknown key; did you mean Arch.{meant[0]}?")
        elif name not in allowed:
            # pretrained is the engine's business (a saved config holds it); class_num has a default
            if name == "pretrained" or (name == "class_num" and name not in arch.model_fields_set):
                continue
            hint = nearest(name, [*allowed, "use_sync_bn", "infer_add_softmax"], count=1)
            advice = f"did you mean {hint[0]}?" if hint else f"it takes {', '.join(allowed)}"
            report.wrong(f"Arch.{name}", f"{arch.name} has no such argument; {advice}")
    if report.mode == "train" and report.config.Global.recompute and not is_ours(arch.name):
        report.wrong("Global.recompute", f"PaddleClas's {arch.name} has no recompute; ppcls_ext's backbones have")
    layout = arch.kwargs().get("pretrained_layout")
    # A layout without pretrained=True too: so goes a run on whose model such weights were the beginning of.
    if is_ours(arch.name) and (arch.pretrained is True or layout is not None):
        bare = arch.name.rpartition(".")[2]
        published = {spec.name: spec.weights for spec in registry.specs()}
        try:
            item = choose(bare, published.get(bare, ()), layout)
        except NoPublishedWeightsError as error:
            report.wrong("Arch.pretrained", str(error))
        except ValueError as error:
            report.wrong("Arch.pretrained_layout", str(error))
        else:
            missing = lacking(item, {**factory.arguments, **arch.kwargs()})
            for key, value in missing.items():
                report.wrong(f"Arch.{key}", f"the {item.layout} weights of {bare} are of a model with {key}: {value}")
            try:
                published_form(bare, item, factory.arguments, {**arch.kwargs(), **missing})
            except ValueError as error:
                report.wrong(f"Arch.{FORM}", str(error))


def factory_arguments(factory: Callable) -> Optional[list[str]]:
    """Return the names of the arguments of a backbone; None if it takes any and does not say which."""
    parameters = inspect.signature(factory).parameters.values()
    named = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    declared = getattr(factory, "arguments", None)
    if declared is not None:
        return list(dict.fromkeys([*declared, *named, *THESEUS_ARGUMENTS]))
    return named if len(named) == len(parameters) else None


# ---- optimisation ----------------------------------------------------------------------------------------------


def _schedule(report: Report) -> None:
    optimizer, epochs = report.config.Optimizer, report.config.Global.epochs
    if optimizer is None or report.mode != "train":
        return
    lr = optimizer.lr
    peak = lr.learning_rate
    if lr.name == "Piecewise":
        try:
            peak = piecewise_table(epochs or 1, lr.learning_rate, lr.decay_epochs, lr.values)[1][0]
        except ValueError as error:
            report.wrong("Optimizer.lr.values", str(error))
    if lr.name == "MultiStepDecay" and lr.milestones != sorted(set(lr.milestones)):
        report.wrong("Optimizer.lr.milestones", f"got {lr.milestones}; expected increasing epochs")
    if lr.by_epoch:
        for name in ("warmup_epoch", "cooldown_epoch", "step_size", "decay_epochs", "milestones"):
            value = getattr(lr, name, None)
            values = value if isinstance(value, list) else [] if value is None else [value]
            if any(item != int(item) for item in values):
                report.wrong(f"Optimizer.lr.{name}", f"got {value}; expected whole epochs with by_epoch")
    if lr.warmup_epoch and peak is not None and lr.warmup_start_lr >= peak:
        report.wrong(
            "Optimizer.lr.warmup_start_lr", f"got {lr.warmup_start_lr}; expected less than the learning rate, {peak}"
        )
    if epochs and lr.name == "Cosine" and lr.cooldown_epoch >= epochs - lr.warmup_epoch > 0:
        report.wrong(
            "Optimizer.lr.cooldown_epoch",
            f"got {lr.cooldown_epoch:g}; expected less than the {epochs - lr.warmup_epoch:g} of the {epochs} epochs "
            "that the warm-up leaves",
        )
    if epochs and lr.warmup_epoch >= epochs:
        report.warn(
            "Optimizer.lr.warmup_epoch",
            f"{lr.warmup_epoch:g} epochs of warm-up in a run of {epochs}: the learning rate rises to its peak and "
            "never decays",
        )


def _optimizer(report: Report) -> None:
    optimizer = report.config.Optimizer
    if optimizer is None or report.mode != "train":
        return
    regularizer = getattr(optimizer, "regularizer", None)
    if regularizer is not None and optimizer.weight_decay is not None:
        report.wrong("Optimizer.weight_decay", "give weight_decay or regularizer, not both")
    if optimizer.clip_norm is not None:
        if optimizer.clip_global_norm is not None:
            report.wrong("Optimizer.clip_norm", "give clip_global_norm or clip_norm, not both")
        report.warn(
            "Optimizer.clip_norm",
            "clips the norm of each tensor by itself, as PaddleClas does; the usual clipping, of all gradients "
            "together, is clip_global_norm",
        )
    if optimizer.name == "AdamWDL" and optimizer.layerwise_decay is None:
        report.wrong(
            "Optimizer.layerwise_decay", "the key is missing; AdamWDL needs it (AdamW does without)", "missing"
        )


def _metrics(report: Report) -> None:
    if report.mode not in ("train", "eval") or report.config.Metric is None:
        return
    class_num = report.config.Arch.class_num
    for split in ("Train", "Eval") if report.mode == "train" else ("Eval",):
        seen: list = []
        for index, item in enumerate(getattr(report.config.Metric, split) or []):
            key = f"Metric.{split}.{index}.TopkAcc.topk"
            for k in item.TopkAcc.topk:
                if k > class_num:
                    report.wrong(key, f"got {k}; expected at most the number of classes, Arch.class_num = {class_num}")
                if k in seen:
                    report.wrong(key, f"top{k} is asked for more than once")
                seen.append(k)


# ---- files -----------------------------------------------------------------------------------------------------


def _weights(report: Report) -> None:
    for key in ("Global.pretrained_model", "Arch.pretrained"):
        path = report.config.section(key)
        if not isinstance(path, str):
            continue
        if path.startswith(("http://", "https://")):
            report.wrong(key, f"got the address {path!r}; expected a file: download it first")
        elif not any(os.path.isfile(path + suffix) for suffix in ("", ".pdparams", ".safetensors")):
            report.wrong(key, f"got {path!r}; there is neither such a file nor {path + '.pdparams'!r} or .safetensors")
    prefix = report.config.Global.checkpoints
    if report.mode == "train" and prefix is not None and not _has_checkpoint(Path(prefix)):
        report.wrong(
            "Global.checkpoints",
            f"got {prefix!r}; there is no checkpoint of that prefix, such as output/latest for output/latest.pdparams",
        )


def _has_checkpoint(prefix: Path) -> bool:
    """Return whether a file of the prefix is there, also one that an interrupted save left under another name."""
    name = prefix.name.removesuffix(".pdparams")
    return (
        bool(name) and prefix.parent.is_dir() and any(file.startswith(f"{name}.") for file in os.listdir(prefix.parent))
    )


def _images(report: Report) -> None:
    """Check the operators, the label lists and the class counts of the splits that the mode reads."""
    splits = {"Train": report.mode == "train", "Eval": report.evaluates or report.mode == "export"}
    summaries = []
    for split, is_used in splits.items():
        section = report.config.section(f"DataLoader.{split}.dataset")
        if section is None or not is_used:
            continue
        key = f"DataLoader.{split}.dataset"
        from_bytes = DATASETS[section["name"]].from_bytes
        _operators(report, f"{key}.transform_ops", section["transform_ops"], from_bytes)
        if report.mode == "export":
            continue
        allowed = dataset_arguments(section["name"])
        for name in section:
            if name not in allowed and name not in ("name", "batch_transform_ops"):
                report.wrong(f"{key}.{name}", f"{section['name']} has no such argument; it takes {', '.join(allowed)}")
        missing = [name for name, p in allowed.items() if p.default is p.empty and name not in section]
        for name in missing:
            report.wrong(f"{key}.{name}", f"the key is missing; {section['name']} needs it", "missing")
        if not missing:
            summaries.append(_labels(report, key, section))
    modes = {split: report.config.section(f"DataLoader.{split}.dataset.mode") for split in splits}
    if splits["Eval"] and modes["Eval"] == "train":
        report.warn("DataLoader.Eval.dataset.mode", "evaluates on the training images; the others are mode: test")
    if len(summaries) == 2 and all(summaries):
        complaint = relabel_problem(*summaries)
        if complaint:
            report.wrong("DataLoader.Eval.dataset.relabel", complaint)


def _batches(report: Report) -> None:
    """Check the samplers, and the operators that mix images and labels."""
    splits = {"Train": report.mode == "train", "Eval": report.evaluates}
    for split, is_used in splits.items():
        key = f"DataLoader.{split}"
        section = report.config.section(key)
        if section is None or not is_used:
            continue
        sampler = section["sampler"]
        if sampler["name"] == "RASampler" and split == "Eval":
            report.wrong(f"{key}.sampler.name", "RASampler repeats images; expected DistributedBatchSampler")
        if sampler["name"] != "RASampler" and "num_repeats" in sampler:
            report.wrong(f"{key}.sampler.num_repeats", "needs sampler.name: RASampler")
        if sampler["name"] == "RASampler" and section["dataset"]["name"] == "ShardDataset":
            report.wrong(f"{key}.sampler.name", "RASampler jumps between shards; expected DistributedBatchSampler")
        operators = section["dataset"].get("batch_transform_ops")
        if section["loader"].get("normalize_on_device"):
            _device_normalization(report, key, section["dataset"])
        if operators and split == "Eval":
            report.wrong(f"{key}.dataset.batch_transform_ops", "mixed images and labels cannot be evaluated; remove it")
        elif operators:
            _mixing(report, f"{key}.dataset.batch_transform_ops", operators)


def _device_normalization(report: Report, key: str, dataset: dict) -> None:
    if check_transform_ops(dataset["transform_ops"]):
        return  # reported already
    _, normalization = build_transforms(dataset["transform_ops"]).split_normalization()
    problem = device_normalization_problem(normalization, bool(dataset.get("batch_transform_ops")))
    if problem:
        report.wrong(f"{key}.loader.normalize_on_device", problem)


def _mixing(report: Report, key: str, operators: list) -> None:
    class_num = report.config.Arch.class_num
    problems = check_batch_transform_ops(operators, class_num)
    _point_at(report, key, problems)
    if problems:
        return
    smoothing = label_smoothing(operators, class_num)
    for position, item in enumerate(report.config.section("Loss.Train") or []):
        if smoothing and item.get("CELoss", {}).get("epsilon"):
            report.wrong(
                f"Loss.Train.{position}.CELoss.epsilon",
                f"smooths labels that MixupCutmixHybrid has smoothed by {smoothing:g}; set one of epsilon and "
                "label_smoothing to 0",
            )
    if report.config.section("Metric.Train"):
        report.warn(
            "Metric.Train",
            "batch_transform_ops mix labels, so training accuracy counts the class with the largest share of each",
        )


def _operators(report: Report, key: str, operators: list, from_bytes: bool = False) -> None:
    _point_at(report, key, check_transform_ops(operators, from_bytes=from_bytes))


def _point_at(report: Report, key: str, problems: list) -> None:
    """Report the problems of a list of operators at ``key``."""
    for problem in problems:
        place = f"{key}.{problem.key}".rstrip(".")
        # A message about the value of an argument begins with its name: then that is the key to point at.
        argument = problem.message.partition(":")[0]
        if (*_path(place), argument) in report.config._source.places:
            place = f"{place}.{argument}"
        report.wrong(place, problem.message)


def _labels(report: Report, key: str, section: dict) -> Optional[LabelSummary]:
    """Check a label list, and return what is known of it; None if it cannot be read."""
    absent = False
    if "image_root" in section and not os.path.isdir(section["image_root"]):
        absent = True
        report.wrong(f"{key}.image_root", f"got {section['image_root']!r}; there is no such folder")
    for name in ("cls_label_path", "class_id_map_file"):
        path = section.get(name)
        if path is not None and not os.path.isfile(path):
            absent = True
            report.wrong(f"{key}.{name}", f"got {path!r}; there is no such file")
    archive = ARCHIVES.get(section["name"])
    if archive and not os.path.exists(section["data_file"]):
        absent = True
        report.wrong(f"{key}.data_file", f"got {section['data_file']!r}; there is no such file; {archive.remedy()}")
    if absent:
        return None
    arguments = {name: value for name, value in section.items() if name in dataset_arguments(section["name"])}
    try:
        summary = inspect_labels({"name": section["name"], **arguments}, check_files=False)
    except (OSError, ValueError) as error:
        # A message about the value of an argument begins with its name: then that is the key to point at.
        argument, _, message = str(error).partition(": ")
        report.wrong(*((f"{key}.{argument}", message) if argument in section else (key, str(error))))
        return None
    class_num = report.config.Arch.class_num
    complaint = summary.problem(class_num)
    if complaint:
        report.wrong(key, complaint)
    elif key == "DataLoader.Train.dataset" and summary.classes < class_num:
        report.warn(key, f"the list has {summary.classes} classes, Arch.class_num is {class_num}")
    return summary


def _infer(report: Report) -> None:
    section = report.config.Infer
    if section is None or report.mode not in ("infer", "export"):
        return
    _operators(report, "Infer.transforms", section.transforms)
    class_num = report.config.Arch.class_num
    if section.PostProcess.topk > class_num:
        report.wrong(
            "Infer.PostProcess.topk",
            f"got {section.PostProcess.topk}; expected at most the number of classes, Arch.class_num = {class_num}",
        )
    label_file = section.PostProcess.class_id_map_file
    if label_file is not None:
        _label_file(report, label_file, class_num)
    if report.mode == "infer":
        for name in ("infer_imgs", "infer_list"):
            path = getattr(section, name)
            if path is not None and not os.path.exists(path):
                report.wrong(f"Infer.{name}", f"got {path!r}; there is no such file or folder")


def _label_file(report: Report, path: str, class_num: int) -> None:
    key = "Infer.PostProcess.class_id_map_file"
    if not os.path.isfile(path):
        report.wrong(key, f"got {path!r}; there is no such file; None shows class ids alone")
        return
    lines = sum(1 for line in Path(path).read_bytes().splitlines() if line.strip())
    if lines != class_num:
        report.wrong(key, f"{path} names {lines} classes, Arch.class_num is {class_num}")
