"""What keeps a report from being made."""

from __future__ import annotations


class ReportError(ValueError):
    """Predictions that no report, or not this one, can be made of; the message says why."""
