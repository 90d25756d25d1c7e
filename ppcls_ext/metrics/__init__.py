"""Evaluation metrics under PaddleClas's names, exact across processes."""

from __future__ import annotations

from .combined import Metrics, build_metrics
from .topk import InvalidLogitsError, TopkAcc

__all__ = ["InvalidLogitsError", "Metrics", "TopkAcc", "build_metrics"]
