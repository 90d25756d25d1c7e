"""mCE of one file of predictions over ImageNet-C, whose paths tell corruption and severity."""

from __future__ import annotations

from pathlib import PurePath
from typing import Optional

import numpy as np

from ppcls_ext.analysis.report.errors import ReportError
from ppcls_ext.analysis.report.scored import Scored
from ppcls_ext.metrics.corruption import ALEXNET_ERRORS, EXTRA, CorruptionErrors, corruption_errors


def corruption_of(file: str) -> Optional[tuple[str, int]]:
    """Return (corruption, severity) of ``…/<corruption>/<severity>/<class>/<image>``, or None for another path."""
    parts = PurePath(file).parts
    if len(parts) < 4:
        return None
    name, severity = parts[-4:-2]
    if name not in (*ALEXNET_ERRORS, *EXTRA) or severity not in ("1", "2", "3", "4", "5"):
        return None
    return name, int(severity)


def corruption_report(images: Scored, path: object) -> CorruptionErrors:
    """Return the corruption errors of predictions over ImageNet-C.

    Args:
        images: all of ImageNet-C.
        path: the file's name, for the messages.

    Raises:
        ReportError: if an image is not laid out as ImageNet-C's are, or a corruption is missing.
    """
    cells: dict[tuple[str, int], list[bool]] = {}
    for file, right in zip(images.predictions.files, images.right):
        cell = corruption_of(file)
        if cell is None:
            raise ReportError(f"{path}: {file} is not <corruption>/<severity>/<class>/<image>, as ImageNet-C's are")
        cells.setdefault(cell, []).append(bool(right))
    try:
        return corruption_errors({cell: 1 - float(np.mean(right)) for cell, right in cells.items()})
    except ValueError as error:
        raise ReportError(f"{path}: {error}") from None
