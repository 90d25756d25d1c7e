"""Sections that a mode needs, and keys without effect."""

from __future__ import annotations

from ppcls_ext.config.report import Report
from ppcls_ext.config.schema.base import Ignored, Section, markers


def check_sections(report: Report) -> None:
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


def check_keys(report: Report) -> None:
    """Warn of keys that have no effect."""

    def visit(section: Section, prefix: str) -> None:
        for name, value in section:
            for marker in markers(type(section), name, (Ignored,)):
                if value not in (None, False):
                    report.warn(prefix + name, f"has no effect: {marker.sentence}")
            if isinstance(value, Section):
                visit(value, f"{prefix}{name}.")

    visit(report.config, "")
