"""The command that runs PaddleClas's own scripts."""

from __future__ import annotations

import argparse

from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import add_foreign_command
from ppcls_ext.cli.results import OK, UsageError


def add_commands(commands) -> None:
    """Add the commands of this module."""
    parser = add_foreign_command(
        commands,
        "paddleclas",
        run_paddleclas,
        "Run an unchanged script of a PaddleClas source checkout with the backbones of ppcls_ext in its table.",
        ["paddleclas PaddleClas/tools/train.py -c my.yaml -o Global.device=cpu"],
    )
    parser.add_argument("--traceback", action="store_true", help="print the call stack of every error")
    parser.add_argument("script", help="a script of the checkout, for example PaddleClas/tools/train.py")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its own arguments")


def run_paddleclas(arguments: argparse.Namespace) -> int:
    """Run the script."""
    import_paddle()
    from ppcls_ext.checkout import find_script, run_script

    try:
        script = find_script(arguments.script)
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(str(error)) from None
    run_script(script, arguments.arguments)
    return OK
