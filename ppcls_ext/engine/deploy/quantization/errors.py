"""The errors of quantisation, and what it needs."""

from __future__ import annotations

import importlib.util

PACKAGES = ("onnx", "onnxruntime")
#: Its quantiser took other arguments before; its engine is older.
LEAST_ONNXRUNTIME = (1, 19)


class QuantizationError(RuntimeError):
    """No int8 model was written, and what was in its place is untouched; the message says why."""


def check_installed() -> None:
    """Check that the packages are there.

    Raises:
        QuantizationError: with the command that installs them, if not; or ONNX Runtime is too old.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise QuantizationError(
            f'quantising needs {" and ".join(missing)}; install with: pip install "ppcls_ext[deploy]"'
        )
    import onnxruntime

    version = onnxruntime.__version__  # by any of its distributions: onnxruntime, onnxruntime-gpu, …
    if tuple(int(part) for part in version.split(".")[:2]) < LEAST_ONNXRUNTIME:
        raise QuantizationError(
            f"quantising needs ONNX Runtime {'.'.join(map(str, LEAST_ONNXRUNTIME))} or newer, this is {version}; "
            'install with: pip install -U "ppcls_ext[deploy]"'
        )
