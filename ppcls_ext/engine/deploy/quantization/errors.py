"""The errors of quantisation, and what it needs."""

from __future__ import annotations

import importlib.util

PACKAGES = ("onnx", "onnxruntime")


class QuantizationError(RuntimeError):
    """No int8 model was written, and what was in its place is untouched; the message says why."""


def check_installed() -> None:
    """Check that the packages are there.

    Raises:
        QuantizationError: with the command that installs them, if not.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise QuantizationError(
            f'quantising needs {" and ".join(missing)}; install with: pip install "ppcls_ext[deploy]"'
        )
