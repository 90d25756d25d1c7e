"""What can go wrong on the way to ONNX."""

from __future__ import annotations

from ppcls_ext.engine.deploy.errors import ExportError


class OnnxExportError(ExportError):
    """A model cannot be written as ONNX; the message says why."""


class UnsupportedOperatorError(OnnxExportError):
    """The model uses an operator of Paddle, or a form of one, that has no translation; the message names the layer."""
