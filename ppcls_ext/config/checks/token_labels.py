"""What token labelling asks of a configuration: model, loss, data and operators on batches that go together."""

from __future__ import annotations

import os

from ppcls_ext.config.report import Report
from ppcls_ext.data.batch_ops import check_batch_transform_ops, check_token_grid
from ppcls_ext.data.datasets import NOT_TRACEABLE
from ppcls_ext.data.preprocess import build_transforms, check_transform_ops

_LOSS, _MAPS = "TokenLabelLoss", "DataLoader.Train.dataset.token_label"


def check_token_labels(report: Report) -> None:
    """Check the parts of token labelling against each other."""
    config = report.config
    if config.section("DataLoader.Eval.dataset.token_label") and (report.evaluates or report.mode == "train"):
        report.wrong("DataLoader.Eval.dataset.token_label", "only training has labels of tokens; remove it")
    for position, item in enumerate(config.section("Loss.Eval") or []):
        if _LOSS in item:
            report.wrong(
                f"Loss.Eval.{position}.{_LOSS}", "a model that is evaluated returns class scores alone; use CELoss"
            )
    if report.mode != "train":
        return
    losses = [next(iter(item)) for item in config.section("Loss.Train") or []]
    has_head, maps = config.Arch.kwargs().get("token_label"), config.section(_MAPS)
    if has_head is True and _LOSS not in losses:
        report.wrong("Arch.token_label", f"nothing would train the tokens' classifier; put {_LOSS} into Loss.Train")
    for position, name in enumerate(losses):
        if name == _LOSS and has_head is not True:
            report.wrong(f"Loss.Train.{position}.{_LOSS}", "needs a model with Arch.token_label: True")
        elif name != _LOSS and maps:
            report.wrong(f"Loss.Train.{position}.{name}", f"takes labels of images alone; {_LOSS} replaces it")
    if maps and _LOSS not in losses:
        report.wrong(_MAPS, f"needs {_LOSS} in Loss.Train")
    if maps:
        _check_maps(report, maps)


def _check_maps(report: Report, maps: dict) -> None:
    dataset = report.config.section("DataLoader.Train.dataset")
    if not os.path.isdir(maps["root"]):
        report.wrong(f"{_MAPS}.root", f"got {maps['root']!r}; there is no such folder")
    if dataset.get("relabel"):
        report.wrong("DataLoader.Train.dataset.relabel", "a teacher knows the classes of the list; remove it")
    operators = dataset["transform_ops"]
    if not check_transform_ops(operators, from_bytes=True):
        for position, operator in enumerate(build_transforms(operators).operators):
            if not operator.traceable:
                key = f"DataLoader.Train.dataset.transform_ops.{position}.{type(operator).__name__}"
                report.wrong(key, NOT_TRACEABLE)
    batch_ops, class_num = dataset.get("batch_transform_ops"), report.config.Arch.class_num
    if batch_ops and not check_batch_transform_ops(batch_ops, class_num):
        for problem in check_token_grid(batch_ops, class_num, maps["size"]):
            report.wrong(f"DataLoader.Train.dataset.batch_transform_ops.{problem.key}", problem.message)
