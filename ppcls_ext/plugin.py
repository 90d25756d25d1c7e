"""The bridge to PaddleClas: the only file that knows where a PaddleClas lives.

There are two places. The wheel of PyPI is the package ``paddleclas`` and holds the backbones in
``paddleclas.ppcls.arch``. A source checkout, whose root is on ``sys.path``, holds them in ``ppcls.arch``, and the
training engine beside them. Their classes are different objects, and both may be alive in one process.
:func:`register` enters our backbones into all that can be imported. Our models derive from the ``TheseusLayer`` of one:
the checkout's if there is one, else the wheel's, else (no PaddleClas at all, as on Python 3.12 and later) from
``paddle.nn.Layer``. Which ones are there is decided when this module is imported; they are themselves imported, and
Paddle with them, when something first asks for ``TheseusLayer`` or for PaddleClas's backbones.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable, Optional

from ppcls_ext import registry
from ppcls_ext.registry import NAMESPACE
from ppcls_ext.utils import import_hook

if TYPE_CHECKING:
    from paddle.nn import Layer as TheseusLayer  # noqa: F401 - see __getattr__

#: The packages that may hold a PaddleClas, the one that trains first.
CHECKOUT, WHEEL = "ppcls", "paddleclas.ppcls"
PACKAGES = (CHECKOUT, WHEEL)
#: The modules that hold their tables of backbones.
ARCH_MODULES = tuple(f"{package}.arch" for package in PACKAGES)
#: Environment variable: the root of a checkout to use, put first on ``sys.path`` when ppcls_ext is imported.
CHECKOUT_VARIABLE = "PPCLS_EXT_CHECKOUT"

# Not the module `warnings`: importing a checkout switches that off for the whole process.
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tree:
    """A PaddleClas that was imported: ``package`` is its import name; ``arch`` holds ``build_model``."""

    package: str
    arch: ModuleType
    backbone: ModuleType

    @property
    def location(self) -> Path:
        """Return the folder of the package."""
        return Path(str(self.arch.__file__)).parents[1]

    @property
    def namespaces(self) -> list[ModuleType]:
        """Return the modules that hold the table: star imports copied it from the first to the others."""
        tops = [sys.modules["paddleclas"]] if self.package == WHEEL else []
        return [self.backbone, self.arch, *tops]

    @property
    def table(self) -> list[str]:
        """Return the names in the table, ours included."""
        exported = getattr(self.backbone, "__all__", None)  # set last, so missing while the package is being imported
        if exported is None:
            return [name for name, value in vars(self.backbone).items() if callable(value)]
        return list(exported)


_loaded: dict[str, Tree] = {}
_searched = False


def checkout_root(path: str | os.PathLike) -> Path:
    """Return the root of the PaddleClas checkout that ``path`` is, or is in.

    Raises:
        ValueError: if neither ``path`` nor a folder above it holds ``ppcls/arch/__init__.py``.
    """
    path = Path(path).resolve()
    for folder in (path, *path.parents):
        if (folder / "ppcls" / "arch" / "__init__.py").is_file():
            return folder
    raise ValueError(f"{path} is in no PaddleClas checkout: no folder above it holds ppcls/arch/__init__.py")


def _put_first_on_path(root: Path) -> None:
    if str(root) not in sys.path[:1]:
        sys.path.insert(0, str(root))
    importlib.invalidate_caches()


def _is_findable(package: str) -> bool:
    """Return whether the package's parent is there, without importing it.

    A checkout whose root comes first on ``sys.path`` hides the wheel by its own file ``paddleclas.py``. And a folder
    ``ppcls`` without ``__init__.py``, such as the one in the wheel, is no checkout.
    """
    top = package.split(".")[0]
    if top in sys.modules:
        return hasattr(sys.modules[top], "__path__")
    try:
        spec = importlib.util.find_spec(top)
    except ImportError:  # from a finder that forbids the package
        return False
    return spec is not None and spec.origin is not None and spec.submodule_search_locations is not None


def _load(package: str) -> Tree:
    """Import a PaddleClas, or take the one that is being imported."""
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # the wheel imports it, and it tells which build it is
    arch = importlib.import_module(f"{package}.arch")
    backbone = importlib.import_module(f"{package}.arch.backbone")
    _prepare_logger(package)
    return Tree(package, arch, backbone)


def _prepare_logger(package: str) -> None:
    """Give PaddleClas its logger.

    A checkout has none until its engine runs, and any message before, such as TheseusLayer's, is an AttributeError.
    Both trees share one ``logging`` logger and each adds a handler to it: with two, every line would appear twice.
    """
    module = importlib.import_module(f"{package}.utils.logger")
    if getattr(module, "_logger", False) is None:
        module.init_logger()
    shared = logging.getLogger("ppcls")
    streams = [handler for handler in shared.handlers if handler.get_name() == "stream_handler"]
    for handler in streams[1:]:
        shared.removeHandler(handler)


def find_trees() -> list[Tree]:
    """Import every PaddleClas that can be imported, and return them, a checkout first.

    One that is there but cannot be imported is passed over, and the log says why.
    """
    global _searched
    _searched = True
    with import_hook.deferred():  # our backbones are registered when all are imported
        for package in PACKAGES:
            if package in _loaded or not _is_findable(package):
                continue
            try:
                _loaded[package] = _load(package)
            except (ImportError, AttributeError) as error:  # AttributeError: its code under a NumPy that is too new
                reason = f"{type(error).__name__}: {error}"
                _log.warning("there is a PaddleClas (%s) but its import fails: %s", package, reason)
    return trees()


def trees() -> list[Tree]:
    """Return the PaddleClas packages found so far, a checkout first; the first call looks for them."""
    if not _searched:
        return find_trees()
    return [_loaded[package] for package in PACKAGES if package in _loaded]


def is_imported() -> bool:
    """Return whether something has imported a PaddleClas, or is about to."""
    return any(name in sys.modules for name in ARCH_MODULES)


if os.environ.get(CHECKOUT_VARIABLE):
    _put_first_on_path(checkout_root(os.environ[CHECKOUT_VARIABLE]))
#: Those that may give our models their base class. One that comes to ``sys.path`` later is too late for that, so that
#: the class does not depend on when it is first needed.
_CANDIDATES = [package for package in PACKAGES if _is_findable(package)]


def __getattr__(name: str):
    """Choose the base class of our models when it is first needed, since that takes Paddle.

    ``TheseusLayer`` is the base class, ``HAS_PADDLECLAS`` whether it is PaddleClas's.
    """
    if name == "TheseusLayer":
        globals()[name] = _choose_base()
        return globals()[name]
    if name == "HAS_PADDLECLAS":
        return not _base().__module__.startswith("paddle.")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _base() -> type:
    return globals().get("TheseusLayer") or __getattr__("TheseusLayer")


def _choose_base() -> type:
    found = [tree.package for tree in find_trees() if tree.package in _CANDIDATES]
    if found:
        return importlib.import_module(f"{found[0]}.arch.backbone.base.theseus_layer").TheseusLayer
    return importlib.import_module("paddle.nn").Layer


def _our_factories() -> set[int]:
    return {id(factory) for factory in registry.factories().values()}


def register(override: bool = False) -> list[Tree]:
    """Enter our backbones into every PaddleClas that can be imported; doing it again changes nothing.

    ``ppcls_ext.<Name>`` is entered always, ``<Name>`` where PaddleClas has no backbone of that name. Call it again
    when a PaddleClas has come to ``sys.path`` after ``import ppcls_ext``.

    Args:
        override: Replace PaddleClas's backbones by ours where the names are equal.

    Returns:
        The PaddleClas packages that hold our backbones now, a checkout first.
    """
    ours = _our_factories()
    for tree in find_trees():
        # `getattr(arch, "ppcls_ext.Name")` is what build_model does, `eval("ppcls_ext.Name")` what the others do.
        setattr(tree.arch, NAMESPACE, sys.modules[NAMESPACE])
        for name, factory in registry.factories().items():
            setattr(tree.arch, f"{NAMESPACE}.{name}", factory)
            present = [getattr(module, name, factory) for module in (tree.arch, tree.backbone)]
            if override or all(id(there) in ours for there in present):
                _set_bare_name(tree, name, factory)
    return trees()


def _set_bare_name(tree: Tree, name: str, factory: Callable) -> None:
    for module in tree.namespaces:
        setattr(module, name, factory)
    exported = getattr(tree.backbone, "__all__", None)
    if exported is not None and name not in exported:
        exported.append(name)


def load_checkout(path: str | os.PathLike) -> Tree:
    """Put a PaddleClas checkout first on ``sys.path``, import it and register our backbones there.

    Our models keep the base class that they have. If that is not the checkout's ``TheseusLayer``, its ``Slim`` section
    passes them over, and the log says so: name the checkout in ``PPCLS_EXT_CHECKOUT`` to avoid that.

    Args:
        path: The root of the checkout, or a file in it.

    Raises:
        ValueError: if ``path`` is in no checkout.
        ImportError: if the checkout cannot be imported, or another one has been imported already.
    """
    root = checkout_root(path)
    _put_first_on_path(root)
    tree = _loaded[CHECKOUT] if CHECKOUT in _loaded else _load(CHECKOUT)
    if tree.location.resolve() != root / "ppcls":
        raise ImportError(f"cannot use the PaddleClas in {root}: another is imported already, {tree.location}")
    _loaded[CHECKOUT] = tree
    if not _base().__module__.startswith(f"{CHECKOUT}."):
        _log.warning(
            "our models do not derive from this checkout's TheseusLayer; set %s if you use Slim", CHECKOUT_VARIABLE
        )
    register()
    return tree


def paddleclas_factory(name: str) -> Optional[Callable]:
    """Return PaddleClas's own backbone factory of that name; None if there is none or ours has replaced it."""
    ours = _our_factories()
    for tree in trees():
        factory = getattr(tree.backbone, name, None) if name in tree.table else None
        if factory is not None and id(factory) not in ours:
            return factory
    return None


