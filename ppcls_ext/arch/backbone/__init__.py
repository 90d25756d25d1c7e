"""The backbones: one file per family; ``base.py`` is the contract that all of them keep.

A file that ends with a ``FAMILY`` is found here; nothing else has to name it.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

from ppcls_ext.arch.backbone.base import Backbone

__all__ = ["FAMILIES", "Backbone"]

_modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
#: Every family, in the order of the file names.
FAMILIES = tuple(module.FAMILY for module in _modules if hasattr(module, "FAMILY"))


def __getattr__(name: str):
    """Return the factory ``name``, which the package itself holds."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(sys.modules["ppcls_ext"], name)
