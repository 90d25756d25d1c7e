"""What an export to ONNX needs beside Paddle."""

from __future__ import annotations

import importlib.util

from ppcls_ext.engine.deploy.onnx.errors import OnnxExportError

PACKAGES = ("onnx", "onnxruntime")
#: From LayerNormalization on, to the newest that all of ONNX Runtime 1.17, OpenVINO 2024.4 and later ones read.
OPSETS = range(17, 21 + 1)
#: The first with GELU as one operator.
DEFAULT_OPSET = 20


def check_installed() -> None:
    """Check that the packages are there.

    Raises:
        OnnxExportError: with the command that installs them, if not.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise OnnxExportError(
            f'an export to ONNX needs {" and ".join(missing)}; install with: pip install "ppcls_ext[deploy]"'
        )


def check_opset(opset: int) -> int:
    """Return ``opset`` if it can be written.

    Raises:
        ValueError: otherwise.
    """
    if opset not in OPSETS:
        nearest = min(max(opset, OPSETS[0]), OPSETS[-1])
        raise ValueError(f"opset is {opset}; expected {OPSETS[0]} to {OPSETS[-1]} (nearest: {nearest})")
    return opset
