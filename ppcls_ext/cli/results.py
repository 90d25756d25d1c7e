"""What a command gives back: exit codes, tables and JSON on standard output."""

from __future__ import annotations

import json
import os
import sys
from typing import Iterable, Sequence

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
#: Images that a terminal shows one by one.
SHOWN_ON_TERMINAL = 40
EXIT_CODES = """\
exit codes:
  0    success
  1    the command failed; the message says why
  2    wrong command line or configuration; nothing was done
  130  stopped by Ctrl-C (143 by SIGTERM); training saves first
"""


class UsageError(ValueError):
    """The command line is wrong."""


def keep_output_clean() -> None:
    """Let what native libraries print go to standard error, so that standard output holds results alone.

    Paddle prints from C++ when oneDNN lacks an operator. Does nothing if Python's standard output is not the process's.
    """
    try:
        if sys.stdout.fileno() != 1:
            return
    except (AttributeError, OSError, ValueError):  # replaced by a stream that is no file
        return
    sys.stdout.flush()
    results = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = open(results, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors, buffering=1)


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


def print_predictions(results: Iterable[dict], format: str) -> int:
    """Print what a model says of each image, and the images that cannot be read; return the exit code.

    Args:
        results: printed as they come where the format allows it.
        format: ``table``, ``json`` or ``jsonl``. A table on a terminal ends after ``SHOWN_ON_TERMINAL`` images.
    """
    count, failed, shown = 0, [], []
    for result in results:
        count += 1
        if "error" in result:
            failed.append(result)
        if format == "jsonl":
            print(json.dumps(result, ensure_ascii=False), flush=True)
        elif format == "json" or not sys.stdout.isatty() or count <= SHOWN_ON_TERMINAL:
            shown.append(result)
    if format == "json":
        print_json(shown)
    elif format == "table":
        _print_table_of(shown)
        if count > len(shown):
            print(f"… and {count - len(shown)} more; --output FILE.jsonl writes them all")
    for result in failed[:SHOWN_ON_TERMINAL]:
        print(f"error: {result['file_name']}: {result['error']}", file=sys.stderr)
    if len(failed) > SHOWN_ON_TERMINAL:
        print(f"error: … and {len(failed) - SHOWN_ON_TERMINAL} more", file=sys.stderr)
    if failed:
        print(f"error: {len(failed)} of {count} images could not be read", file=sys.stderr)
    elif count > 1:
        print(f"{count} images classified", file=sys.stderr)
    return FAILED if failed else OK


def _print_table_of(results: list[dict]) -> None:
    rows = []
    for result in results:
        named = list(zip(result["class_ids"], result["label_names"], result["scores"]))
        classes = "\n".join(f"{number} {name}" for number, name, _ in named)
        rows.append((result["file_name"], classes, "\n".join(f"{score:.5f}" for *_, score in named)))
    print_table(("file", "class", "score"), rows, right=(2,))
