"""How often a deployed model is right, counted as evaluation counts it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator, Union

import numpy as np

from ppcls_ext.data.errors import LabelFileError
from ppcls_ext.data.image_files import LIST_SUFFIXES
from ppcls_ext.data.label_list import read_label_list
from ppcls_ext.metrics.topk import TopkAcc

TOPK = (1, 5)


class Accuracy:
    """Top-1 and top-5 accuracy; images that cannot be read are counted apart.

    Args:
        class_num: number of classes; with fewer than five, the top-5 is left out.
    """

    def __init__(self, class_num: int):
        self._metric = TopkAcc([k for k in TOPK if k <= class_num], class_num)
        self._unread = 0

    @property
    def largest(self) -> int:
        """How many classes a result must hold to be counted."""
        return max(self._metric.topk)

    def add(self, result: dict, label: int) -> None:
        """Count a result that holds its best ``largest`` classes, best first."""
        if "error" in result:
            self._unread += 1
        else:
            self._metric.count(np.array([result["class_ids"][: self.largest]]), np.array([label]))

    def figures(self) -> dict:
        """Return ``samples`` and ``unread``, and where there are samples ``top1`` and ``top5`` in [0, 1]."""
        samples = int(self._metric.state()[0])
        return {"samples": samples, "unread": self._unread, **(self._metric.compute() if samples else {})}


@dataclass
class LabelledImages:
    """The images of a list with their class ids, and the accuracy so far."""

    paths: list[Path]
    labels: np.ndarray
    accuracy: Accuracy

    @classmethod
    def read(cls, path: Union[str, Path], class_num: int) -> LabelledImages:
        """Read a list with a class id on every line.

        Raises:
            FileNotFoundError: there is no such list.
            LabelFileError: it is no list, a line has no class id, or an id is no class of the model.
        """
        path = Path(path)
        if path.suffix.lower() not in LIST_SUFFIXES:
            raise LabelFileError(
                f"{path}: an accuracy needs a list ({', '.join(LIST_SUFFIXES)}) with a class id a line"
            )
        names, labels = read_label_list(path, image_root=path.parent)
        outside = np.flatnonzero((labels < 0) | (labels >= class_num))
        if outside.size:
            raise LabelFileError(
                f"{path}: {names[outside[0]]} has the class id {labels[outside[0]]}; "
                f"the model has {class_num} classes, 0 to {class_num - 1}"
            )
        return cls([path.parent / name for name in names], labels, Accuracy(class_num))

    def counted(self, results: Iterable[dict], topk: int) -> Iterator[dict]:
        """Count the results, which come in the order of the list, and hand them on with ``topk`` classes each."""
        for result, label in zip(results, self.labels):
            self.accuracy.add(result, int(label))
            yield {**result, **{key: result[key][:topk] for key in ("class_ids", "scores", "label_names")}}
