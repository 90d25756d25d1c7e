"""What can be wrong with a file of weights."""

from __future__ import annotations


class ConversionError(ValueError):
    """The file is sound, but not of the layout or the model that it was taken for."""


def listed(problems: list) -> str:
    """Return one indented line for each problem, of forty at most."""
    shown = problems[:40] + ([f"… and {len(problems) - 40} more"] if len(problems) > 40 else [])
    return "".join(f"\n  {problem}" for problem in shown)
