"""Commands for a start without a clone: recipes, quick-start."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import PROGRAM, add_command, add_override, new_parser
from ppcls_ext.cli.results import OK, UsageError, print_json, print_table
from ppcls_ext.cli.training import SCRIPT


def add_commands(commands) -> None:
    """Add the commands of this module."""
    parser = new_parser(
        commands,
        "recipes",
        "List, show or copy the training recipes that come with the package. Every command that takes -c also takes a "
        "recipe's name; copy a recipe to change more than -o can.",
        [
            "recipes list 'cifar*'",
            "recipes show ImageNet/ResNet/ResNet50",
            "recipes copy ResNet50 my.yaml",
        ],
    )
    actions = parser.add_subparsers(dest="action", metavar="<action>", required=True)
    add = add_command(actions, "list", run_list, "List the recipes.", ["recipes list", "recipes list '*resnet50*'"])
    add("pattern", nargs="?", default="*", help="shell pattern of names, case-insensitive (default: all)")
    add("--json", action="store_true", help="print JSON instead of a table")
    add = add_command(actions, "show", run_show, "Print a recipe.", ["recipes show ImageNet/ResNet/ResNet50"])
    add("name", help="as listed; the last part is enough where it is unique")
    add = add_command(
        actions,
        "copy",
        run_copy,
        "Copy a recipe, to be edited. An existing file is not overwritten.",
        ["recipes copy ResNet50", "recipes copy CIFAR10/Sequencer2D_S my.yaml"],
    )
    add("name", help="as listed; the last part is enough where it is unique")
    add("dest", nargs="?", type=Path, default=Path(), help="file or folder to write to (default: working directory)")

    add = add_command(
        commands,
        "quick-start",
        run_quick_start,
        "Train, evaluate, export and predict handwritten digits, without any download.",
        ["quick-start", "quick-start --root somewhere -o Global.epochs=2"],
    )
    add(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help="a configuration for the digits (default: a small Sequencer2D)",
    )
    add("--root", type=Path, default=Path(), help="folder for data and results (default: the working directory)")
    add_override(add)


def run_list(arguments: argparse.Namespace) -> int:
    """Print the names and first lines of the recipes that match."""
    from ppcls_ext.config import recipes

    rows = [{"name": name, "title": recipes.title(name)} for name in recipes.list_recipes(arguments.pattern)]
    if not rows:
        raise UsageError(f"no recipe matches {arguments.pattern!r}; `{PROGRAM} recipes list` shows all")
    if arguments.json:
        print_json(rows)
    else:
        print_table(("name", "what it trains"), [(row["name"], row["title"]) for row in rows])
    return OK


def run_show(arguments: argparse.Namespace) -> int:
    """Print a recipe."""
    print(_find(arguments.name).read_text(encoding="utf-8"), end="")
    return OK


def run_copy(arguments: argparse.Namespace) -> int:
    """Copy a recipe."""
    source = _find(arguments.name)
    path = arguments.dest / source.name if arguments.dest.is_dir() else arguments.dest
    if path.exists():
        raise UsageError(f"{path} exists; give a different destination")
    if not path.parent.is_dir():
        raise UsageError(f"no such folder: {path.parent}")
    shutil.copyfile(source, path)
    print(f"{path}: `{PROGRAM} train -c {path}` trains it")
    return OK


def _find(name: str) -> Path:
    from ppcls_ext.config import recipes

    try:
        return recipes.find_recipe(name)
    except KeyError as error:
        raise UsageError(error.args[0]) from None


def run_quick_start(arguments: argparse.Namespace) -> int:
    """Train, evaluate, export and predict the digits."""
    import_paddle()
    from ppcls_ext.engine.quick_start import quick_start

    root = arguments.root.resolve()
    if not root.is_dir():
        raise UsageError(f"no such folder: {root}")
    config = arguments.config.resolve() if arguments.config else None
    os.chdir(root)  # where relative paths in the configuration start
    quick_start(root, SCRIPT, config, tuple(arguments.override))
    return OK
