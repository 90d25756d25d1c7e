"""The errors of the data room. Each message names the file, line or operator, what was expected and what arrived."""

from __future__ import annotations


class LabelFileError(ValueError):
    """A label list (or class folder) cannot be read as one."""


class DataFileError(ValueError):
    """A file that holds a whole dataset is damaged or not the published one; the message says how to get it."""


class PreparationError(ValueError):
    """A user's images cannot become a data set as they are; the message names the files and what to do."""


class DecodeError(ValueError):
    """The bytes cannot be decoded as an image; the message is the reason alone, without a file name."""


class BadImageError(ValueError):
    """An image cannot be read where no image may be left out (evaluation); the message names the file."""


class TransformError(RuntimeError):
    """An operator failed on a decoded image: a mistake in the pipeline, not in the data.

    The message holds the sample, its file, the operator and the traceback.
    """


class WorkerDiedError(RuntimeError):
    """A worker process ended unexpectedly, for instance because the system ran out of memory."""
