"""``metrics.jsonl``: the figures of a run, one JSON object a line, without a gap and without a double line.

A line is one logged step or one epoch:

- ``kind``: ``step`` or ``epoch``;
- ``epoch`` (from 1), ``step`` (optimizer steps so far), of a step also ``iteration`` (batch of the epoch, from 0);
- ``lr``: the learning rate of that step, of an epoch that of its last step;
- ``train``: losses and metrics, means since the beginning of the epoch;
- ``eval``, ``eval_ema``: those of evaluation and of the averaged weights, of epochs that were evaluated;
- ``grad_norm``, ``loss_scale``: of a step, where there is one;
- ``images_per_second``: over all processes; ``time``: seconds since 1970.

A number that is not finite is null.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from pathlib import Path
from typing import Any, Mapping, Optional, Union

from ppcls_ext.utils.files import open_regular, write_atomically

logger = logging.getLogger("ppcls_ext")

FILE_NAME = "metrics.jsonl"
STEP, EPOCH = "step", "epoch"


class MetricsError(ValueError):
    """A run has no figures, or the file that holds them is damaged; the message says which."""


class MetricsLog:
    """Writes the lines of one run. Each is one call of the system, so that a kill leaves whole lines but the last.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path):
        self.path = folder / FILE_NAME
        self._file: Optional[int] = None

    def begin(self, source: Optional[Path], epoch: int, iteration: int) -> None:
        """Keep what was written up to the position at which the run goes on, and open the file.

        Args:
            source: folder of the checkpoint that is resumed; None for a new run, which keeps nothing.
            epoch: finished epochs.
            iteration: finished batches of the next one.
        """
        try:
            rows: list[dict] = []
            if source is not None:
                try:
                    rows = [row for row in read_metrics(source) if _is_before(row, epoch, iteration)]
                except MetricsError as error:
                    logger.warning("the figures of the epochs before are not in %s: %s", self.path, error)
            text = "".join(_line(row) for row in rows)
            write_atomically(self.path, lambda aside: aside.write_text(text, encoding="utf-8"))
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            logger.warning("%s cannot be written: %s", self.path, error)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a line; when the disk is full, say so once and go on without."""
        if self._file is None:
            return
        try:
            os.write(self._file, _line({**row, "time": round(time.time(), 3)}).encode())
        except OSError as error:
            logger.warning("%s cannot be written (%s); training goes on without it", self.path, error)
            self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read_metrics(folder: Union[str, Path]) -> list[dict]:
    """Return the lines of a run, in their order.

    A last line that a kill has torn is left out.

    Args:
        folder: of the run, or the file itself.

    Raises:
        MetricsError: there is no such file, or a line is damaged.
    """
    path = Path(folder)
    path = path / FILE_NAME if path.is_dir() else path
    try:
        with open_regular(path) as file:
            *lines, _torn = file.read().split(b"\n")
    except OSError as error:
        raise MetricsError(f"{path} cannot be read: {error.strerror or error}") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if row["kind"] not in (STEP, EPOCH) or not isinstance(row["epoch"], int) or "train" not in row:
                raise ValueError
            if row["kind"] == STEP and not isinstance(row["iteration"], int):
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise MetricsError(f"{path}:{number}: no figures of a step or an epoch") from None
        rows.append(row)
    return rows


def _is_before(row: dict, epoch: int, iteration: int) -> bool:
    if row["kind"] == EPOCH:
        return row["epoch"] <= epoch
    return (row["epoch"], row["iteration"]) < (epoch + 1, iteration)


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(_finite(row), ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
