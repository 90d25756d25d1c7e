"""The metrics that a YAML lists, behind one interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Optional, Sequence, Union

import numpy as np

from ppcls_ext.metrics.confusion import ConfusionMatrix
from ppcls_ext.metrics.per_class import F1, PerClass, Precision, Recall
from ppcls_ext.metrics.topk import TopkAcc
from ppcls_ext.metrics.tpr_at_fpr import TprAtFpr
from ppcls_ext.utils.spelling import nearest

if TYPE_CHECKING:
    import paddle

METRICS = {
    "TopkAcc": TopkAcc,
    "TprAtFpr": TprAtFpr,
    "Precision": Precision,
    "Recall": Recall,
    "F1": F1,
    "PerClass": PerClass,
    "ConfusionMatrix": ConfusionMatrix,
}


class Metrics:
    """Several metrics as one.

    Attributes:
        criterion: name of the figure that "best" is judged by: the first one; None where no metric has a figure.
        names: names of all figures, in the order of the YAML.
    """

    def __init__(self, metrics: Sequence):
        self._metrics = list(metrics)
        self.names = [name for metric in self._metrics for name in metric.names]
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise ValueError(f"Metric: {', '.join(repeated)} is asked for more than once")
        self.criterion: Optional[str] = self.names[0] if self.names else None

    def update(self, logits: Union[paddle.Tensor, Mapping], labels: paddle.Tensor) -> None:
        """Count a batch; ``logits`` may be a mapping that holds them under ``logits``."""
        if isinstance(logits, Mapping):
            logits = logits["logits"]
        for metric in self._metrics:
            metric.update(logits, labels)

    def state(self) -> np.ndarray:
        """Return the sums of all metrics, float64 ``[K]``; those of several processes may be added."""
        return np.concatenate([metric.state() for metric in self._metrics])

    def load_state(self, state: np.ndarray) -> None:
        """Take over sums that :meth:`state` returned, or a sum of such."""
        state = np.asarray(state, dtype=np.float64)
        lengths = [metric.state().size for metric in self._metrics]
        if state.shape != (sum(lengths),):
            raise ValueError(f"Metrics: the state must have shape ({sum(lengths)},), got {state.shape}")
        for metric, part in zip(self._metrics, np.split(state, np.cumsum(lengths)[:-1])):
            metric.load_state(part)

    def compute(self) -> dict:
        """Return the figures by name, for example ``{"top1": 0.5, "top5": 0.8}``."""
        return {name: value for metric in self._metrics for name, value in metric.compute().items()}

    @property
    def has_tables(self) -> bool:
        """Whether one of the metrics is a table."""
        return any(hasattr(metric, "table") for metric in self._metrics)

    def tables(self, class_names: Optional[Sequence[str]] = None) -> dict:
        """Return what is too much for a line of the log, by name: ``{"per_class": [header, row, ...]}``.

        Args:
            class_names: names of the classes by id, ``[class_num]``; by default the ids.
        """
        with_tables = [metric for metric in self._metrics if hasattr(metric, "table")]
        return {metric.table_name: metric.table(class_names) for metric in with_tables}

    def reset(self) -> None:
        """Discard all samples."""
        for metric in self._metrics:
            metric.reset()


def build_metrics(section: Sequence[Mapping], class_num: int) -> Metrics:
    """Build the metrics of ``Metric.Train`` or ``Metric.Eval``.

    Args:
        section: one-key mappings ``{name: arguments}``.
        class_num: number of classes.

    Raises:
        ValueError: if the section is empty, an entry is not of that form, or an argument is out of range.
        KeyError: if a metric is unknown; the message names the nearest.
    """
    if not section:
        raise ValueError(
            "Metric: the list of metrics is empty; give at least one, for example - TopkAcc: {topk: [1, 5]}"
        )
    metrics = []
    for entry in section:
        if not isinstance(entry, Mapping) or len(entry) != 1:
            raise ValueError(f"Metric: each entry must be one mapping {{name: {{...}}}}, got {entry!r}")
        ((name, arguments),) = entry.items()
        if name not in METRICS:
            hint = nearest(name, METRICS) or sorted(METRICS)
            raise KeyError(f"unknown metric {name!r}; supported: {', '.join(hint)}")
        metrics.append(METRICS[name](class_num=class_num, **dict(arguments or {})))
    return Metrics(metrics)
