"""Prediction: operators, post-processing, images."""

from __future__ import annotations

import os

from ppcls_ext.config.report import Report
from ppcls_ext.data.label_names import read_class_id_map
from ppcls_ext.data.preprocess import check_transform_ops


def check_infer(report: Report) -> None:
    """Check the operators, the label file and the images of prediction."""
    section = report.config.Infer
    if section is None or report.mode not in ("infer", "export"):
        return
    report.point_at("Infer.transforms", check_transform_ops(section.transforms))
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
    if not os.path.exists(path):
        report.wrong(key, f"got {path!r}; there is no such file; None shows class ids alone")
        return
    try:
        names = read_class_id_map(path, report.config.Infer.PostProcess.delimiter)
    except ValueError as error:
        report.wrong(key, str(error))
        return
    if len(names) != class_num:
        report.wrong(key, f"{path} names {len(names)} classes, Arch.class_num is {class_num}")
