"""Network architectures: backbones, one file per family, and the layers that several families share."""

from __future__ import annotations

from ppcls_ext.arch import backbone

__all__ = ["backbone"]
