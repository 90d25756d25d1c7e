"""What keeps a decision from being explained."""

from __future__ import annotations


class ExplanationError(ValueError):
    """A method that is not defined for a model, a class that there is not, or scores that are not finite."""
