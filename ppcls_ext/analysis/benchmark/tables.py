"""A report as text: a table on the terminal, Markdown, CSV and JSON."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from pathlib import Path
from typing import Iterator, Sequence

from ppcls_ext.analysis.benchmark.caption import caption, ratio_table
from ppcls_ext.analysis.benchmark.columns import cells, columns_of
from ppcls_ext.analysis.benchmark.results import STAGES, Report, Settings
from ppcls_ext.analysis.benchmark.session import Progress, count_measurements
from ppcls_ext.utils.files import write_atomically

NAME = "benchmark"
#: Of a CSV file: configuration, figures, and what stands beside them.
CASE_FIELDS = ("model", "source", "engine", "precision", "batch", "height", "width", "threads", "mode", "device")
FIGURES = ("p50_ms", "p90_ms", "p99_ms", "runs", "images_per_second")
FACTS = ("loaded_bytes", "peak_bytes", "device_bytes", "params", "macs", "gmacs_per_second", "top1", "library", "place")


def to_json(report: Report) -> str:
    """Return everything, a line for each row; :meth:`Report.model_validate_json` reads it."""
    parts = []
    for key, value in report.model_dump(mode="json").items():
        lines = [json.dumps(item, ensure_ascii=False) for item in value] if isinstance(value, list) else []
        text = "[\n" + ",\n".join(lines) + "\n]" if lines else json.dumps(value, ensure_ascii=False)
        parts.append(f"{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def to_csv(report: Report) -> str:
    """Return one line for each configuration, with full precision; cells of what is not known are empty."""
    stream = io.StringIO()
    head = [*CASE_FIELDS, *FIGURES, *(f"{stage}_ms" for stage in STAGES), *FACTS]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*head, "share_of_gemm", "error", "cpu", "cpu_flags", "date"])
    machine = report.machine
    for row in report.rows:
        values = [getattr(row.case, name) for name in CASE_FIELDS]
        values += [getattr(row, name) for name in FIGURES]
        values += [row.stage_ms(stage) for stage in STAGES]
        values += [getattr(row, name) for name in FACTS]
        values += [report.share_of_limit(row), row.error, machine.cpu, " ".join(machine.flags), machine.date]
        writer.writerow(values)
    return stream.getvalue()


def to_markdown(report: Report, language: str = "en") -> str:
    """Return the tables with what stands beside them, as a page of the documentation holds it."""
    columns = columns_of(report)
    figures = [column.figure for column in columns]
    blocks = [markdown_table([[column.title(language) for column in columns], *cells(report)], figures)]
    if report.ratios:
        blocks.append(markdown_table(ratio_table(report, language), [False, False, True, False]))
    blocks.append("\n".join(f"- {line}" for line in caption(report, language)))
    return "\n\n".join(blocks) + "\n"


def markdown_table(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Return a Markdown table; ``right`` says which columns are aligned right."""
    head, *rest = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    rules = ["--:" if aligned else ":--" for aligned in right]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rules, *rest))


def show(report: Report) -> None:
    """Print the tables for a reader at a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 10_000)
    columns = columns_of(report)
    tables = [([column.title("en") for column in columns], cells(report), [column.figure for column in columns])]
    if report.ratios:
        head, *rows = ratio_table(report)
        tables.append((head, rows, [False, False, True, False]))
    for head, rows, right in tables:
        table = Table(box=box.SIMPLE_HEAD)
        for title, aligned in zip(head, right):
            table.add_column(title, justify="right" if aligned else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))  # as text: a name may hold rich's markup
        console.print(table)
    for line in caption(report):
        console.print(Text(line))


def write_all(report: Report, folder: Path) -> None:
    """Write ``benchmark.json``, ``.csv`` and ``.md`` into a folder."""
    for suffix, text in ((".json", to_json(report)), (".csv", to_csv(report)), (".md", to_markdown(report))):
        _write(folder / f"{NAME}{suffix}", text)


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8"))


@contextlib.contextmanager
def progress_bar(jobs: Sequence, settings: Settings) -> Iterator[Progress]:
    """Give what a session calls to tell how far it is; only a terminal shows it."""
    from tqdm import tqdm

    with tqdm(total=count_measurements(jobs, settings), unit="turn", disable=None, leave=False) as bar:

        def progress(text: str, steps: int) -> None:
            bar.set_postfix_str(text, refresh=True)
            if steps and not text.startswith("GEMM"):
                bar.update(steps)

        yield progress
