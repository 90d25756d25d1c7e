"""From scores to classes: Topk with label names, the same for the dygraph model and for an export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.errors import LabelFileError

#: Scores are rounded as PaddleClas rounds them.
SCORE_DECIMALS = 5


def read_class_id_map(path: Union[str, Path], delimiter: Optional[str] = None) -> list[str]:
    """Read a label file: one ``<id> <name>`` a line, ids ``0 … n-1`` in any order, each once; names may hold spaces.

    Args:
        path: the file, UTF-8 (GBK, which PaddleClas's Chinese label files use, is tried next).
        delimiter: between id and name; ``None`` is a space.

    Returns:
        The names by id.

    Raises:
        FileNotFoundError: there is no such file.
        LabelFileError: a line has no id or no name, an id is there twice or is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such label file: {path}")
    names: dict[int, str] = {}
    for number, line in enumerate(_decode(path).splitlines(), start=1):
        if not line.strip():
            continue
        class_id, found, name = line.strip().partition(delimiter or " ")
        if not found or not name.strip() or not class_id.strip().isdigit():
            raise LabelFileError(f'{path}:{number}: expected "<id>{delimiter or " "}<name>", got {line!r}')
        if int(class_id) in names:
            raise LabelFileError(f"{path}:{number}: class id {int(class_id)} is there twice")
        names[int(class_id)] = name.strip()
    if not names:
        raise LabelFileError(f"{path} holds no label")
    missing = sorted(set(range(max(names) + 1)) - set(names))
    if missing:
        raise LabelFileError(f"{path}: no name for class id {', '.join(map(str, missing[:10]))}; ids start at 0")
    return [names[class_id] for class_id in range(len(names))]


def _decode(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("gbk")


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis, in float32 and without overflow."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class Topk:
    """The ``topk`` classes of the highest score; of equal scores the lower class id comes first."""

    topk: int
    label_list: Sequence[str]

    def __call__(self, scores: np.ndarray, file_names: Sequence[str]) -> list[dict]:
        """Return one result a row, with PaddleClas's keys.

        Args:
            scores: probabilities, ``[N, classes]``.
            file_names: N names, repeated in the results.

        Raises:
            ValueError: the number of classes is not the number of labels, or a score is not finite.
        """
        if scores.ndim != 2 or scores.shape[1] != len(self.label_list):
            raise ValueError(f"scores of shape {list(scores.shape)} do not fit the {len(self.label_list)} labels")
        if not np.isfinite(scores).all():
            bad = [name for name, row in zip(file_names, scores) if not np.isfinite(row).all()]
            raise ValueError(f"the model's output is not finite for {', '.join(bad[:5])}")
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self.topk]
        return [
            {
                "class_ids": ids.tolist(),
                "scores": [round(float(score), SCORE_DECIMALS) for score in row[ids]],
                "label_names": [self.label_list[i] for i in ids],
                "file_name": str(name),
            }
            for row, ids, name in zip(scores, order, file_names)
        ]
