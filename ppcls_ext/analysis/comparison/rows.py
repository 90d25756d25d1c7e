"""One row a backbone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional, Sequence

from ppcls_ext import registry
from ppcls_ext.analysis.benchmark.results import FORWARD, Report

COLUMNS = (
    "name",
    "family",
    "size",
    "top1",
    "top5",
    "params",
    "macs",
    "licence",
    "images_per_second",
    "engine",
    "batch",
    "peak_mb",
)


class ComparisonError(ValueError):
    """Nothing to compare, or a file that holds no benchmark; the message says which."""


@dataclass(frozen=True)
class ModelRow:
    """What is known of a backbone.

    Attributes:
        name: of the backbone.
        family: of the backbone.
        size: height and width of the published figures, in pixels.
        top1: published accuracy on ImageNet-1k in percent; None where none is published.
        top5: likewise.
        params: trainable parameters.
        macs: multiply-adds of one image.
        licence: of the published weights that ``pretrained=True`` takes first; empty without any.
        images_per_second: measured, of the fastest engine.
        engine: that engine.
        batch: its batch size.
        peak_mb: peak memory of its process, in MB.
    """

    name: str
    family: str
    size: int
    top1: Optional[float]
    top5: Optional[float]
    params: int
    macs: int
    licence: str
    images_per_second: Optional[float] = None
    engine: str = ""
    batch: Optional[int] = None
    peak_mb: Optional[float] = None

    def cells(self) -> list:
        """Return the values in the order of ``COLUMNS``, empty where there is none."""
        return ["" if value is None else value for value in asdict(self).values()]


def read_report(path: Path) -> Report:
    """Read what ``ppcls_ext benchmark --output`` wrote as ``benchmark.json``.

    Raises:
        FileNotFoundError: there is no such file.
        ComparisonError: it holds something else.
    """
    try:
        return Report.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ComparisonError(f"{path} is no benchmark.json of `ppcls_ext benchmark --output`") from None


def compare(names: Sequence[str], report: Optional[Report] = None) -> list[ModelRow]:
    """Return the rows of backbones, in the order of the names.

    Args:
        names: of backbones of this package.
        report: a benchmark of some of them.

    Raises:
        ComparisonError: no name is given.
    """
    if not names:
        raise ComparisonError("no backbone is named")
    return [_row(registry.get_spec(name), report) for name in names]


def _row(spec: registry.BackboneSpec, report: Optional[Report]) -> ModelRow:
    accuracy = spec.accuracy if spec.accuracy and spec.accuracy.dataset == "ImageNet-1k" else None
    direct = [weights for weights in spec.weights if not weights.manual] or spec.weights
    known = ModelRow(
        spec.name,
        spec.family,
        spec.preprocessing.input_size[1],
        accuracy.top1 if accuracy else None,
        accuracy.top5 if accuracy else None,
        spec.params,
        spec.macs,
        direct[0].licence if direct else "",
    )
    measured = [
        row
        for row in (report.rows if report else ())
        if registry.bare_name(row.case.model) == spec.name
        and row.case.source == registry.NAMESPACE
        and row.case.mode == FORWARD
        and row.case.height == known.size
        and row.images_per_second
    ]
    if not measured:
        return known
    best = max(measured, key=lambda row: row.images_per_second or 0.0)
    return ModelRow(
        **{
            **asdict(known),
            "images_per_second": round(best.images_per_second or 0.0, 1),
            "engine": best.case.engine,
            "batch": best.case.batch,
            "peak_mb": None if best.peak_bytes is None else round(best.peak_bytes / 1e6),
        }
    )
