"""Importing Paddle without the lines that it prints for developers of Paddle."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings

#: Starts of lines that Paddle prints because of the number of threads that ppcls_ext itself has chosen.
_THREAD_LINES = ("WARNING: OMP_NUM_THREADS set to ", "PLEASE USE OMP_NUM_THREADS WISELY")


def import_paddle() -> None:
    """Import Paddle; drop its advice on ccache and on OMP_NUM_THREADS, and print everything else that it has to say.

    Raises:
        RuntimeError: if it is not installed.
    """
    if sys.modules.get("paddle") is not None:
        return
    said = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(said):
            warnings.filterwarnings("ignore", message="No ccache found")
            import paddle  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "paddle":
            raise
        raise RuntimeError('this needs Paddle, which is not installed: pip install "ppcls_ext[cpu]"') from None
    finally:
        rest = [line for line in said.getvalue().splitlines(keepends=True) if not line.startswith(_THREAD_LINES)]
        sys.stderr.write("".join(rest))
