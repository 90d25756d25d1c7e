"""Evaluation metrics under PaddleClas's names, exact across processes."""

from __future__ import annotations

from ppcls_ext.metrics.classes import InvalidLogitsError
from ppcls_ext.metrics.combined import Metrics, build_metrics
from ppcls_ext.metrics.confusion import ConfusionMatrix
from ppcls_ext.metrics.per_class import F1, PerClass, Precision, Recall
from ppcls_ext.metrics.topk import TopkAcc
from ppcls_ext.metrics.tpr_at_fpr import TprAtFpr

__all__ = [
    "F1",
    "ConfusionMatrix",
    "InvalidLogitsError",
    "Metrics",
    "PerClass",
    "Precision",
    "Recall",
    "TopkAcc",
    "TprAtFpr",
    "build_metrics",
]
