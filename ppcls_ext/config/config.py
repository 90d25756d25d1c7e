"""A valid configuration: its values, where each came from, and what is doubtful about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union

from pydantic import PrivateAttr

from ppcls_ext.config.schema import Sections
from ppcls_ext.config.schema.base import plain
from ppcls_ext.config.source import ConfigError, Problem, Source
from ppcls_ext.config.writer import summary_lines, write_yaml


class Config(Sections):
    """A valid configuration; sections and keys are attributes, as in ``cfg.Global.epochs``.

    Sections that the file does not have are None. Two configurations are equal if all their values are.
    """

    _mode: str = PrivateAttr("train")
    _source: Source = PrivateAttr(default_factory=lambda: Source({}, "default"))
    _warnings: list = PrivateAttr(default_factory=list)

    @property
    def mode(self) -> str:
        """What the configuration was loaded for: train, eval, infer or export."""
        return self._mode

    @property
    def warnings(self) -> list:
        """Sentences that the log should show: keys without effect, doubtful combinations."""
        return list(self._warnings)

    def section(self, key: str) -> Any:
        """Return the plain data of a section such as ``DataLoader.Train``; None if it is not there."""
        value: Any = self
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
        return plain(value)

    def origin(self, *path: Union[str, int]) -> str:
        """Return where a value came from: ``file:line``, the command line, or ``default``."""
        return self._source.places.get(tuple(path), "default")

    def error(self, key: str, message: str) -> ConfigError:
        """Return the error that names a dotted key and its place, for what only running shows."""
        return ConfigError([Problem(self._source.where(tuple(key.split("."))), key, message)])

    def save(self, path: Union[str, Path]) -> None:
        """Write the resolved configuration as YAML, each value followed by a comment saying where it came from."""
        write_yaml(path, self.to_dict(), self.origin)

    def summary(self) -> str:
        """Return the values that are not defaults, one line a section: what a log should show."""
        return "\n".join(summary_lines(self.to_dict(), self.origin))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # the way to say that it has none
