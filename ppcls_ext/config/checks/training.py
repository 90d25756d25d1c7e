"""Learning rate, optimizer and metrics."""

from __future__ import annotations

from ppcls_ext.config.report import Report
from ppcls_ext.optim.lr import piecewise_table


def check_schedule(report: Report) -> None:
    """Check the learning rate against the length of the training."""
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


def check_optimizer(report: Report) -> None:
    """Check arguments of the optimizer that exclude or need each other."""
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


def check_metrics(report: Report) -> None:
    """Check the values of k against the number of classes."""
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
