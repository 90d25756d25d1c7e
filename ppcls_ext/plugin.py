"""The bridge to PaddleClas: the only file that knows where a PaddleClas lives.

There are two places. The wheel of PyPI is the package ``paddleclas`` and holds the backbones in
``paddleclas.ppcls.arch``. A source checkout, whose root is on ``sys.path``, holds them in ``ppcls.arch``, and the
training engine beside them. Their classes are different objects, and both may be alive in one process.
:func:`register` enters our backbones into all that can be imported. Our models derive from the ``TheseusLayer`` of one:
the checkout's if there is one, else the wheel's, else (no PaddleClas at all, as on Python 3.12 and later) from
``paddle.nn.Layer``.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Callable, Optional

from paddle import nn

from . import registry

#: The packages that may hold a PaddleClas, the one that trains first.
CHECKOUT, WHEEL = "ppcls", "paddleclas.ppcls"
PREFIX = "ppcls_ext"


@dataclass(frozen=True)
class Tree:
    """A PaddleClas that was imported: ``package`` is its import name, ``arch`` holds ``build_model``."""

    package: str
    arch: ModuleType
    backbone: ModuleType

    @property
    def location(self) -> Path:
        """Return the folder of the package."""
        return Path(self.arch.__file__).parents[1]

    @property
    def namespaces(self) -> list[ModuleType]:
        """Return the modules that hold the table: the star imports of PaddleClas copied it from one to the next."""
        top = sys.modules.get(self.package.split(".")[0]) if self.package == WHEEL else None
        return [module for module in (self.backbone, self.arch, top) if module is not None]


def _is_findable(package: str) -> bool:
    """Return whether a regular package of the name is there, without importing it.

    The checkout's own ``paddleclas.py`` hides the wheel when its root comes first on ``sys.path``; and a folder
    ``ppcls`` without ``__init__.py`` (the wheel has one) is no checkout.
    """
    top = package.split(".")[0]
    if top in sys.modules:
        return hasattr(sys.modules[top], "__path__")
    spec = importlib.util.find_spec(top)
    return spec is not None and spec.origin is not None and spec.submodule_search_locations is not None


def _load(package: str) -> Optional[Tree]:
    """Import a PaddleClas; None if there is none; a warning with the reason if it cannot be imported."""
    if not _is_findable(package):
        return None
    try:
        arch = importlib.import_module(f"{package}.arch")
        backbone = importlib.import_module(f"{package}.arch.backbone")
    except (ImportError, AttributeError) as error:  # AttributeError: old code under a new NumPy
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(f"PaddleClas ({package}) is there but cannot be imported: {reason}", RuntimeWarning, stacklevel=3)
        return None
    _prepare_logger(package)
    return Tree(package, arch, backbone)


def _prepare_logger(package: str) -> None:
    """Give PaddleClas its logger.

    A checkout has none until its engine runs, and every message before, such as TheseusLayer's, would be an
    AttributeError. Both trees share one ``logging`` logger and each adds a handler: one is enough.
    """
    module = importlib.import_module(f"{package}.utils.logger")
    if getattr(module, "_logger", False) is None:
        module.init_logger()
    shared = logging.getLogger("ppcls")
    streams = [handler for handler in shared.handlers if type(handler) is logging.StreamHandler]
    for handler in streams[1:]:
        shared.removeHandler(handler)


def trees() -> list[Tree]:
    """Import and return every PaddleClas that can be imported, a checkout first."""
    return [tree for tree in map(_load, (CHECKOUT, WHEEL)) if tree]


def _theseus_layer() -> type:
    for tree in trees():
        return importlib.import_module(f"{tree.package}.arch.backbone.base.theseus_layer").TheseusLayer
    return nn.Layer


#: The base class of our models.
TheseusLayer = _theseus_layer()
#: Whether it is PaddleClas's.
HAS_PADDLECLAS = TheseusLayer is not nn.Layer


def _is_ours(candidate: object) -> bool:
    return any(candidate is spec.factory for spec in registry.specs())


def register(override: bool = False) -> list[Tree]:
    """Enter our backbones into every PaddleClas that can be imported; doing it again changes nothing.

    ``ppcls_ext.<Name>`` is entered always, ``<Name>`` where PaddleClas has no backbone of that name.

    Args:
        override: replace PaddleClas's backbones by ours where the names are equal.

    Returns:
        The trees that now hold them.
    """
    found = trees()
    for tree in found:
        setattr(tree.arch, PREFIX, sys.modules[PREFIX])
        for spec in registry.specs():
            setattr(tree.arch, f"{PREFIX}.{spec.name}", spec.factory)
            _set_bare_name(tree, spec, override)
    return found


def _set_bare_name(tree: Tree, spec: registry.BackboneSpec, override: bool) -> None:
    taken = any(not _is_ours(getattr(module, spec.name, spec.factory)) for module in (tree.arch, tree.backbone))
    if taken and not override:
        return
    for module in tree.namespaces:
        setattr(module, spec.name, spec.factory)
    exported = getattr(tree.backbone, "__all__", None)  # not there yet while the package is being imported
    if exported is not None and spec.name not in exported:
        exported.append(spec.name)


def paddleclas_factory(name: str) -> Optional[Callable]:
    """Return PaddleClas's own backbone factory of that name, or None."""
    for tree in trees():
        factory = getattr(tree.backbone, name, None)
        if name in _table(tree) and not _is_ours(factory):
            return factory
    return None


def paddleclas_names() -> list[str]:
    """Return the names of PaddleClas's own backbones, sorted; empty without PaddleClas."""
    names = {name for tree in trees() for name in _table(tree) if not _is_ours(getattr(tree.backbone, name, None))}
    return sorted(names)


def _table(tree: Tree) -> list[str]:
    return getattr(tree.backbone, "__all__", None) or [n for n, v in vars(tree.backbone).items() if callable(v)]


def create_backbone(name: str, **kwargs) -> nn.Layer:
    """Build a backbone.

    Args:
        name: ``ppcls_ext.<Name>`` or ``<Name>`` of ours, or any name of PaddleClas's table, which wins where both
            have it.
        **kwargs: go to the factory, for example ``class_num``.

    Raises:
        KeyError: with the nearest names, if there is no such backbone.
    """
    factory = None if name.startswith(f"{PREFIX}.") else paddleclas_factory(name)
    if factory is None:
        factory = _our_factory(name)
    return factory(**kwargs)


def _our_factory(name: str) -> Callable:
    ours = registry.list_backbones()
    bare = name[len(PREFIX) + 1 :] if name.startswith(f"{PREFIX}.") else name
    if bare in ours:
        return registry.get_spec(bare).factory
    hint = registry.nearest(bare, [*ours, *paddleclas_names()])
    message = f"unknown backbone {name!r}"
    if hint:
        message += f"; did you mean {', '.join(hint)}?"
    if not HAS_PADDLECLAS:
        message += " PaddleClas is not installed, so its own backbones are not available."
    raise KeyError(message)
