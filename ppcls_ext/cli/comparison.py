"""The command that sets backbones side by side: compare."""

from __future__ import annotations

import argparse
from pathlib import Path

from ppcls_ext.cli.models import add_selection, select
from ppcls_ext.cli.parser import add_command
from ppcls_ext.cli.results import OK, UsageError, print_json, print_table


def add_commands(commands) -> None:
    """Add the command."""
    add = add_command(
        commands,
        "compare",
        run_compare,
        "Set backbones side by side: published accuracy, parameters, multiply-adds, licence of the weights and, with "
        "--measured, the throughput and memory of a benchmark. Draws accuracy against multiply-adds and throughput.",
        [
            "compare 'sequencer2d_*' 'vit_*' --sort top1",
            "compare --max_params 30M --output comparison",
            "compare --measured benchmark/benchmark.json --output comparison",
        ],
    )
    add("patterns", nargs="*", default=["*"], help="names or shell patterns of names, case-insensitive (default: all)")
    add_selection(add)
    add("--measured", type=Path, metavar="FILE", help="benchmark.json of `ppcls_ext benchmark --output`")
    add("--output", type=Path, metavar="DIR", help="write comparison.csv and pictures, which need matplotlib")
    add("--json", action="store_true", help="print JSON instead of a table")


def run_compare(arguments: argparse.Namespace) -> int:
    """Compare."""
    if arguments.output is not None and arguments.output.exists() and not arguments.output.is_dir():
        raise UsageError(f"--output: {arguments.output} is a file; expected a folder")
    from dataclasses import asdict

    from ppcls_ext.analysis.benchmark.caption import caption
    from ppcls_ext.analysis.comparison.picture import draw
    from ppcls_ext.analysis.comparison.rows import COLUMNS, compare, read_report
    from ppcls_ext.analysis.drawing import require_matplotlib
    from ppcls_ext.utils.tables import write_table

    names = [row["name"] for row in select(arguments)]
    report = None if arguments.measured is None else read_report(arguments.measured)
    rows = compare(names, report)
    written = []
    if arguments.output is not None:
        require_matplotlib()
        arguments.output.mkdir(parents=True, exist_ok=True)
        written = [write_table(arguments.output / "comparison.csv", [COLUMNS, *(row.cells() for row in rows)])]
        written += draw(rows, arguments.output, caption(report, "en")[0] if report else "")
    if arguments.json:
        print_json([asdict(row) for row in rows])
        return OK
    header = ("name", "size", "top-1 (%)", "top-5 (%)", "params (M)", "MACs (G)", "images/s", "peak (MB)", "licence")
    table = [
        (
            row.name,
            str(row.size),
            "" if row.top1 is None else f"{row.top1:.2f}",
            "" if row.top5 is None else f"{row.top5:.2f}",
            f"{row.params / 1e6:.2f}",
            f"{row.macs / 1e9:.2f}",
            "" if row.images_per_second is None else f"{row.images_per_second:g}",
            "" if row.peak_mb is None else f"{row.peak_mb:g}",
            row.licence,
        )
        for row in rows
    ]
    print_table(header, table, right=tuple(range(1, 8)))
    for path in written:
        print(path)
    return OK
