"""Commands that show what models do: report."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from ppcls_ext.cli.parser import add_command, not_negative, positive
from ppcls_ext.cli.results import OK, UsageError, print_json, print_table
from ppcls_ext.cli.training import add_label_sets


def add_commands(commands) -> None:
    """Add the commands of this module."""
    add = add_command(
        commands,
        "report",
        run_report,
        "Make a report of predictions that `eval` or `predict` saved: a page by itself, and its pictures and tables. "
        "One file gives accuracy, figures of each class, confusions, calibration and the worst images; two files over "
        "the same images are compared: agreement, McNemar's test, which images changed.",
        [
            "report out.parquet --output report",
            "report fp32.parquet int8.parquet --output comparison",
            "report out.parquet --output report --labels dataset/ILSVRC2012/real.json",
            "report out.parquet --output report --classes dataset/imagenet-a",
        ],
    )
    add("predictions", nargs="+", type=Path, metavar="FILE", help="one file of predictions, or two to compare")
    add("--output", required=True, type=Path, metavar="DIR", help="folder to write to; index.html is the page")
    add("--image_root", type=Path, metavar="DIR", help="folder of the images (default: the working directory)")
    add("--class_names", metavar="FILE", help="names of the classes, for a file without (.csv); `imagenet1k` is known")
    add_label_sets(add, "the folder of the images")
    add("--imagenet_c", action="store_true", help="the images are ImageNet-C's: compute mCE from their paths")
    add("--images", type=positive, default=24, help="images in a grid (default: %(default)s)")
    add("--confusions", type=not_negative, default=20, help="pairs whose images are shown (default: %(default)s)")
    add("--format", choices=("table", "json"), default="table", help="what to print (default: %(default)s)")


def run_report(arguments: argparse.Namespace) -> int:
    """Make a report."""
    if len(arguments.predictions) > 2:
        raise UsageError(f"expected one or two files of predictions, got {len(arguments.predictions)}")
    if arguments.output.exists() and not arguments.output.is_dir():
        raise UsageError(f"--output: {arguments.output} is a file; expected a folder")
    from ppcls_ext.analysis.report.options import ReportOptions

    _print_log()
    options = ReportOptions(
        output=arguments.output,
        image_root=arguments.image_root,
        class_names=arguments.class_names,
        labels=arguments.labels,
        classes=arguments.classes,
        imagenet_c=arguments.imagenet_c,
        images=arguments.images,
        confusions=arguments.confusions,
    )
    if len(arguments.predictions) == 2:
        if arguments.imagenet_c:
            raise UsageError("--imagenet_c is about one file of predictions")
        from ppcls_ext.analysis.report.paired import report_pair

        summary = report_pair(arguments.predictions[0], arguments.predictions[1], options)
        rows = _rows_of_pair(summary)
    else:
        from ppcls_ext.analysis.report.single import report

        summary = report(arguments.predictions[0], options)
        rows = _rows_of_one(summary)
    if arguments.format == "json":
        print_json(summary)
    else:
        print_table(("figure", "value"), rows, right=(1,))
        print(f"{arguments.output / 'index.html'}")
    not_shown = summary["not_shown"]
    if not_shown:
        file, reason = next(iter(not_shown.items()))
        print(f"warning: {len(not_shown)} images could not be shown, the first: {file}: {reason}", file=sys.stderr)
    return OK


def _print_log() -> None:
    """Send warnings, such as a font that is missing, to standard error."""
    logger = logging.getLogger("ppcls_ext")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        logger.addHandler(handler)


def _share(value: float) -> str:
    return f"{100 * value:.2f}%"


def _rows_of_one(summary: dict) -> list[tuple[str, str]]:
    rows = [("images", f"{summary['samples']:,}"), ("top-1 accuracy", _share(summary["top1"]))]
    if "top5" in summary:
        rows.append(("top-5 accuracy", _share(summary["top5"])))
    if summary.get("real", {}).get("top1") is not None:
        rows.append(("top-1 by reassessed labels", _share(summary["real"]["top1"])))
    if "imagenet_c" in summary:
        rows.append(("mCE", f"{100 * summary['imagenet_c']['mce']:.2f}"))
    rows += [(f"{name}, macro", _share(value)) for name, value in summary["averages"]["macro"].items()]
    rows.append(("expected calibration error", _share(summary["calibration"]["ece"])))
    if summary["calibration"]["temperature"] is not None:
        rows.append(("best temperature", f"{summary['calibration']['temperature']:.3f}"))
    return rows


def _rows_of_pair(summary: dict) -> list[tuple[str, str]]:
    rows = [("images", f"{summary['samples']:,}"), ("same class from both", _share(summary["agreement"]))]
    if "difference" in summary:
        first, second = summary["accuracy"]
        difference, test = summary["difference"], summary["mcnemar"]
        bounds = f"{100 * difference['low']:+.2f} to {100 * difference['high']:+.2f}"
        rows += [
            ("accuracy of the first", _share(first)),
            ("accuracy of the second", _share(second)),
            ("difference, in points", f"{100 * difference['value']:+.2f}"),
            (f"its {difference['level']:.0%} confidence interval", bounds),
            ("McNemar's test, p", f"{test['p_value']:.4g}"),
        ]
    return rows + [(f"images {kind}", str(count)) for kind, count in summary["changed"].items()]
