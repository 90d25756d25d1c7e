"""The predictions of an evaluation in one file, of however many processes it has."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.datasets import ClassificationDataset
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.predictions.content import LOGITS, Header
from ppcls_ext.engine.predictions.writing import PredictionsWriter, check_suffix


class Recorder:
    """Writes logits as batches come; several processes hand theirs to the main one at the end.

    Args:
        path: where to write; opened at once by the main process, so that what is refused is refused before the work.
        session: this process.
        class_num: number of classes.
        class_names: their names by id, if they are known.
        source: where the predictions come from.
        topk: see :class:`PredictionsWriter`.

    Raises:
        PredictionsFileError, ValueError, OSError: see :class:`PredictionsWriter`.
    """

    def __init__(
        self,
        path: Union[str, Path],
        session: Session,
        class_num: int,
        class_names: Optional[Sequence[str]] = None,
        source: Optional[dict] = None,
        topk: Optional[int] = None,
    ):
        check_suffix(path)
        self._session, self._class_num = session, class_num
        header = Header(LOGITS, class_num, class_names, source or {})
        self._writer = PredictionsWriter(path, header, topk) if session.is_main else None
        self._kept: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, dataset: ClassificationDataset, indices: np.ndarray, logits: np.ndarray) -> None:
        """Record a batch.

        Args:
            dataset: knows the files and the labels of the samples.
            indices: int64 ``[n]``, which samples they are.
            logits: ``[n, class_num]``.

        Raises:
            PredictionsFileError: if one of them is NaN or infinite.
        """
        if self._session.world_size > 1:
            self._kept.append((indices, np.asarray(logits, np.float32)))
        else:
            self._write(dataset, indices, logits)

    def finish(self, dataset: ClassificationDataset) -> None:
        """Write the file; every process must call it.

        Raises:
            PredictionsFileError: if there is no prediction, or one of them is NaN or infinite.
        """
        if self._session.world_size > 1:
            empty = np.zeros(0, np.int64), np.zeros((0, self._class_num), np.float32)
            indices, logits = (np.concatenate(parts) for parts in zip(empty, *self._kept))
            indices, logits = self._session.gather_rows(indices), self._session.gather_rows(logits)
            order = np.argsort(indices, kind="stable")
            self._write(dataset, indices[order], logits[order])
        if self._writer is not None:
            self._writer.finish()

    def abandon(self) -> None:
        """Leave what was written so far in ``<name>.part``."""
        if self._writer is not None:
            self._writer.abandon()

    def _write(self, dataset: ClassificationDataset, indices: np.ndarray, logits: np.ndarray) -> None:
        if self._writer is not None:
            files = [dataset.image_path(int(index)) for index in indices]
            self._writer.add(files, dataset.labels[indices], logits)
