"""From a command line to an exit code."""

from __future__ import annotations

import argparse
import sys
import traceback
from typing import Optional, Sequence

from ppcls_ext.cli import (
    analysis,
    attention,
    averaging,
    benchmark,
    comparison,
    curves,
    data,
    deployment,
    doctor,
    embedding,
    explanation,
    finetuning,
    foreign,
    models,
    prediction,
    preparation,
    quantization,
    receptive_field,
    recipes,
    serving,
    summary,
    sweep,
    training,
)
from ppcls_ext.cli.parser import PROGRAM, Parser
from ppcls_ext.cli.results import EXIT_CODES, FAILED, INTERRUPTED, OK, USAGE, UsageError
from ppcls_ext.version import __version__

#: Each adds its commands, in the order in which help lists them.
GROUPS = (
    models,
    comparison,
    summary,
    training,
    averaging,
    deployment,
    quantization,
    prediction,
    serving,
    analysis,
    benchmark,
    sweep,
    receptive_field,
    curves,
    embedding,
    explanation,
    attention,
    preparation,
    finetuning,
    data,
    recipes,
    doctor,
    foreign,
)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: The command's name and its arguments; ``None`` takes them from the command line.
    """
    arguments = build_parser().parse_args(sys.argv[1:] if argv is None else argv)
    if hasattr(sys.stdout, "reconfigure"):
        # A file name may hold what this encoding cannot express; JSON readers turn such an escape back into the name.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return arguments.run(arguments) or OK
    except UsageError as error:
        return _report(error, USAGE, arguments)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # the outermost place: what is not ours is raised again
        if not _is_ours(error):
            raise
        return _report(error, USAGE if _is_config_error(error) else FAILED, arguments)


def build_parser() -> Parser:
    """Return the parser of all commands."""
    parser = Parser(
        prog=PROGRAM,
        description="PaddleClas-compatible model zoo: list, train, evaluate, export and run image classifiers.",
        epilog=f"`{PROGRAM} <command> --help` explains a command.\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="<command>", required=True)
    for group in GROUPS:
        group.add_commands(commands)
    return parser


def _report(error: Exception, code: int, arguments: argparse.Namespace) -> int:
    if arguments.traceback:
        traceback.print_exception(type(error), error, error.__traceback__)
    # str(KeyError) is the repr of its message
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    print(f"{PROGRAM} {arguments.command}: error: {message}", file=sys.stderr)
    return code


def _is_config_error(error: Exception) -> bool:
    """Return whether ``error`` is a ConfigError, whose module is imported only by commands that can raise it."""
    config = sys.modules.get("ppcls_ext.config")
    return config is not None and isinstance(error, config.ConfigError)


def _is_ours(error: Exception) -> bool:
    """Return whether the message was written for the user, so that a call stack would only hide it.

    That is an error class of this package, a file that cannot be opened, or a plain error that our code raised.
    """
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] == PROGRAM:
        return True
    if type(error) not in (ValueError, RuntimeError):
        return False
    innermost = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][-1]
    return innermost.f_globals.get("__name__", "").partition(".")[0] == PROGRAM
