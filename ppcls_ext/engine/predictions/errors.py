"""What is wrong with a file of predictions."""

from __future__ import annotations

from typing import Any


class PredictionsFileError(ValueError):
    """A file of predictions cannot be written, read, or used for what is asked; the message names it."""


def import_pyarrow() -> Any:
    """Return pyarrow.

    Raises:
        PredictionsFileError: if it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet  # a part that may be missing by itself
    except ImportError as error:
        # It may be there and too new: pyarrow 26 refuses the NumPy that PaddleClas pins.
        raise PredictionsFileError(
            f'Parquet needs pyarrow ({error}): pip install "ppcls_ext[parquet]" together with the extras you have; '
            ".npz and .csv need nothing"
        ) from None
    return pyarrow
