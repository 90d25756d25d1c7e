"""The command benchmark."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path

from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import PROGRAM, Switch, add_command, not_negative, positive
from ppcls_ext.cli.results import FAILED, OK, UsageError

#: More than any benchmark needs; a typo would measure for days.
MAX_SECONDS = 86_400


def add_commands(commands) -> None:
    """Add the command of this module."""
    add = add_command(
        commands,
        "benchmark",
        run_benchmark,
        "Measure the speed and memory of backbones and exported folders. Options that take several values are "
        "combined; each combination runs in a process of its own, in interleaved rounds. A combination that cannot be "
        "is a row with its reason. Backbones have random weights, and are exported first for engines other than eager.",
        [
            "benchmark Sequencer2D_S ppcls_ext.ResNet50 --batch_size 1 8",
            "benchmark inference --engine onnxruntime openvino --compare onnxruntime openvino",
            "benchmark ResNet50 paddleclas.ResNet50 --mode train --compare ResNet50 paddleclas.ResNet50",
            "benchmark DilateFormer_Tiny --resolution 224 320 448 --engine eager onnxruntime --output benchmark",
            "benchmark inference --mode predict --infer_imgs photo.jpg",
        ],
    )
    add(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a backbone of ppcls_ext, paddleclas.<Name>, a shell pattern such as 'vit_*', or a folder that `export` "
        "wrote",
    )
    add(
        "--engine",
        nargs="+",
        choices=("eager", "auto", "paddle", "onnxruntime", "openvino"),
        help="what runs it (default: eager for a backbone, auto for a folder)",
    )
    add(
        "--precision",
        nargs="+",
        choices=("fp32", "bf16", "fp16", "int8"),
        help="bf16 and fp16 are mixed precision in eager mode; int8 is a folder's own (default: fp32, or the folder's)",
    )
    add("--batch_size", nargs="+", type=positive, default=[1], help="images per run (default: 1)")
    add("--resolution", nargs="+", type=resolution, metavar="N", help="224 or HEIGHTxWIDTH (default: each model's own)")
    add("--threads", nargs="+", type=positive, help="on the CPU (default: all cores of this process)")
    add(
        "--mode",
        nargs="+",
        choices=("forward", "train", "predict"),
        default=["forward"],
        help="forward: a batch of noise; train: forward, backward and AdamW; predict: reading, decoding, preprocessing "
        "and inference of image files, each timed (default: forward)",
    )
    add("--device", default="cpu", help="cpu, gpu or gpu:<number> (default: %(default)s)")
    add("--infer_imgs", metavar="PATH", help="images of the mode predict (default: a made-up photograph of 500x375)")
    add(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="ratios of time A/B, pair by pair: values of this run, such as two models or engines, or FIELD=VALUE,…",
    )
    add("--rounds", type=positive, default=5, help="how often each combination has its turn (default: %(default)s)")
    add("--seconds", type=seconds, default=0.5, help="least time of a turn (default: %(default)s)")
    add("--runs", type=positive, default=3, help="least runs of a turn (default: %(default)s)")
    add("--warmup", type=not_negative, default=3, help="runs before the first turn (default: %(default)s)")
    add("--timeout", type=seconds, default=1800.0, help="seconds until a combination is given up (default: 1800)")
    add("--at_once", type=positive, default=4, help="processes open side by side, about (default: %(default)s)")
    add(
        "--gemm",
        action=Switch,
        default=True,
        help="measure float32 matrix products beside, as the limit (default: yes)",
    )
    add(
        "--format", choices=("table", "json", "csv", "markdown"), default="table", help="what to print (default: table)"
    )
    add("--output", type=Path, metavar="DIR", help="also write benchmark.json, .csv, .md and pictures into this folder")
    add("--plot", action=Switch, default=True, help="draw the pictures, which needs matplotlib (default: yes)")


def resolution(text: str) -> tuple:
    """Return (height, width) of ``224`` or ``224x320``."""
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if not found or not int(found[1]) or found[2] is not None and not int(found[2]):
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is neither a side such as 224 nor HEIGHTxWIDTH")
    return int(found[1]), int(found[2] or found[1])


def seconds(text: str) -> float:
    """Return a time in seconds, above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is no number of seconds above 0 and up to {MAX_SECONDS:,}")
    return value


def run_benchmark(arguments: argparse.Namespace) -> int:
    """Measure."""
    import_paddle_for(arguments.models)
    from ppcls_ext.analysis.benchmark import pictures, tables
    from ppcls_ext.analysis.benchmark.plan import Options, pairs, parse_selectors, plan
    from ppcls_ext.analysis.benchmark.results import Settings
    from ppcls_ext.analysis.benchmark.session import Session
    from ppcls_ext.analysis.benchmark.targets import find_targets
    from ppcls_ext.analysis.drawing import DrawingError, require_matplotlib
    from ppcls_ext.data.image_files import list_images
    from ppcls_ext.engine.deploy.engines.choice import check_device
    from ppcls_ext.utils.cpu_settings import usable_cores

    options = Options(
        engines=_once(arguments.engine),
        precisions=_once(arguments.precision),
        batches=_once(arguments.batch_size),
        resolutions=_once(arguments.resolution),
        threads=_once(arguments.threads or [usable_cores()]),
        modes=_once(arguments.mode),
        device=arguments.device,
    )
    try:
        check_device(arguments.device)
        images = list_images(arguments.infer_imgs) if arguments.infer_imgs else []
        jobs = plan(find_targets(arguments.models), options)
        cases = [job.case for job in jobs]
        compared = pairs(cases, parse_selectors(arguments.compare, cases)) if arguments.compare else []
        if arguments.output is not None:
            if arguments.plot:
                require_matplotlib("leave them out with --no_plot")
            arguments.output.mkdir(parents=True, exist_ok=True)
    except (KeyError, ValueError, OSError, DrawingError) as error:
        raise UsageError(str(error.args[0]) if isinstance(error, KeyError) else str(error)) from None
    names = ("rounds", "seconds", "runs", "warmup", "timeout", "at_once")
    settings = Settings(**{name: getattr(arguments, name) for name in names}, command=_command(sys.argv))
    with tables.progress_bar(jobs, settings) as progress:
        session = Session(settings, arguments.gemm, compared, [str(path) for path in images], progress)
        report = session.run(jobs)
    if arguments.output is not None:
        tables.write_all(report, arguments.output)
        if arguments.plot:
            pictures.draw_all(report, arguments.output)
    if arguments.format == "table":
        tables.show(report)
    else:
        print({"json": tables.to_json, "csv": tables.to_csv, "markdown": tables.to_markdown}[arguments.format](report))
    return OK if any(row.error is None for row in report.rows) else FAILED


def import_paddle_for(words: list) -> None:
    """Import Paddle quietly if the words name something that only it can tell of."""
    from ppcls_ext import registry

    known = registry.list_backbones()
    if not all(Path(word).is_dir() or registry.bare_name(word) in known or set(word) & set("*?[") for word in words):
        import_paddle()


def _once(values):
    return None if values is None else list(dict.fromkeys(values))


def _command(words: list) -> str:
    """Return the command line as a user would write it again."""
    rest = words[2:] if words[1:2] == ["benchmark"] else words[1:]
    return shlex.join([PROGRAM, "benchmark", *rest])
