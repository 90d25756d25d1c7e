"""What a command gives back: exit codes, tables and JSON on standard output."""

from __future__ import annotations

import json
import sys
from typing import Sequence

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
EXIT_CODES = """\
exit codes:
  0    success
  1    the command failed; the message says why
  2    wrong command line or configuration; nothing was done
  130  stopped by Ctrl-C (143 by SIGTERM); training saves first
"""


class UsageError(ValueError):
    """The command line is wrong."""


def print_json(value: object) -> None:
    """Print ``value`` as JSON."""
    print(json.dumps(value, ensure_ascii=False, indent=1))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Print a table; ``right`` holds the indices of the columns to align right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for index, title in enumerate(header):
        table.add_column(title, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])  # as text: a file name may hold rich's markup
    # Into a file or a pipe, a row stays on one line.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)


def print_predictions(results: list[dict], format: str) -> int:
    """Print what a model says of each image, and the images that cannot be read; return the exit code."""
    from ppcls_ext.engine.deploy.pipeline import failures

    if format == "json":
        print_json(results)
    else:
        rows = []
        for result in results:
            named = list(zip(result["class_ids"], result["label_names"], result["scores"]))
            classes = "\n".join(f"{number} {name}" for number, name, _ in named)
            rows.append((result["file_name"], classes, "\n".join(f"{score:.5f}" for *_, score in named)))
        print_table(("file", "class", "score"), rows, right=(2,))
    failed = failures(results)
    for result in failed:
        print(f"error: {result['file_name']}: {result['error']}", file=sys.stderr)
    if failed:
        print(f"error: {len(failed)} of {len(results)} images could not be read", file=sys.stderr)
    return FAILED if failed else OK
