"""The columns of a result: what stands in them, and what they are called in either language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional, Sequence

from ppcls_ext.analysis.benchmark.results import STAGES, Case, Report, Row

LANGUAGES = ("en", "zh_CN")


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        titles: in the order of :data:`LANGUAGES`.
        value: of a row.
        shown: from the value to a cell.
        always: whether it stands in a table even if all rows agree in it.
        figure: whether it was measured, as opposed to chosen.
    """

    titles: tuple[str, str]
    value: Callable[[Report, Row], object]
    shown: Callable = str
    always: bool = False
    figure: bool = False

    def title(self, language: str) -> str:
        """Return what it is called."""
        return self.titles[LANGUAGES.index(language)]

    def cell(self, report: Report, row: Row) -> str:
        """Return what a table shows."""
        value = self.value(report, row)
        return "-" if value is None or value == "" else self.shown(value)


def milliseconds(value: float) -> str:
    """Return a time with three digits that count."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def megabytes(value: int) -> str:
    """Return millions of bytes."""
    return f"{value / 1e6:.0f}"


def percent(value: float) -> str:
    """Return a share of 1 in percent."""
    return f"{100 * value:.0f}%"


def _of_case(name: str) -> Callable:
    return lambda report, row: getattr(row.case, name)


def _of_row(name: str) -> Callable:
    return lambda report, row: getattr(row, name)


def _engine(report: Report, row: Row) -> str:
    """Return the engine, and for ``auto`` what it chose."""
    chosen = f" ({row.library.partition(' ')[0]})" if row.case.engine == "auto" and row.library else ""
    return row.case.engine + chosen


def _stage(stage: str) -> Column:
    titles = {"read": "读取", "decode": "解码", "preprocess": "预处理", "infer": "运行模型"}
    return Column(
        (f"{stage}, ms", f"{titles[stage]}，ms"), lambda report, row: row.stage_ms(stage), milliseconds, figure=True
    )


COLUMNS = (
    Column(("Model", "模型"), _of_case("model"), always=True),
    Column(("Source", "来源"), _of_case("source")),
    Column(("Engine", "引擎"), _engine, always=True),
    Column(("Precision", "数值类型"), _of_case("precision")),
    Column(("Batch", "批大小"), _of_case("batch"), always=True),
    Column(("Size", "尺寸"), _of_case("resolution"), always=True),
    Column(("Threads", "线程数"), _of_case("threads")),
    Column(("Mode", "模式"), _of_case("mode")),
    Column(("p50, ms", "p50，ms"), _of_row("p50_ms"), milliseconds, figure=True),
    Column(("p90, ms", "p90，ms"), _of_row("p90_ms"), milliseconds, figure=True),
    Column(("p99, ms", "p99，ms"), _of_row("p99_ms"), milliseconds, figure=True),
    Column(("Runs", "运行次数"), lambda report, row: row.runs or None, figure=True),
    Column(("Images/s", "图像/秒"), _of_row("images_per_second"), lambda value: f"{value:.1f}", figure=True),
    *map(_stage, STAGES),
    Column(("Peak, MB", "峰值，MB"), _of_row("peak_bytes"), megabytes, figure=True),
    Column(
        ("Above libraries, MB", "扣除库，MB"),
        lambda report, row: row.peak_bytes - row.loaded_bytes if row.peak_bytes and row.loaded_bytes else None,
        megabytes,
        figure=True,
    ),
    Column(("GPU, MB", "GPU，MB"), _of_row("device_bytes"), megabytes, figure=True),
    Column(("GMACs", "GMACs"), _of_row("macs"), lambda value: f"{value / 1e9:.2f}", figure=True),
    Column(("GMAC/s", "GMAC/s"), _of_row("gmacs_per_second"), lambda value: f"{value:.0f}", figure=True),
    Column(("Of GEMM", "占 GEMM"), lambda report, row: report.share_of_limit(row), percent, figure=True),
    Column(("Why not", "未测原因"), _of_row("error")),
)


def columns_of(report: Report) -> list[Column]:
    """Return the columns that tell rows apart or hold figures; what all rows share stands in the caption."""
    found = []
    for column in COLUMNS:
        cells = {column.cell(report, row) for row in report.rows}
        if column.always or len(cells) > 1 or (cells != {"-"} and (column.figure or column.titles[0] == "Why not")):
            found.append(column)
    return found


def shared(report: Report, language: str) -> list[str]:
    """Return ``title: value`` of what was chosen alike for all rows."""
    shown = columns_of(report)
    return [
        f"{column.title(language).lower()} {column.cell(report, report.rows[0])}"
        for column in COLUMNS
        if column not in shown and not column.figure and report.rows and column.cell(report, report.rows[0]) != "-"
    ]


def label(report: Report, case: Case) -> str:
    """Return what tells a configuration from the others of a report."""
    names = ("source", "precision", "batch", "resolution", "threads", "mode")
    cases = [row.case for row in report.rows]
    return case.label(["model", "engine", *(name for name in names if len({getattr(c, name) for c in cases}) > 1)])


def cells(report: Report, rows: Optional[Sequence[Row]] = None) -> list[list[str]]:
    """Return the rows of a table."""
    return [
        [column.cell(report, row) for column in columns_of(report)] for row in (report.rows if rows is None else rows)
    ]
