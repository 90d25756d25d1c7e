"""Prediction: operators, post-processing, images."""

from __future__ import annotations

import os
from typing import Optional

import numpy as np

from ppcls_ext.config.report import Report
from ppcls_ext.config.schema.data import InferSection
from ppcls_ext.data.errors import TransformError
from ppcls_ext.data.label_names import label_file, read_class_id_map
from ppcls_ext.data.preprocess import build_transforms, check_transform_ops
from ppcls_ext.data.preprocess.operator import HWC


def check_infer(report: Report) -> None:
    """Check the operators, the label file and the images of prediction.

    Training and evaluation do not use the section: there its mistakes are warnings.
    """
    section = report.config.Infer
    if section is None:
        return
    used = report.mode in ("infer", "export")
    found = report if used else Report(report.config, report.source, report.mode)
    _check(found, section)
    if not used:
        report.warnings += [f"{problem}; infer and export will refuse it" for problem in found.problems]
    _compare_with_evaluation(report)


def _check(report: Report, section: InferSection) -> None:
    reads_files = report.mode == "infer" or bool(section.transforms)
    report.point_at("Infer.transforms", check_transform_ops(section.transforms, from_bytes=reads_files))
    class_num = report.config.Arch.class_num
    if section.PostProcess.topk > class_num:
        report.wrong(
            "Infer.PostProcess.topk",
            f"got {section.PostProcess.topk}; expected at most the number of classes, Arch.class_num = {class_num}",
        )
    label_file = section.PostProcess.class_id_map_file
    if label_file is not None:
        _label_file(report, label_file, section.PostProcess.delimiter, class_num)
    if report.mode == "infer":
        for name in ("infer_imgs", "infer_list"):
            path = getattr(section, name)
            if path is not None and not os.path.exists(path):
                report.wrong(f"Infer.{name}", f"got {path!r}; there is no such file or folder")


def _compare_with_evaluation(report: Report) -> None:
    """Warn where prediction would see other pixels than evaluation."""
    evaluation = report.config.section("DataLoader.Eval.dataset.transform_ops")
    prediction = report.config.section("Infer.transforms")
    if not evaluation or check_transform_ops(evaluation) or check_transform_ops(prediction):
        return
    evaluated, predicted = _result(evaluation), _result(prediction)
    if evaluated is None or predicted is None:
        return
    if evaluated.shape == predicted.shape and np.array_equal(evaluated, predicted):
        return
    kept = [[item for item in operators if "ToCHWImage" not in item] for operators in (evaluation, prediction)]
    differing = [
        f"{_written(theirs)} in DataLoader.Eval, {_written(ours)} in Infer"
        for theirs, ours in zip(*kept)
        if theirs != ours
    ]
    longer = max(kept, key=len)[min(map(len, kept)) :]
    where = "DataLoader.Eval" if longer and len(kept[0]) > len(kept[1]) else "Infer"
    differing += [f"{_written(item)} in {where} alone" for item in longer]
    report.warn("Infer.transforms", "prediction sees other pixels than evaluation: " + "; ".join(differing))


def _result(operators: list) -> Optional[np.ndarray]:
    """Return what the operators make of a noisy colour image, channels first; None if they cannot take it."""
    image = np.random.default_rng(0).integers(0, 256, (317, 283, 3), dtype=np.uint8)
    chain = build_transforms(operators)
    decodes = bool(operators) and "DecodeImage" in operators[0]
    try:
        result = chain(image if decodes else image[..., ::-1], np.random.default_rng(0))
    except TransformError:
        return None
    return result.transpose(2, 0, 1) if chain.layout == HWC else result


def _written(operator: dict) -> str:
    ((name, arguments),) = operator.items()
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in (arguments or {}).items())})"


def _label_file(report: Report, path: str, delimiter: Optional[str], class_num: int) -> None:
    key = "Infer.PostProcess.class_id_map_file"
    if not label_file(path).exists():
        report.wrong(key, f"got {path!r}; there is no such file; None shows class ids alone")
        return
    try:
        names = read_class_id_map(path, delimiter)
    except ValueError as error:
        report.wrong(key, str(error))
        return
    if len(names) != class_num:
        report.wrong(key, f"{path} names {len(names)} classes, Arch.class_num is {class_num}")
