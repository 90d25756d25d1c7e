"""The command that makes a data set of a user's own images: prepare."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import PROGRAM, add_command, not_negative
from ppcls_ext.cli.results import OK, UsageError, print_json, print_table

SHOWN_CLASSES = 60


def add_commands(commands) -> None:
    """Add the commands of this module."""
    add = add_command(
        commands,
        "prepare",
        run_prepare,
        "Make a data set of your own images: check every image, split them, and write lists, a label file and a "
        "report. DATA is a folder of class folders (also below train/, val/ and test/), a PaddleClas list, or a CSV "
        "file with the columns path,label[,group][,split]. No image is moved or changed.",
        [
            "prepare photos",
            "prepare photos --output dataset/flowers --val 0.2 --test 0.1",
            r"prepare photos --group_pattern '(patient\d+)_'   # images of one patient stay in one part",
            "prepare images.csv --image_root photos",
        ],
    )
    add("data", type=Path, metavar="DATA", help="folder, list (.txt) or CSV file")
    add("--output", type=Path, metavar="DIR", help="folder to write to (default: dataset/<name of DATA>)")
    add("--val", type=float, metavar="SHARE", help="of validation (default: 0.2, or the data's own part)")
    add("--test", type=float, metavar="SHARE", help="of the test part (default: 0, or the data's own part)")
    add("--seed", type=not_negative, default=0, help="of the split (default: %(default)s)")
    add(
        "--group_pattern",
        metavar="REGEX",
        help="images in whose paths it finds the same stay in one part: patients, scenes, bursts",
    )
    add(
        "--duplicates",
        choices=("keep", "drop"),
        default="keep",
        help="images with the same pixels: keep them, in one part, or drop all but one (default: %(default)s)",
    )
    add("--image_root", type=Path, metavar="DIR", help="where relative paths of a list start (default: its folder)")
    add("--label_names", type=Path, metavar="FILE", help="names of a list's classes (default: a label_list.txt beside)")
    add("--relabel", action="store_true", help="number the classes of a list anew where ids are missing")
    add("--overwrite", action="store_true", help="replace the lists and the report of an earlier data set")
    add("--quiet", action="store_true", help="show no progress bar")
    add("--format", choices=("table", "json"), default="table", help="what to print (default: %(default)s)")


def run_prepare(arguments: argparse.Namespace) -> int:
    """Make a data set."""
    import_paddle()
    from ppcls_ext.data.errors import LabelFileError, PreparationError
    from ppcls_ext.workflow.preparing import PrepareOptions, prepare_dataset

    options = PrepareOptions(
        val=arguments.val,
        test=arguments.test,
        seed=arguments.seed,
        group_pattern=arguments.group_pattern,
        duplicates=arguments.duplicates,
        image_root=arguments.image_root,
        label_names=arguments.label_names,
        relabel=arguments.relabel,
        overwrite=arguments.overwrite,
        progress=not arguments.quiet,
    )
    try:
        dataset = prepare_dataset(arguments.data, arguments.output, options)
    except (PreparationError, LabelFileError, FileNotFoundError) as error:
        raise UsageError(str(error)) from None
    if arguments.format == "json":
        print_json(dataset.report)
    else:
        show(dataset)
    return OK


def show(dataset) -> None:
    """Print what a data set holds, and what deserves a look."""
    from ppcls_ext.analysis.dataset_page import bar, overview
    from ppcls_ext.data.preparation.collection import PARTS

    report = dataset.report
    totals = [sum(row[part] for part in PARTS) for row in report["classes"]]
    rows = [
        (str(row["id"]), row["name"], *(str(row[part]) for part in PARTS), bar(total, max(totals)))
        for row, total in zip(report["classes"], totals)
    ]
    print_table(("id", "class", *PARTS, ""), rows[:SHOWN_CLASSES], right=(0, 2, 3, 4))
    if len(rows) > SHOWN_CLASSES:
        print(f"… and {len(rows) - SHOWN_CLASSES} more classes in report.md")
    print_table(("figure", "value"), overview(report))
    for sentence in report["warnings"]:
        print(f"warning: {sentence}", file=sys.stderr)
    files = ", ".join(sorted(path.name for path in dataset.folder.iterdir() if path.is_file()))
    print(f"{dataset.folder}: {files}")
    print(f"next: {PROGRAM} finetune --data '{dataset.folder}' --arch <backbone>   # `{PROGRAM} list` shows them")
