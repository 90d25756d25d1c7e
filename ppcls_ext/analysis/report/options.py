"""What a report is asked for, and the predictions that it is made of."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from ppcls_ext.analysis.report.errors import ReportError
from ppcls_ext.data.class_subset import read_class_subset
from ppcls_ext.data.label_names import read_class_id_map
from ppcls_ext.data.real_labels import RealLabels, find_real_labels
from ppcls_ext.engine.predictions import TOPK, Predictions, read_predictions
from ppcls_ext.utils.files import write_atomically


@dataclass(frozen=True)
class ReportOptions:
    """What a report is asked for.

    Attributes:
        output: folder to write to; made if it is not there.
        image_root: folder that relative names of images start from; None takes the working directory.
        class_names: class name file; None takes the names in the file of predictions.
        labels: reassessed labels, see :func:`ppcls_ext.data.real_labels.find_real_labels`.
        classes: the classes that count, see :func:`ppcls_ext.data.class_subset.read_class_subset`.
        imagenet_c: whether the images are ImageNet-C's, so that mCE is computed.
        images: images in a grid.
        confusions: pairs of classes whose images are shown.
    """

    output: Path
    image_root: Optional[Path] = None
    class_names: Optional[str] = None
    labels: Optional[str] = None
    classes: Optional[Path] = None
    imagenet_c: bool = False
    images: int = 24
    confusions: int = 20

    def read(self, path: Path) -> Predictions:
        """Read a file of predictions, with the names of classes that are asked for.

        Raises:
            FileNotFoundError, PredictionsFileError, LabelFileError: see :func:`read_predictions` and
                :func:`read_class_id_map`.
            ReportError: if the names are of another number of classes.
        """
        predictions = read_predictions(path)
        if self.class_names is None:
            return predictions
        names, header = read_class_id_map(self.class_names), predictions.header
        # The best classes alone do not tell how many there are.
        if len(names) < header.class_num or (len(names) > header.class_num and header.kind != TOPK):
            raise ReportError(f"{self.class_names} names {len(names)} classes; {path} has {header.class_num}")
        return replace(predictions, header=replace(header, class_num=len(names), class_names=names))

    def subset(self, predictions: Predictions) -> Optional[np.ndarray]:
        """Return the ids of the classes that count, or None for all."""
        if self.classes is None:
            return None
        header = predictions.header
        return read_class_subset(self.classes, header.class_num, header.class_names)

    def real_labels(self) -> Optional[RealLabels]:
        """Return the reassessed labels that are asked for."""
        if self.labels is None:
            return None
        return find_real_labels(self.labels, [self.image_root or Path(), Path()])


def write_json(path: Path, content: Any) -> None:
    """Write JSON, durably and as a whole."""
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    write_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8", errors="backslashreplace"))


def percent(share: Optional[float], digits: int = 2) -> str:
    """Return a share as a page shows it."""
    return "–" if share is None else f"{100 * share:.{digits}f}%"
