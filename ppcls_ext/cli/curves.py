"""The command that draws learning curves: curves."""

from __future__ import annotations

import argparse
from pathlib import Path

from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import add_command
from ppcls_ext.cli.results import OK, UsageError, print_json

FORMATS = ("path", "csv", "json")


def add_commands(commands) -> None:
    """Add the command."""
    add = add_command(
        commands,
        "curves",
        run_curves,
        "Draw the learning curves of one or several runs. Loss, accuracy and learning rate come from the metrics.jsonl "
        "that training writes; the figures go into a CSV file beside the picture.",
        [
            "curves output/Sequencer2D_digits --output curves.png",
            "curves Sequencer=output/Sequencer2D_digits ResNet=output/ResNet_digits --output curves.png",
            "curves output/run --by step --smoothing 0.9 --figures loss top1 top5 --output curves.png",
            "curves output/run --format csv",
        ],
    )
    add("runs", nargs="+", metavar="RUN", help="a run's folder; `label=` before it names it in the picture")
    add("--output", type=Path, metavar="FILE.png", help="the picture, which needs matplotlib; figures go to FILE.csv")
    add("--by", choices=("epoch", "step"), default="epoch", help="the horizontal axis (default: %(default)s)")
    add("--figures", nargs="+", default=[], metavar="NAME", help="to draw (default: loss and the first metric)")
    add("--smoothing", type=_weight, default=0.0, help="weight of the past in a moving average, below 1 (default: 0)")
    add("--format", choices=FORMATS, default="path", help="what to print: the files written, or figures")


def _weight(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is not a number from 0 to below 1")
    return value


def run_curves(arguments: argparse.Namespace) -> int:
    """Draw."""
    output = arguments.output
    if output is None and arguments.format == "path":
        raise UsageError("--output names no picture; --format csv or json prints the figures")
    if output is not None and output.suffix != ".png":
        raise UsageError(f"--output: expected a name that ends in .png, got {str(output)!r}")
    import_paddle()
    from ppcls_ext.analysis.curves.drawing import draw_curves
    from ppcls_ext.analysis.curves.series import choose_figures, read_run
    from ppcls_ext.analysis.drawing import require_matplotlib
    from ppcls_ext.utils.tables import write_table

    if output is not None:
        require_matplotlib("print the figures with --format csv")
    runs = [read_run(word, arguments.by) for word in arguments.runs]
    names = choose_figures(runs, arguments.figures)
    header = ("run", "section", "figure", arguments.by, "value")
    rows = [
        (run.label, curve.section, curve.name, place, value)
        for run in runs
        for curve in run.curves
        for place, value in zip(curve.places, curve.values)
    ]
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        draw_curves(output, runs, names, arguments.smoothing)
        write_table(output.with_suffix(".csv"), [header, *rows])
    if arguments.format == "csv":
        print(",".join(header))
        for row in rows:
            print(",".join(map(str, row)))
    elif arguments.format == "json":
        print_json([dict(zip(header, row)) for row in rows])
    else:
        print(output)
        print(output.with_suffix(".csv"))
    return OK
