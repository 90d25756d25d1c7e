"""What a file of predictions holds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Sequence

import numpy as np

from ppcls_ext.engine.predictions.errors import PredictionsFileError

LOGITS, PROBABILITIES, TOPK = "logits", "probabilities", "topk"
KINDS = (LOGITS, PROBABILITIES, TOPK)
SUFFIXES = (".parquet", ".npz", ".csv")
UNKNOWN = -1
VERSION = 1
#: Columns of a CSV file by kind; the singular of what the other formats hold.
COLUMNS = {"logit_": LOGITS, "probability_": PROBABILITIES}


@dataclass(frozen=True)
class Header:
    """What holds for all rows of a file.

    Attributes:
        kind: ``logits``, ``probabilities`` or ``topk``.
        class_num: number of classes of the model.
        class_names: their names by id, where they are known.
        source: where the predictions come from, such as ``{"model": "ResNet50", "weights": "output/best_model"}``.
    """

    kind: str
    class_num: int
    class_names: Optional[Sequence[str]] = None
    source: dict = field(default_factory=dict)

    def to_json(self) -> str:
        """Return it as JSON."""
        names = None if self.class_names is None else list(self.class_names)
        content = {"version": VERSION, "kind": self.kind, "class_num": self.class_num}
        return json.dumps({**content, "class_names": names, "source": self.source}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, path: Path) -> Header:
        """Return what :meth:`to_json` wrote.

        Raises:
            PredictionsFileError: if it is something else, or of a later version.
        """
        try:
            content = json.loads(text)
            header = cls(content["kind"], int(content["class_num"]), content["class_names"], dict(content["source"]))
            version, names = int(content["version"]), header.class_names
            if header.kind not in KINDS or not (names is None or all(isinstance(name, str) for name in names)):
                raise ValueError(f"kind {header.kind!r}, class_names {names!r:.60}")
        except (ValueError, KeyError, TypeError) as error:
            raise PredictionsFileError(f"{path}: its header is damaged ({error!r})") from None
        if version > VERSION:
            raise PredictionsFileError(f"{path} is of version {version}; this program reads up to {VERSION}")
        return header


@dataclass(frozen=True)
class Predictions:
    """The content of a file: N images.

    Attributes:
        files: their names.
        labels: int64 ``[N]``; -1 where the label is not known.
        scores: float32 ``[N, class_num]``, or ``[N, k]`` of the best classes, best first.
        header: what holds for all of them.
        class_ids: int64 ``[N, k]``, the best classes; None where every class has a score.
    """

    files: list[str]
    labels: np.ndarray
    scores: np.ndarray
    header: Header
    class_ids: Optional[np.ndarray] = None

    def __len__(self) -> int:
        return len(self.files)

    def take(self, rows: np.ndarray) -> Predictions:
        """Return the images that ``rows`` selects: indices, or bool ``[N]``."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        ids = None if self.class_ids is None else self.class_ids[rows]
        return Predictions([self.files[row] for row in rows], self.labels[rows], self.scores[rows], self.header, ids)

    def ranked(self, k: int) -> np.ndarray:
        """Return the ``k`` best classes of each image, int64 ``[N, k]``; of equal scores the lower id comes first.

        Raises:
            PredictionsFileError: if the file holds fewer.
        """
        if k > self.scores.shape[1]:
            raise PredictionsFileError(f"the {k} best classes are asked for, and the file holds {self.scores.shape[1]}")
        if self.class_ids is not None:
            return self.class_ids[:, :k]
        if k == 1:
            return self.scores.argmax(axis=1)[:, None]
        return np.argsort(-self.scores, axis=1, kind="stable")[:, :k]

    def log_probabilities(self) -> np.ndarray:
        """Return the logarithms of the classes' probabilities, float64 ``[N, class_num]``.

        A probability that float32 could not hold counts as its smallest number.

        Raises:
            PredictionsFileError: if the file holds the best classes alone.
        """
        if self.class_ids is not None:
            raise PredictionsFileError("the file holds the best classes alone, without which there is no distribution")
        scores = self.scores.astype(np.float64)
        if self.header.kind == PROBABILITIES:
            scores = np.log(np.maximum(scores, np.finfo(np.float32).tiny))
        scores = scores - scores.max(axis=1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))

    def confidence(self) -> np.ndarray:
        """Return the probability of the best class of each image, float64 ``[N]``."""
        if self.class_ids is not None:
            return self.scores[:, 0].astype(np.float64)
        return np.exp(self.log_probabilities().max(axis=1))


def scores_name(kind: str) -> str:
    """Return the name of the scores among the arrays or columns of a file."""
    return "scores" if kind == TOPK else kind
