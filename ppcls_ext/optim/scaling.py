"""The linear scaling rule: a batch k times as large takes learning rates k times as large (arXiv 1706.02677, §2.1)."""

from __future__ import annotations

from typing import Mapping

#: Keys of ``Optimizer.lr`` that are learning rates; ``values`` is a list of them.
RATES = (
    *("learning_rate", "warmup_start_lr", "eta_min", "end_lr", "values"),
    *("max_learning_rate", "end_learning_rate", "min_lr"),
)


def scale_learning_rates(section: Mapping, factor: float) -> dict:
    """Return ``Optimizer.lr`` with every learning rate multiplied by ``factor``; the schedule's shape stays the same.

    Args:
        section: the section, with the keys of any schedule.
        factor: images per optimizer step, divided by those that the rates are stated for.
    """
    scaled = dict(section)
    for name in RATES:
        value = scaled.get(name)
        if isinstance(value, (list, tuple)):
            scaled[name] = [rate * factor for rate in value]
        elif value is not None:
            scaled[name] = value * factor
    return scaled


def describe_scaling(before: Mapping, after: Mapping) -> str:
    """Return what :func:`scale_learning_rates` changed, such as ``learning_rate 0.002 -> 0.00025``."""
    return ", ".join(
        f"{name} {_text(before[name])} -> {_text(after[name])}"
        for name in RATES
        if before.get(name)  # 0 stays 0
    )


def _text(value) -> str:
    return f"[{', '.join(map(_text, value))}]" if isinstance(value, (list, tuple)) else f"{value:g}"
