"""What a sweep over image sizes found, as data that goes through JSON and comes back equal."""

from __future__ import annotations

import math
from typing import Optional

from pydantic import BaseModel, computed_field

from ppcls_ext.analysis.benchmark.results import Report, Row


class Point(BaseModel):
    """One model at one image size.

    Attributes:
        label: of the model.
        arch: name of the backbone.
        height: in pixels.
        width: in pixels.
        native: whether it is the size that the model was made for.
        params: trainable elements.
        macs: multiply-adds of one image, forward.
        metrics: figures of evaluation: losses and ``Metric.Eval``.
        speed: its row of the benchmark.
        error: why figures are missing.
    """

    label: str
    arch: str
    height: int
    width: int
    native: bool = False
    params: Optional[int] = None
    macs: Optional[int] = None
    metrics: dict[str, float] = {}
    speed: Optional[Row] = None
    error: Optional[str] = None

    @property
    def side(self) -> float:
        """Square root of the number of pixels."""
        return math.sqrt(self.height * self.width)

    @property
    def resolution(self) -> str:
        """``224``, or ``height x width`` where they differ."""
        return str(self.height) if self.height == self.width else f"{self.height}x{self.width}"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def images_per_second(self) -> Optional[float]:
        """At the median run."""
        return self.speed.images_per_second if self.speed else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def peak_bytes(self) -> Optional[int]:
        """Most memory of the process; on a GPU, of Paddle's allocator there."""
        return (self.speed.device_bytes or self.speed.peak_bytes) if self.speed else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def model_bytes(self) -> Optional[int]:
        """Most memory of the process above that of the libraries; on a GPU, of Paddle's allocator there."""
        row = self.speed
        if row is None or row.device_bytes:
            return row.device_bytes if row else None
        return row.peak_bytes - row.loaded_bytes if row.peak_bytes and row.loaded_bytes else None


class Sweep(BaseModel):
    """Everything that one sweep found.

    Attributes:
        measured: machine, settings and, of a sweep with speed, the benchmark's rows without their figures.
        criterion: the figure that stands for accuracy; None without accuracy.
        samples: images that accuracy is over, by label.
        points: by model, then by growing size.
    """

    measured: Report
    criterion: Optional[str] = None
    samples: dict[str, int] = {}
    points: list[Point] = []

    @property
    def lines(self) -> dict[str, list[Point]]:
        """The points by label."""
        found: dict[str, list[Point]] = {}
        for point in self.points:
            found.setdefault(point.label, []).append(point)
        return found


def exponent(points: list[Point]) -> Optional[float]:
    """Return p of the power law side**p that multiply-adds follow between the two largest sizes that have any.

    A network whose cost is in proportion to the number of tokens has 2; attention over all tokens tends to 4.
    """
    known = [point for point in points if point.macs]
    if len(known) < 2 or known[-1].side == known[-2].side:
        return None
    (a, b) = known[-2:]
    return math.log((b.macs or 1) / (a.macs or 1)) / math.log(b.side / a.side)
