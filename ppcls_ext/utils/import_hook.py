"""Calling a function as soon as certain modules have been imported, by whomever."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Callable, Iterable, Iterator, Optional

_callbacks: dict[str, Callable[[], object]] = {}
_package = ""
_depth = 0
_waiting: list[Callable[[], object]] = []


def when_imported(names: Iterable[str], callback: Callable[[], object], package: str) -> None:
    """Call ``callback`` whenever the import of one of the modules ends without an error.

    It does not hear of modules whose import began earlier.

    Args:
        names: Of the modules.
        callback: What to call.
        package: A package whose modules ``callback`` may import. While one of them is itself being imported, the call
            waits: what is half imported must not be imported from.
    """
    global _package
    _package = package
    _callbacks.update(dict.fromkeys(names, callback))
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


@contextmanager
def deferred() -> Iterator[None]:
    """Make the calls that fall due in this block at its end, each function once; after an error, at the next one's."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
    while _waiting and not _depth:
        _waiting.pop(0)()


class _Finder(MetaPathFinder):
    """Finds nothing itself: it lets the other finders find a module and adds what is to be done to its loader."""

    def find_spec(self, fullname: str, path=None, target=None) -> Optional[ModuleSpec]:
        """Return the spec of a module that is listened for or may be waited for, None for others."""
        if fullname not in _callbacks and not fullname.startswith(f"{_package}."):
            return None
        for finder in sys.meta_path:
            if isinstance(finder, _Finder):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _ListeningLoader(spec.loader)
                return spec
        return None


class _ListeningLoader(Loader):
    """Stands in for a module's loader until its code runs."""

    def __init__(self, loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str):
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> Optional[ModuleType]:
        """Return what the module's own loader creates."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code, then call what waits for it."""
        name = module.__name__
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        if name in _callbacks:
            self._loader.exec_module(module)
            with deferred():
                if _callbacks[name] not in _waiting:
                    _waiting.append(_callbacks[name])
        else:
            with deferred():
                self._loader.exec_module(module)
