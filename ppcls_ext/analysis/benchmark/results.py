"""What a benchmark measured, as data that goes through JSON and comes back equal."""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, computed_field

from ppcls_ext.analysis.machine import Machine

FORWARD, TRAIN, PREDICT, GEMM = "forward", "train", "predict", "gemm"
#: What ``--mode`` offers; a ``gemm`` stands beside them as the limit.
MODES = (FORWARD, TRAIN, PREDICT)
#: Of prediction, in order.
STAGES = ("read", "decode", "preprocess", "infer")


class Case(BaseModel):
    """One configuration.

    Attributes:
        model: a backbone, an exported folder, or the sizes of a matrix product.
        source: whose it is: ``ppcls_ext``, ``paddleclas``, ``folder``, or a peer such as ``timm``.
        engine: ``eager`` or what runs an exported graph.
        precision: ``fp32``, ``bf16``, ``fp16`` or ``int8``.
        batch: images a run.
        height: of an image in pixels.
        width: of an image in pixels.
        threads: on the CPU.
        mode: one of :data:`MODES`, or ``gemm``.
        device: ``cpu``, ``gpu`` or ``gpu:<number>``.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    source: str = "ppcls_ext"
    engine: str = "eager"
    precision: str = "fp32"
    batch: int = 1
    height: int = 224
    width: int = 224
    threads: int = 1
    mode: str = FORWARD
    device: str = "cpu"

    @property
    def resolution(self) -> str:
        """``224``, or ``height x width`` where they differ."""
        return str(self.height) if self.height == self.width else f"{self.height}x{self.width}"

    def label(self, names: Optional[Sequence[str]] = None) -> str:
        """Return the values of some fields, or of all but the source and the device, as words."""
        words = {
            "model": self.model,
            "source": self.source,
            "engine": self.engine,
            "precision": self.precision,
            "batch": f"batch {self.batch}",
            "resolution": self.resolution,
            "threads": f"{self.threads} thread{'s' if self.threads > 1 else ''}",
            "mode": self.mode,
        }
        return ", ".join(words[name] for name in words if name in (names or [*words.keys() - {"source"}]))

    def __str__(self) -> str:
        return self.label()


class Row(BaseModel):
    """A configuration and its figures, or the reason why it has none.

    Attributes:
        case: the configuration.
        part: number of the part of the session whose rounds it shared.
        seconds: of each run, by round.
        stages: the same of each stage of prediction.
        params: trainable elements.
        macs: multiply-adds of one image, forward.
        top1: published accuracy in percent, at this resolution.
        loaded_bytes: resident memory of the process once the libraries were imported.
        peak_bytes: most resident memory that the process ever had.
        device_bytes: most memory that Paddle allocated on a GPU.
        library: what ran it, with its version.
        place: name of the device as its library tells it.
        error: why it was not measured.
    """

    case: Case
    part: int = 0
    seconds: list[list[float]] = []
    stages: dict[str, list[list[float]]] = {}
    params: Optional[int] = None
    macs: Optional[int] = None
    top1: Optional[float] = None
    loaded_bytes: Optional[int] = None
    peak_bytes: Optional[int] = None
    device_bytes: Optional[int] = None
    library: str = ""
    place: str = ""
    error: Optional[str] = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def runs(self) -> int:
        """How many runs were timed."""
        return sum(map(len, self.seconds))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def p50_ms(self) -> Optional[float]:
        """Milliseconds of the median run."""
        return self.percentile(50)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def p90_ms(self) -> Optional[float]:
        """Milliseconds that nine runs of ten did not exceed."""
        return self.percentile(90)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def p99_ms(self) -> Optional[float]:
        """Milliseconds that 99 runs of 100 did not exceed."""
        return self.percentile(99)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def images_per_second(self) -> Optional[float]:
        """At the median run; None for what takes no images."""
        median = self.percentile(50)
        return None if median is None or self.case.mode == GEMM else 1e3 * self.case.batch / median

    @computed_field  # type: ignore[prop-decorator]
    @property
    def gmacs_per_second(self) -> Optional[float]:
        """Billions of multiply-adds a second of the forward pass at its median; None for training."""
        if self.macs is None or self.case.mode == TRAIN:
            return None
        median = self.stage_ms("infer") if self.case.mode == PREDICT else self.percentile(50)
        return None if median is None else self.macs * self.case.batch / median / 1e6

    def percentile(self, q: float) -> Optional[float]:
        """Return a percentile of all runs in milliseconds, linear between two runs; None without runs."""
        return _percentile_ms(self.seconds, q)

    def stage_ms(self, stage: str) -> Optional[float]:
        """Return the median milliseconds of a stage of prediction; None if it has none."""
        return _percentile_ms(self.stages.get(stage, []), 50)

    def round_medians(self) -> list[float]:
        """Return the median seconds for one image, of each round."""
        return [float(np.median(runs)) / self.case.batch for runs in self.seconds]


def _percentile_ms(seconds: list, q: float) -> Optional[float]:
    runs = [value for one_round in seconds for value in one_round]
    return float(1e3 * np.percentile(runs, q)) if runs else None


class Ratio(BaseModel):
    """Time for an image of one row over that of another, round by round.

    Attributes:
        a: numerator.
        b: denominator; ratios below 1 mean that ``a`` is faster.
        median: of the rounds' ratios.
        low: their first quartile.
        high: their third quartile.
        error: why there is none.
    """

    a: Case
    b: Case
    median: Optional[float] = None
    low: Optional[float] = None
    high: Optional[float] = None
    error: Optional[str] = None

    @classmethod
    def of(cls, a: Row, b: Row) -> Ratio:
        """Compare two rows that shared their rounds; others give the reason why they cannot be compared."""
        if a.error or b.error:
            failed = a if a.error else b
            return cls(a=a.case, b=b.case, error=f"{failed.case.engine} was not measured: {failed.error}")
        if a.part != b.part:
            return cls(a=a.case, b=b.case, error="they were not measured in the same rounds")
        ratios = [mine / other for mine, other in zip(a.round_medians(), b.round_medians())]
        low, median, high = (float(value) for value in np.percentile(ratios, (25, 50, 75)))
        return cls(a=a.case, b=b.case, median=median, low=low, high=high)


class Settings(BaseModel):
    """How a benchmark was run.

    Attributes:
        rounds: number of rounds.
        seconds: that each configuration runs at least in each round.
        runs: that it does at least in each round.
        warmup: runs before the first round that are not timed.
        timeout: seconds after which a configuration that does not answer is given up.
        at_once: processes that are open side by side.
        command: that was given.
    """

    rounds: int = 5
    seconds: float = 0.5
    runs: int = 3
    warmup: int = 3
    timeout: float = 1800.0
    at_once: int = 4
    command: str = ""


class Report(BaseModel):
    """Everything that one benchmark measured; ``model_dump_json`` and ``model_validate_json`` are its file."""

    machine: Machine
    settings: Settings
    rows: list[Row] = []
    limits: list[Row] = []
    ratios: list[Ratio] = []

    def limit_of(self, row: Row) -> Optional[Row]:
        """Return the fastest matrix product that shared the rounds of a row, on as many threads; None without one."""
        fitting = [
            limit
            for limit in self.limits
            if limit.part == row.part and limit.case.threads == row.case.threads and not limit.error
        ]
        return max(fitting, key=lambda limit: limit.gmacs_per_second or 0.0) if fitting else None

    def share_of_limit(self, row: Row) -> Optional[float]:
        """Return the speed of a row as a part of that of its matrix product; None where either is not known."""
        limit = self.limit_of(row)
        speed = row.gmacs_per_second
        if limit is None or speed is None or not limit.gmacs_per_second:
            return None
        return speed / limit.gmacs_per_second
