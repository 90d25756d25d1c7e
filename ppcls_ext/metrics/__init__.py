"""Evaluation metrics under PaddleClas's names, exact across processes."""

from __future__ import annotations

from ppcls_ext.metrics.combined import Metrics, build_metrics
from ppcls_ext.metrics.topk import InvalidLogitsError, TopkAcc

__all__ = ["InvalidLogitsError", "Metrics", "TopkAcc", "build_metrics"]
