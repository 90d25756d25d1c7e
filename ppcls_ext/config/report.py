"""What the checks of a configuration find, each with the place of its key."""

from __future__ import annotations

from ppcls_ext.config.config import Config
from ppcls_ext.config.source import Problem, Source


class Report:
    """Collects problems and warnings, each with the place of its key."""

    def __init__(self, config: Config, source: Source, mode: str):
        self.config = config
        self.mode = mode
        self.source = source
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def wrong(self, key: str, message: str, kind: str = "wrong") -> None:
        """Report a mistake at a dotted key."""
        self.problems.append(Problem(self.source.where(path_of(key)), key, message, kind))

    def warn(self, key: str, message: str) -> None:
        """Note something doubtful at a dotted key."""
        self.warnings.append(f"{self.source.where(path_of(key))}: {key}: {message}")

    @property
    def evaluates(self) -> bool:
        """Whether the mode runs over ``DataLoader.Eval``."""
        return self.mode == "eval" or (self.mode == "train" and self.config.Global.eval_during_train)

    def point_at(self, key: str, problems: list) -> None:
        """Report the problems of a list of operators at ``key``."""
        for problem in problems:
            place = f"{key}.{problem.key}".rstrip(".")
            # A message about the value of an argument begins with its name: then that is the key to point at.
            argument = problem.message.partition(":")[0]
            if (*path_of(place), argument) in self.source.places:
                place = f"{place}.{argument}"
            self.wrong(place, problem.message)


def path_of(key: str) -> tuple:
    """Return a dotted key as a path: names, and indices of list items."""
    return tuple(int(step) if step.isdigit() else step for step in key.split("."))
