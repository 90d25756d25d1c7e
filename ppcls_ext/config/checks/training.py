"""Losses, learning rate, optimizer, metrics, and when to evaluate."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from ppcls_ext.config.figures import criterion_of, figure_problem, loss_figures, metric_figures
from ppcls_ext.config.report import Report
from ppcls_ext.losses import build_loss
from ppcls_ext.optim import optimizer_problems, schedule_problems

#: Key of Global -> the package that it needs, and the extra that installs it.
CURVES = {
    "use_visualdl": ("visualdl", "tracking"),
    "use_tensorboard": ("tensorboardX", "tensorboard"),
    "plot_curves": ("matplotlib", "plot"),
}


def check_tracking(report: Report) -> None:
    """Check that the packages are installed that write and draw the curves of a training."""
    if report.mode != "train":
        return
    for key, (package, extra) in CURVES.items():
        if report.config.section(f"Global.{key}") and _is_missing(package):
            report.wrong(
                f"Global.{key}",
                f'{package} is not installed: `pip install "ppcls_ext[{extra}]"` together with the extras you have, or '
                "set the key to False",
            )


def _is_missing(package: str) -> bool:
    try:
        return find_spec(package) is None
    except ValueError:  # what forbids a package puts None in its place
        return True


def check_schedule(report: Report) -> None:
    """Check the learning rate against the length of the training."""
    optimizer, epochs = report.config.Optimizer, report.config.Global.epochs
    if optimizer is None or report.mode != "train":
        return
    lr = optimizer.lr
    for key, message in schedule_problems(report.config.section("Optimizer.lr"), epochs):
        report.wrong(f"Optimizer.lr.{key}", message)
    warmup = getattr(lr, "warmup_epoch", 0)
    if epochs and warmup >= epochs:
        report.warn(
            "Optimizer.lr.warmup_epoch",
            f"{warmup:g} epochs of warm-up in a run of {epochs}: the learning rate rises to its peak and never decays",
        )


def check_average(report: Report) -> None:
    """Check stochastic weight averaging against the length of the run and its schedule."""
    swa, settings, optimizer = report.config.SWA, report.config.Global, report.config.Optimizer
    if swa is None or report.mode != "train":
        return
    if settings.epochs and swa.start_epoch > settings.epochs:
        report.wrong("SWA.start_epoch", f"got {swa.start_epoch}; expected at most Global.epochs = {settings.epochs}")
    if swa.lr is not None and optimizer is not None and optimizer.lr.name == "ReduceOnPlateau":
        report.wrong("SWA.lr", "ReduceOnPlateau lowers the rate by the evaluations; remove one of the two")


def check_optimizer(report: Report) -> None:
    """Check arguments of the optimizer that exclude or need each other."""
    optimizer = report.config.Optimizer
    if optimizer is None or report.mode != "train":
        return
    for key, message in optimizer_problems(report.config.section("Optimizer")):
        report.wrong(f"Optimizer.{key}", message)
    if optimizer.clip_norm is not None:
        report.warn(
            "Optimizer.clip_norm",
            "clips the norm of each tensor by itself, as PaddleClas does; the usual clipping, of all gradients "
            "together, is clip_global_norm",
        )
    if optimizer.name == "AdamWDL" and optimizer.layerwise_decay is None:
        report.wrong(
            "Optimizer.layerwise_decay", "the key is missing; AdamWDL needs it (AdamW does without)", "missing"
        )


def check_losses(report: Report) -> None:
    """Check what no single loss can tell, such as weights that are all 0."""
    if report.mode not in ("train", "eval"):
        return
    for key in ("Loss.Train", "Loss.Eval") if report.mode == "train" else ("Loss.Eval",):
        section = report.config.section(key)
        if not section:
            continue
        for position, item in enumerate(section):
            ((name, arguments),) = item.items()
            if key == "Loss.Eval" and arguments.get("class_weights") is not None:
                report.wrong(
                    f"{key}.{position}.{name}.class_weights",
                    "a weighted mean depends on the batches, so evaluation would not be exact; remove it, and add "
                    "Recall to Metric.Eval, whose macro average weighs classes equally",
                )
                return
        try:
            # What `balanced` will be, the labels say later; here it stands for any weights.
            build_loss(section, np.ones(report.config.Arch.class_num, np.int64))
        except ValueError as error:
            report.wrong(key, str(error))


def check_metrics(report: Report) -> None:
    """Check the metrics against the number of classes and against each other."""
    if report.mode not in ("train", "eval") or report.config.Metric is None:
        return
    class_num = report.config.Arch.class_num
    for split in ("Train", "Eval") if report.mode == "train" else ("Eval",):
        seen: list = []
        items = getattr(report.config.Metric, split) or []
        _check_tables(report, split, items)
        for index, item in enumerate(items):
            if item.TprAtFpr is not None and class_num < 2:
                report.wrong(
                    f"Metric.{split}.{index}.TprAtFpr", f"needs two classes or more, Arch.class_num is {class_num}"
                )
            key = f"Metric.{split}.{index}.TopkAcc.topk"
            for k in item.TopkAcc.topk if item.TopkAcc else ():
                if k > class_num:
                    report.wrong(key, f"got {k}; expected at most the number of classes, Arch.class_num = {class_num}")
                if k in seen:
                    report.wrong(key, f"top{k} is asked for more than once")
                seen.append(k)


def _check_tables(report: Report, split: str, items: list) -> None:
    """Check the metrics that are tables: of a whole evaluation, once each, beside one with a figure."""
    figures: set = set()
    for index, item in enumerate(items):
        for name in ("PerClass", "ConfusionMatrix"):
            if getattr(item, name) is not None and split == "Train":
                report.wrong(f"Metric.Train.{index}.{name}", "a table of a whole evaluation; expected in Metric.Eval")
        for name, averages in _averages(item):
            for average in averages:
                if (name, average) in figures:
                    report.wrong(f"Metric.{split}.{index}.{name}", f"{average} is asked for more than once")
                figures.add((name, average))
    if report.mode == "train" and items and all(item.ConfusionMatrix is not None for item in items):
        report.wrong(
            f"Metric.{split}", "ConfusionMatrix has no figure to choose the best model by; add one such as TopkAcc"
        )


def _averages(item: Any) -> list:
    """Return (metric, averages) of an item; a table counts as one average."""
    found = [(name, getattr(item, name)) for name in ("Precision", "Recall", "F1", "PerClass", "ConfusionMatrix")]
    return [(name, getattr(value, "average", ["the table"])) for name, value in found if value is not None]


def check_evaluation(report: Report) -> None:
    """Warn of evaluation that never comes."""
    settings = report.config.Global
    if report.mode == "train" and report.evaluates and settings.epochs and settings.start_eval_epoch > settings.epochs:
        report.warn(
            "Global.start_eval_epoch",
            f"{settings.start_eval_epoch} is beyond the last epoch, {settings.epochs}: nothing is evaluated, and there "
            "will be no best_model",
        )


def check_selection(report: Report) -> None:
    """Check the figures that select the best model, end the training or lower the learning rate."""
    config = report.config
    if report.mode != "train":
        return
    stopping, settings = config.Global.early_stopping, config.Global
    lr = config.Optimizer.lr if config.Optimizer else None
    plateau = lr is not None and lr.name == "ReduceOnPlateau"
    watches = {
        "Global.best_metric": settings.best_metric is not None,
        "Global.early_stopping": stopping is not None,
        "Optimizer.lr.name": plateau,
    }
    if not report.evaluates:
        for key in (key for key, is_used in watches.items() if is_used):
            report.wrong(key, "watches an evaluation; set Global.eval_during_train: True, or remove it")
        return
    try:
        losses = loss_figures(config.section("Loss.Eval"))
        metrics = metric_figures(config.section("Metric.Eval"), config.Arch.class_num)
    except ValueError:
        return  # reported already
    known = [*metrics, *losses]
    for key, name, has_average in (
        ("Global.best_metric", settings.best_metric, False),
        ("Global.early_stopping.metric", stopping and stopping.metric, config.EMA is not None),
    ):
        problem = figure_problem(name, known, has_average) if name else None
        if problem:
            report.wrong(key, problem)
            return
    criterion = criterion_of(config) or next(iter(metrics), None)
    for key in (key for key, is_used in watches.items() if is_used and criterion is None):
        report.wrong(key, "needs a figure of evaluation to watch; add Metric.Eval, such as - TopkAcc: {topk: [1]}")
    mode = getattr(lr, "mode", None)
    if plateau and criterion is not None and mode not in (None, "min" if criterion in losses else "max"):
        better = "less" if criterion in losses else "more"
        report.wrong("Optimizer.lr.mode", f"got {mode}, but of {criterion}, which it watches, {better} is better")
