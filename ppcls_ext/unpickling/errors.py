"""What can be wrong with a file that is read as data."""

from __future__ import annotations


class UnsafeFileError(ValueError):
    """The file asks for something that is not data, or for far more memory than its size accounts for."""


class DamagedFileError(ValueError):
    """The file ends early, contradicts itself, or is in none of the formats that are read."""
