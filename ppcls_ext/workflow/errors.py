"""The errors of the workflow room; each message says what to do."""

from __future__ import annotations


class FinetuneError(ValueError):
    """A fine-tuning run cannot start as it is asked for; nothing was trained."""


class LateStepError(RuntimeError):
    """A step after training failed; the trained weights are there, and the message says how to go on."""
