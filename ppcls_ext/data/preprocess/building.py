"""From ``Name: {arguments}`` of a YAML file to an operator, or to what is wrong with it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Optional, Type

from ppcls_ext.utils.spelling import nearest


@dataclass(frozen=True)
class OperatorProblem:
    """One mistake in a list of operators; ``key`` is the dotted place below it, such as ``1.ResizeImage.sice``."""

    key: str
    message: str
    section: str = "transform_ops"

    def __str__(self) -> str:
        return f"{self.section}.{self.key}: {self.message}" if self.key else f"{self.section}: {self.message}"


def arguments_of(operator: Type[Any]) -> dict[str, inspect.Parameter]:
    """Return the arguments of an operator's constructor, in order, with their defaults."""
    if operator.__init__ is object.__init__:
        return {}
    return dict(list(inspect.signature(operator.__init__).parameters.items())[1:])


def one_key(position: int, item: dict, section: str) -> tuple:
    """Return ``(name, arguments, problem)`` of a list item; the problem is None where it has the form."""
    if not isinstance(item, dict) or len(item) != 1:
        message = f"expected one 'Operator: {{arguments}}', got {item!r}"
        return None, None, OperatorProblem(str(position), message, section)
    ((name, arguments),) = item.items()
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, dict):
        message = f"expected arguments as a mapping, got {arguments!r}"
        return name, None, OperatorProblem(f"{position}.{name}", message, section)
    return name, arguments, None


def build_operator(
    key: str,
    name: str,
    arguments: Mapping,
    operators: Mapping[str, type],
    unknown: Callable[[str], str],
    section: str = "transform_ops",
    given: Optional[Mapping] = None,
) -> tuple:
    """Build one operator.

    Args:
        key: its place below the section, for the problems.
        name: of the operator.
        arguments: as in YAML.
        operators: those there are.
        unknown: returns the sentence that refuses an unknown name.
        section: name of the list of operators.
        given: arguments that do not come from YAML; an operator gets those that it takes.

    Returns:
        The operator, or None, and the list of problems.
    """
    if name not in operators:
        return None, [OperatorProblem(key, unknown(name), section)]
    given = given or {}
    everything = arguments_of(operators[name])
    allowed = {argument: parameter for argument, parameter in everything.items() if argument not in given}
    problems = []
    for argument in arguments:
        if argument not in allowed:
            hint = nearest(str(argument), allowed, count=1)
            known = f"; did you mean {hint[0]!r}?" if hint else f"; it takes {', '.join(allowed) or 'no argument'}"
            message = f"{name} has no argument {argument!r}{known}"
            problems.append(OperatorProblem(f"{key}.{argument}", message, section))
    for argument, parameter in allowed.items():
        if parameter.default is parameter.empty and argument not in arguments:
            message = f"{name} needs the argument {argument!r}"
            problems.append(OperatorProblem(f"{key}.{argument}", message, section))
    if problems:
        return None, problems
    injected = {argument: value for argument, value in given.items() if argument in everything}
    try:
        return operators[name](**arguments, **injected), []
    except (TypeError, ValueError) as error:
        return None, [OperatorProblem(key, str(error), section)]
