"""Writers of the formats that VisualDL and TensorBoard show: the same figures under the same tags.

``step/…`` counts optimizer steps, ``epoch/…`` epochs: ``step/lr``, ``step/train/loss``, ``step/grad_norm``,
``epoch/train/top1``, ``epoch/eval/top1``, ``epoch/eval_ema/top1``, ``step/images_per_second``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping


class Trackers:
    """Writes figures in every format that is asked for.

    Args:
        folder: of the run.
        visualdl: whether to write VisualDL's records.
        tensorboard: whether to write TensorBoard's event files.
    """

    def __init__(self, folder: Path, visualdl: bool = False, tensorboard: bool = False):
        self._writers: list[Any] = []
        # Both are slow to import, and only some runs want them.
        if visualdl:
            from visualdl import LogWriter

            self._writers.append(LogWriter(logdir=str(folder)))
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._writers.append(SummaryWriter(logdir=str(folder)))

    def write(self, row: Mapping[str, Any]) -> None:
        """Write a line of ``metrics.jsonl``."""
        kind = row["kind"]
        for tag, value in _scalars(row, kind):
            for writer in self._writers:
                writer.add_scalar(tag, float(value), row[kind])  # the step, or the epoch

    def close(self) -> None:
        """Write out what is still held back."""
        for writer in self._writers:
            writer.close()


def _scalars(row: Mapping[str, Any], prefix: str) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in row.items():
        if isinstance(value, Mapping):
            found += _scalars(value, f"{prefix}/{name}")
        elif isinstance(value, (int, float)) and name not in ("epoch", "iteration", "step", "time"):
            found.append((f"{prefix}/{name}", value))
    return found
