"""Network architectures: backbones, one file per family, and the layers that several families share.

Importing this package enters every backbone of ours into :mod:`ppcls_ext.registry`.
"""

from __future__ import annotations

from ppcls_ext.arch import backbone

__all__ = ["backbone"]
