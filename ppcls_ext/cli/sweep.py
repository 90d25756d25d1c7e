"""The command sweep."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from ppcls_ext.cli.benchmark import resolution, seconds
from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import PROGRAM, Switch, add_command, add_subjects, positive
from ppcls_ext.cli.results import FAILED, OK, UsageError, keep_output_clean, print_table


def add_commands(commands) -> None:
    """Add the command of this module."""
    add = add_command(
        commands,
        "sweep",
        run_sweep,
        "Run models over a list of image sizes: accuracy, throughput, peak memory of a fresh process and "
        "multiply-adds, of several models in one picture. Evaluation resizes and crops in the proportions of the "
        "recipe. A size that a model does not take is a gap in its line, with the reason in the table.",
        [
            "sweep output/Sequencer2D_digits output/ViT_digits --resolution 8 16 24 32 --output sweep",
            "sweep small=output/a/latest large=output/b --resolution 160 224 320 --output sweep --no_speed",
            "sweep Sequencer2D_S ViT_S_16_224 --resolution 224 448 896 --output cost --no_accuracy --batch_size 1",
        ],
    )
    add_subjects(add)
    add("--resolution", nargs="+", required=True, type=resolution, metavar="N", help="224 or HEIGHTxWIDTH")
    add("--output", required=True, type=Path, metavar="DIR", help="folder for sweep.png, .json, .csv and .md")
    add("--accuracy", action=Switch, default=True, help="evaluate on DataLoader.Eval (default: yes)")
    add("--speed", action=Switch, default=True, help="measure time and memory (default: yes)")
    add("--batch_size", type=positive, default=8, help="images a run when they are measured (default: %(default)s)")
    add("--threads", type=positive, help="on the CPU then (default: all cores of this process)")
    add("--device", default="cpu", help="cpu, gpu or gpu:<number> (default: %(default)s)")
    add("--rounds", type=positive, default=3, help="how often each combination has its turn (default: %(default)s)")
    add("--seconds", type=seconds, default=0.3, help="least time of a turn (default: %(default)s)")
    add("--timeout", type=seconds, default=600.0, help="seconds until a combination is given up (default: 600)")
    add("--at_once", type=positive, default=4, help="processes open side by side, about (default: %(default)s)")
    add(
        "--format", choices=("table", "json", "csv", "markdown"), default="table", help="what to print (default: table)"
    )
    add("--plot", action=Switch, default=True, help="draw the picture, which needs matplotlib (default: yes)")


def run_sweep(arguments: argparse.Namespace) -> int:
    """Sweep."""
    if arguments.output.exists() and not arguments.output.is_dir():
        raise UsageError(f"--output: {arguments.output} is a file; expected a folder")
    import_paddle()
    keep_output_clean()
    from ppcls_ext.analysis.benchmark.results import Settings
    from ppcls_ext.analysis.drawing import DrawingError, require_matplotlib
    from ppcls_ext.analysis.subjects import SubjectError
    from ppcls_ext.analysis.sweep import picture, tables
    from ppcls_ext.analysis.sweep.measuring import Options, SweepError, sweep
    from ppcls_ext.engine.deploy.engines.choice import check_device
    from ppcls_ext.utils.cpu_settings import usable_cores

    settings = Settings(
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        runs=2,
        warmup=2,
        timeout=arguments.timeout,
        at_once=arguments.at_once,
        command=shlex.join([PROGRAM, "sweep", *sys.argv[2 if sys.argv[1:2] == ["sweep"] else 1 :]]),
    )
    options = Options(
        sizes=arguments.resolution,
        output=arguments.output,
        overrides=arguments.override,
        random_weights=arguments.random_weights,
        accuracy=arguments.accuracy,
        speed=arguments.speed,
        batch=arguments.batch_size,
        threads=arguments.threads or usable_cores(),
        device=arguments.device,
        settings=settings,
    )
    try:
        check_device(arguments.device)
    except ValueError as error:
        raise UsageError(f"--device: {error}") from None
    try:
        if arguments.plot:
            require_matplotlib("leave it out with --no_plot")
        found = sweep(arguments.models, options, lambda text: print(text, file=sys.stderr))
    except (SubjectError, SweepError, DrawingError) as error:
        raise UsageError(str(error)) from None
    arguments.output.mkdir(parents=True, exist_ok=True)
    tables.write_all(found, arguments.output)
    if arguments.plot:
        picture.draw(found, arguments.output / "sweep.png")
    if arguments.format == "table":
        head, *rows = tables.table(found)
        print_table(head, rows, right=range(1, len(head) - (head[-1] == tables.REASON[0])))
        print(arguments.output)
    else:
        print({"json": tables.to_json, "csv": tables.to_csv, "markdown": tables.to_markdown}[arguments.format](found))
    return FAILED if all(point.error for point in found.points) else OK
