"""The command ``ppcls_ext`` and, through :func:`main`, the scripts in ``tools/``.

A command parses its arguments, calls one function of the package and turns the outcome into an exit code. Nothing here
imports Paddle before a command needs it, so that help, ``list`` and ``info`` answer at once.
"""

from ppcls_ext.cli.program import build_parser, main
from ppcls_ext.cli.results import FAILED, INTERRUPTED, OK, USAGE, UsageError

__all__ = ["FAILED", "INTERRUPTED", "OK", "USAGE", "UsageError", "build_parser", "main"]
