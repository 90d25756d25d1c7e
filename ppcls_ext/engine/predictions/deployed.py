"""The predictions of a deployed model in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, Iterator, Optional, Sequence, Union

import numpy as np

from ppcls_ext.engine.predictions.content import PROBABILITIES, UNKNOWN, Header
from ppcls_ext.engine.predictions.writing import PredictionsWriter

ROWS_AT_ONCE = 256
ALL_SCORES = "all_scores"


class DeployedRecorder:
    """Writes the probabilities of results as they come; an image that cannot be read has none and is left out.

    Args:
        path: where to write, see :class:`PredictionsWriter`.
        class_names: names of the classes by id.
        labels: class id of each image, in their order; None where they are not known.
        source: where the predictions come from.
        topk: see :class:`PredictionsWriter`.

    Raises:
        PredictionsFileError, ValueError, OSError: see :class:`PredictionsWriter`.
    """

    def __init__(
        self,
        path: Union[str, Path],
        class_names: Sequence[str],
        labels: Optional[np.ndarray],
        source: dict,
        topk: Optional[int] = None,
    ):
        self._labels = labels
        self._writer = PredictionsWriter(path, Header(PROBABILITIES, len(class_names), class_names, source), topk)
        self._waiting: list[tuple[str, int, list[float]]] = []

    def through(self, results: Iterable[dict]) -> Iterator[dict]:
        """Write the ``all_scores`` of each result and hand the rest on; the file takes its name after the last one.

        Raises:
            PredictionsFileError: if not one image could be read.
        """
        try:
            for number, result in enumerate(results):
                if "error" not in result:
                    label = UNKNOWN if self._labels is None else int(self._labels[number])
                    self._waiting.append((result["file_name"], label, result[ALL_SCORES]))
                    if len(self._waiting) == ROWS_AT_ONCE:
                        self._write()
                yield {name: value for name, value in result.items() if name != ALL_SCORES}
            self._write()
        except BaseException:
            self._writer.abandon()
            raise
        self._writer.finish()

    def _write(self) -> None:
        rows, self._waiting = self._waiting, []
        if rows:
            files, labels, scores = zip(*rows)
            self._writer.add(files, np.array(labels), np.array(scores, np.float32))
