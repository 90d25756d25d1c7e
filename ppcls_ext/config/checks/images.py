"""Images: operators, label lists, class counts, samplers, and operators on batches."""

from __future__ import annotations

import os
from typing import Optional

from ppcls_ext.config.report import Report
from ppcls_ext.data.batch_ops import check_batch_transform_ops
from ppcls_ext.data.batch_ops.pipeline import label_smoothing
from ppcls_ext.data.build import DATASETS, dataset_arguments, sampler_problems
from ppcls_ext.data.cifar import ARCHIVES
from ppcls_ext.data.class_names import class_names_of
from ppcls_ext.data.image_folder import label_file_problem
from ppcls_ext.data.label_names import label_file, read_class_id_map
from ppcls_ext.data.loader import device_normalization_problem
from ppcls_ext.data.preprocess import build_transforms, check_transform_ops
from ppcls_ext.data.summary import LabelSummary, inspect_labels, relabel_problem


def check_images(report: Report) -> None:
    """Check the operators, the label lists and the class counts of the splits that the mode reads."""
    splits = {"Train": report.mode == "train", "Eval": report.evaluates or report.mode == "export"}
    summaries: list[Optional[LabelSummary]] = []
    for split, is_used in splits.items():
        section = report.config.section(f"DataLoader.{split}.dataset")
        if section is None or not is_used:
            continue
        key = f"DataLoader.{split}.dataset"
        from_bytes = DATASETS[section["name"]].from_bytes
        report.point_at(f"{key}.transform_ops", check_transform_ops(section["transform_ops"], from_bytes=from_bytes))
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
    _label_file(report)
    readable = [summary for summary in summaries if summary]
    if len(readable) == 2:
        complaint = relabel_problem(*readable)
        if complaint:
            report.wrong("DataLoader.Eval.dataset.relabel", complaint)


def _label_file(report: Report) -> None:
    """Check that the label file of prediction names the classes as the folders of training do."""
    if report.config.Infer is None:
        return
    post_process = report.config.Infer.PostProcess
    path = post_process.class_id_map_file
    if path is None or not os.path.isfile(path):
        return
    try:
        folders = class_names_of(report.config.section("DataLoader.Train.dataset"))
        complaint = folders and label_file_problem(folders, read_class_id_map(path, post_process.delimiter), path)
    except ValueError:
        return  # each of the two is reported where it is used
    if complaint:
        report.wrong("Infer.PostProcess.class_id_map_file", complaint)


def check_batches(report: Report) -> None:
    """Check the samplers, and the operators that mix images and labels."""
    splits = {"Train": report.mode == "train", "Eval": report.evaluates}
    for split, is_used in splits.items():
        key = f"DataLoader.{split}"
        section = report.config.section(key)
        if section is None or not is_used:
            continue
        for place, message in sampler_problems(section, split):
            report.wrong(f"{key}.{place}", message, "missing" if "the key is missing" in message else "wrong")
        operators = section["dataset"].get("batch_transform_ops")
        if section["loader"].get("normalize_on_device"):
            _device_normalization(report, key, section["dataset"])
        if operators and split == "Train":
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
    report.point_at(key, problems)
    if problems:
        return
    smoothing = label_smoothing(operators, class_num)
    for position, item in enumerate(report.config.section("Loss.Train") or []):
        ((name, arguments),) = item.items()
        if smoothing and arguments.get("epsilon"):
            report.wrong(
                f"Loss.Train.{position}.{name}.epsilon",
                f"smooths labels that MixupCutmixHybrid has smoothed by {smoothing:g}; set one of epsilon and "
                "label_smoothing to 0",
            )
    if report.config.section("Metric.Train"):
        report.warn(
            "Metric.Train",
            "batch_transform_ops mix labels, so training accuracy counts the class with the largest share of each",
        )


def _labels(report: Report, key: str, section: dict) -> Optional[LabelSummary]:
    """Check a label list, and return what is known of it; None if it cannot be read."""
    absent = False
    if "image_root" in section and not os.path.isdir(section["image_root"]):
        absent = True
        report.wrong(f"{key}.image_root", f"got {section['image_root']!r}; there is no such folder")
    for name in ("cls_label_path", "class_id_map_file"):
        path = section.get(name)
        if path is not None and not os.path.exists(label_file(path) if name == "class_id_map_file" else path):
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
        # Evaluation numbers its folders as training does.
        names = class_names_of(report.config.section("DataLoader.Train.dataset")) if "Eval" in key else None
        summary = inspect_labels({"name": section["name"], **arguments}, check_files=False, class_names=names)
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
