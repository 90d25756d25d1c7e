"""A whole benchmark: prepare, open the processes of a part, run the rounds, close, and so on to the last part."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator, Optional, Sequence

from ppcls_ext.analysis import machine
from ppcls_ext.analysis.benchmark.child import Child, ChildError
from ppcls_ext.analysis.benchmark.gemm import LIBRARIES, LIBRARY_OF, gemm_case
from ppcls_ext.analysis.benchmark.images import write_photograph
from ppcls_ext.analysis.benchmark.plan import AUTO, EAGER, Job, parts, row_of
from ppcls_ext.analysis.benchmark.results import PREDICT, Case, Ratio, Report, Row, Settings
from ppcls_ext.analysis.benchmark.rounds import run_rounds
from ppcls_ext.analysis.benchmark.targets import Target
from ppcls_ext.engine.deploy.engines.choice import ENGINES
from ppcls_ext.engine.deploy.engines.graphs import ONNX_FILE

_SUBJECTS = "ppcls_ext.analysis.benchmark"
#: Idle threads of some libraries spin for this long before they sleep, and would disturb the next process.
SETTLING_SECONDS = 0.25
Progress = Callable[[str, int], None]


def silent(text: str, steps: int) -> None:
    """Show nothing."""


@dataclass
class Measured:
    """A configuration that is being measured: the process, and the row that it fills."""

    row: Row
    subject: str
    options: dict
    settings: Settings
    paths: Sequence = ()
    progress: Progress = silent
    child: Optional[Child] = None

    @property
    def failed(self) -> bool:
        """Whether there is a reason why it is not measured."""
        return self.row.error is not None

    def open(self) -> None:
        """Start the process and let it build and warm up the model."""
        self.progress(str(self.row.case), 0)
        with self._reasons():
            self.child = Child(self.subject, self.row.case, self.options, self.settings.timeout, self.paths)
            for name, value in self.child.open(self.settings.warmup).items():
                setattr(self.row, name, value)

    def measure(self) -> None:
        """Run one round."""
        self.progress(str(self.row.case), 1)
        with self._reasons():
            if self.child is None:
                raise ChildError("its process was not started")
            answer = self.child.round(self.settings.runs, self.settings.seconds)
            self.row.seconds.append(_rounded(answer["seconds"]))
            for stage, seconds in answer["stages"].items():
                self.row.stages.setdefault(stage, []).append(_rounded(seconds))
            self.row.peak_bytes = answer["peak_bytes"]
            self.row.device_bytes = answer.get("device_bytes")

    def close(self) -> None:
        """Stop the process."""
        if self.child is not None:
            self.child.close()
            self.child = None

    @contextlib.contextmanager
    def _reasons(self) -> Iterator[None]:
        try:
            yield
        except ChildError as error:
            self.row.error = str(error)
            self.row.seconds, self.row.stages = [], {}
            self.close()


@dataclass
class Session:
    """Runs a benchmark.

    Args:
        settings: how.
        gemm: whether to measure products of matrices beside the models.
        compared: configurations whose ratios are wanted.
        images: files for the mode ``predict``; none means a photograph that is made up.
        progress: called with what is being done, and by how many measurements the work has come forward.
        subjects: ``module:class`` for engines besides the usual ones.
        paths: folders to import these from.
        libraries: of matrix products, besides those of the engines.
    """

    settings: Settings
    gemm: bool = True
    compared: Sequence[tuple[Case, Case]] = ()
    images: Sequence[str] = ()
    progress: Progress = silent
    subjects: dict = field(default_factory=dict)
    paths: Sequence = ()
    libraries: Sequence[str] = ()

    def run(self, jobs: Sequence[Job]) -> Report:
        """Measure every job; a failure is the reason in its row."""
        report = Report(machine=machine.describe(), settings=self.settings)
        rows = {id(job): _row(job) for job in jobs}
        with tempfile.TemporaryDirectory(prefix="ppcls_ext-benchmark-") as scratch:
            self._prepare(jobs, rows, Path(scratch))
            for number, part in enumerate(parts(jobs, self.compared, self.settings.at_once)):
                models = [self._of_job(job, rows[id(job)]) for job in part]
                report.limits += self._run_part(number, models)
        report.rows = [rows[id(job)] for job in jobs]
        report.ratios = [Ratio.of(row_of(report.rows, a), row_of(report.rows, b)) for a, b in self.compared]
        return report

    def _run_part(self, number: int, models: list[Measured]) -> list[Row]:
        """Measure one part; return the rows of its matrix products."""
        products = self._products(models) if self.gemm else []
        taking_part = [*products, *models]
        try:
            for measured in taking_part:
                measured.row.part = number
                if not measured.failed:
                    measured.open()
            run_rounds(taking_part, self.settings.rounds, lambda: time.sleep(SETTLING_SECONDS))
        finally:
            for measured in taking_part:
                measured.close()
        return [product.row for product in products]

    def _products(self, models: list[Measured]) -> list[Measured]:
        cases = [measured.row.case for measured in models if not measured.failed]
        threads = sorted({case.threads for case in cases if case.device == "cpu"})
        found = []
        for count in threads:
            engines = {case.engine for case in cases if case.threads == count}
            wanted = {"numpy", *self.libraries, *(LIBRARY_OF[engine] for engine in engines if engine in LIBRARY_OF)}
            if AUTO in engines:
                wanted |= {LIBRARY_OF[name] for name, kind in ENGINES.items() if kind.installed()}
            for library in [name for name in (*LIBRARIES, *self.libraries) if name in wanted]:
                subject = self.subjects.get(f"gemm {library}", f"{_SUBJECTS}.gemm:Gemm")
                if not subject.startswith(_SUBJECTS) or importlib.util.find_spec(library):
                    found.append(self._measured(Row(case=gemm_case(library, count)), subject, {}))
        return found

    def _of_job(self, job: Job, row: Row) -> Measured:
        case = job.case
        default = f"{_SUBJECTS}.eager:Eager" if case.engine == EAGER else f"{_SUBJECTS}.exported:Exported"
        return self._measured(row, self.subjects.get(f"{case.source} {case.engine}", default), job.options)

    def _measured(self, row: Row, subject: str, options: dict) -> Measured:
        return Measured(row, subject, options, self.settings, self.paths, self.progress)

    # ---- preparing -----------------------------------------------------------------------------------------------

    def _prepare(self, jobs: Sequence[Job], rows: dict, scratch: Path) -> None:
        """Give every job what its subject needs, and every row what is known of its model."""
        images = list(self.images)
        if not images and any(job.case.mode == PREDICT for job in jobs):
            images = [str(write_photograph(scratch / "photograph.jpg"))]
        by_target: dict = {}
        for job in jobs:
            job.options.setdefault("images", images)
            if not rows[id(job)].error:
                by_target.setdefault(job.target, []).append(job)
        for target, wanted in by_target.items():
            if any(key.startswith(f"{target.source} ") for key in self.subjects):
                continue  # they prepare themselves
            if target.folder is not None:
                self._prepare_export(target, wanted, rows)
            else:
                self._prepare_backbone(target, wanted, rows, scratch / f"{target.source}.{target.bare_name}")

    def _prepare_export(self, target: Target, jobs: list[Job], rows: dict) -> None:
        sizes = list(dict.fromkeys((job.case.height, job.case.width) for job in jobs))
        self.progress(f"{target.name}: multiply-adds", 0)
        macs: list = [None] * len(sizes)
        # Without ONNX Runtime, or without an ONNX graph, they stay unknown.
        if Path(str(target.folder), ONNX_FILE).is_file() and ENGINES["onnxruntime"].installed():
            options = {"folder": str(target.folder), "sizes": sizes}
            with contextlib.suppress(ChildError):
                with Child(f"{_SUBJECTS}.graph_cost:GraphCost", jobs[0].case, options, self.settings.timeout) as child:
                    macs = child.open()["macs"]
        for job in jobs:
            job.options["folder"] = str(target.folder)
            rows[id(job)].macs = macs[sizes.index((job.case.height, job.case.width))]

    def _prepare_backbone(self, target: Target, jobs: list[Job], rows: dict, folder: Path) -> None:
        sizes = list(dict.fromkeys((job.case.height, job.case.width) for job in jobs))
        kinds = [kind for kind in map(_format_of, dict.fromkeys(job.case.engine for job in jobs)) if kind]
        options = {
            "name": target.full_name,
            "arch": target.arch,
            "sizes": sizes,
            "formats": list(dict.fromkeys(kinds)),
            "folder": str(folder),
            "transforms": [target.transform_ops(*size) for size in sizes],
        }
        self.progress(f"{target.name}: multiply-adds" + (", export" if kinds else ""), 0)
        facts: dict = {}
        try:
            child = Child(f"{_SUBJECTS}.preparation:Preparation", jobs[0].case, options, self.settings.timeout)
            with child:
                facts = child.open()
        except ChildError as error:
            for job in jobs:
                rows[id(job)].error = str(error)
            return
        for job in jobs:
            row, number = rows[id(job)], sizes.index((job.case.height, job.case.width))
            row.params, row.macs = facts["params"], facts["macs"][number]
            job.options.update(name=target.full_name, transform_ops=options["transforms"][number])
            format = _format_of(job.case.engine)
            if format is not None:
                export = facts["exports"][format][number]
                job.options["folder"], row.error = export.get("folder"), export.get("error")


def _rounded(seconds: Sequence[float]) -> list[float]:
    """Return times to a tenth of a microsecond, which is more than clocks hold."""
    return [round(value, 7) for value in seconds]


def _row(job: Job) -> Row:
    at_native_size = (job.case.height, job.case.width) == job.target.size
    return Row(case=job.case, top1=job.target.top1 if at_native_size else None, error=job.refusal)


def _format_of(engine: str) -> Optional[str]:
    """Return the format of :mod:`ppcls_ext.engine.deploy.exporter` that an engine runs; None for eager.

    ``auto`` is given both in turn only by an exported folder; for a backbone it is what ONNX engines run, where there
    is one.
    """
    if engine == EAGER:
        return None
    if engine == AUTO:
        return "onnx" if any(kind.onnx and kind.installed() for kind in ENGINES.values()) else "default"
    return "onnx" if ENGINES[engine].onnx else "default"


def count_measurements(jobs: Sequence[Job], settings: Settings) -> int:
    """Return how many measurements progress will count, without matrix products."""
    return settings.rounds * sum(job.refusal is None for job in jobs)
