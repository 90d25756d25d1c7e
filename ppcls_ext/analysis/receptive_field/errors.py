"""The error of this folder."""

from __future__ import annotations


class ReceptiveFieldError(ValueError):
    """A receptive field that cannot be computed; the message names the model, the stage or the image."""