def paddleclas_address(factory: Callable, arguments: dict) -> Optional[str]:
    """Return the address of the weights that PaddleClas's ``factory`` means by ``pretrained=True``; None if of none.

    Only PaddleClas's own code knows: it runs up to where it would download the file, and no further, since its loader
    drops without a word what does not fit.

    Args:
        factory: One of PaddleClas's backbones.
        arguments: Of the factory; some, such as ``use_ssld``, choose between files.
    """

    def stop(url: str, *_others, **_more) -> str:
        raise _Located(url)

    loader: Any = importlib.import_module(f"{factory.__module__.partition('.arch.')[0]}.utils.save_load")
    original = loader.get_weights_path_from_url
    loader.get_weights_path_from_url = stop
    try:
        factory(**{**arguments, "pretrained": True})
    except _Located as located:
        return located.url
    except KeyError:  # its table of addresses lacks the name
        return None
    finally:
        loader.get_weights_path_from_url = original
    return None


class _Located(Exception):
    """Ends a call of PaddleClas once it is known what it would download."""

    def __init__(self, url: str):
        super().__init__(url)
        self.url = url


def paddleclas_names() -> list[str]:
    """Return the names of PaddleClas's own backbones, sorted; empty without PaddleClas."""
    return sorted({name for tree in trees() for name in tree.table if paddleclas_factory(name)})
