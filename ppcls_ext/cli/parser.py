"""The parser of commands: both spellings of an option, the nearest name for a misspelt one, one layout of help."""

from __future__ import annotations

import argparse
import textwrap
from typing import Callable, Optional, Sequence

from ppcls_ext.cli.results import EXIT_CODES
from ppcls_ext.utils.spelling import nearest

PROGRAM = "ppcls_ext"


class Parser(argparse.ArgumentParser):
    """Options are written with underscores, as in YAML files and in Paddle's own tools; hyphens are accepted too.

    Attributes:
        both_spellings: Whether hyphens in options become underscores. Not where they are another program's.
        verbatim: Whether all words but ``--help`` go into ``arguments`` as they are.
    """

    both_spellings = False
    verbatim = False

    def parse_known_args(self, args=None, namespace=None):
        """Parse; see :class:`argparse.ArgumentParser`."""
        if self.verbatim and not {"-h", "--help"} & set(args[:1]):
            namespace, _ = super().parse_known_args([], namespace)
            namespace.arguments = list(args)
            return namespace, []
        if self.both_spellings:
            args = [_with_underscores(word) for word in args]
        return super().parse_known_args(args, namespace)

    def parse_args(self, args=None, namespace=None):
        """Parse, and suggest the nearest option for an unknown one."""
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser = getattr(namespace, "parser", self)
            hints = [nearest(word, parser._option_string_actions, 1) for word in unknown if word.startswith("--")]
            parser.error(f"unrecognized arguments: {' '.join(unknown)}{_did_you_mean(sum(hints, []))}")
        return namespace

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """Suggest the nearest choice instead of listing all."""
        if action.choices is None or value in action.choices:
            return
        hint = _did_you_mean(nearest(str(value), map(str, action.choices), 1))
        hint = hint or f" (choose from {', '.join(map(str, action.choices))})"
        raise argparse.ArgumentError(action, f"invalid choice: {value!r}{hint}")


class Switch(argparse.Action):
    """An option without a value, and its opposite: ``--shuffle`` and ``--no_shuffle``."""

    def __init__(self, option_strings: Sequence[str], dest: str, default: object = None, help: Optional[str] = None):
        both = [*option_strings, *(f"--no_{option[2:]}" for option in option_strings)]
        super().__init__(both, dest, nargs=0, default=default, help=help)

    def __call__(self, parser, namespace, values, option_string=None):
        """Store whether the option was given without ``no``."""
        setattr(namespace, self.dest, not option_string.startswith("--no_"))

    def format_usage(self) -> str:
        """Return how the usage line shows it."""
        return " | ".join(self.option_strings)


def _with_underscores(word: str) -> str:
    name, equals, value = word.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value if name.startswith("--") and name != "--" else word


def _did_you_mean(names: Sequence[str]) -> str:
    return f"; did you mean {', '.join(names)}?" if names else ""


def add_command(commands, name: str, run: Callable, text: str, examples: Sequence[str]) -> Callable:
    """Add a command.

    Args:
        commands: What ``add_subparsers`` returned.
        name: Of the command.
        run: Called with the parsed arguments; returns the exit code.
        text: What the command does; the first sentence also stands in the list of commands.
        examples: Command lines, without the program's name.

    Returns:
        Its ``add_argument``.
    """
    parser = new_parser(commands, name, text, examples)
    parser.both_spellings = True
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument("--traceback", action="store_true", help="print the call stack of every error")
    return parser.add_argument


def add_foreign_command(commands, name: str, run: Callable, text: str, examples: Sequence[str]) -> Parser:
    """Add a command whose words are another program's; see :func:`add_command`. Return its parser."""
    parser = new_parser(commands, name, text, examples)
    parser.set_defaults(run=run, parser=parser, traceback=False)
    return parser


def new_parser(commands, name: str, text: str, examples: Sequence[str]) -> Parser:
    """Return the parser of a command, with help but without options; see :func:`add_command`."""
    shown = "\n".join(f"  {PROGRAM} {example}" for example in examples)
    return commands.add_parser(
        name,
        help=text.partition(". ")[0].rstrip("."),
        description=textwrap.fill(text, width=100, break_long_words=False, break_on_hyphens=False),
        epilog=f"examples:\n{shown}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_config_command(commands, name: str, run: Callable, text: str, examples: Sequence[str]) -> Callable:
    """Add a command that takes a configuration; see :func:`add_command`."""
    add = add_command(commands, name, run, text, examples)
    add("-c", "--config", required=True, metavar="FILE", help="YAML file in PaddleClas's schema, or a recipe's name")
    add_override(add)
    return add


def add_random_weights(add: Callable) -> None:
    """Add ``--random_weights``."""
    add("--random_weights", action="store_true", help="accept that no weights are given, and use initial ones")


def add_subjects(add: Callable) -> None:
    """Add ``models``, ``-o`` and ``--random_weights``, for commands that look into several trained models."""
    add(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a run's folder, a checkpoint of it, a YAML file or recipe that names weights, or a backbone's name "
        "(published weights); `label=` before it names it in pictures",
    )
    add_override(add)
    add_random_weights(add)


def add_engine(add: Callable) -> None:
    """Add ``--engine`` and ``--device``, for commands that run an exported model."""
    add(
        "--engine",
        choices=("auto", "paddle", "onnxruntime", "openvino"),
        default="auto",
        help="what runs the graph; auto: on a CPU the first of OpenVINO, ONNX Runtime and Paddle that is installed and "
        "whose graph is in the folder (default: %(default)s)",
    )
    add("--device", default="cpu", help="cpu, gpu or gpu:<number> (default: %(default)s)")


def add_override(
    add: Callable,
    help: str = "replace a value, such as Global.epochs=5; several after one -o, or -o again. Values are read as YAML; "
    "a list item is named by its index",
) -> None:
    """Add ``-o KEY=VALUE …``."""
    add("-o", "--override", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help=help)


def positive(text: str) -> int:
    """Return the whole number above 0 that ``text`` is."""
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is not a whole number from 1 to {10**9 - 1:,}")
    return int(text)


def not_negative(text: str) -> int:
    """Return the whole number that ``text`` is."""
    if not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is not a whole number from 0 to {10**9 - 1:,}")
    return int(text)
