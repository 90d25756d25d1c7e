"""The errors of an export."""

from __future__ import annotations


class ExportError(RuntimeError):
    """The export was not written; files of an earlier export are untouched."""
