"""ppcls_ext: backbones for PaddleClas, and the engine that trains, evaluates and exports them.

Importing the package registers the backbones into every PaddleClas that can be imported; each of them is also an
attribute of the package, so that ``ppcls_ext.<Name>`` means the same in Python and in a YAML file.
"""

from ppcls_ext.utils import cpu_settings

cpu_settings.set_cpu_defaults()  # before anything imports Paddle, which reads its CPU settings once

from ppcls_ext import registry  # noqa: E402
from ppcls_ext.factory import create_backbone  # noqa: E402
from ppcls_ext.plugin import register  # noqa: E402
from ppcls_ext.registry import backbone_info, list_backbones  # noqa: E402
from ppcls_ext.utils.spelling import nearest  # noqa: E402
from ppcls_ext.version import __version__  # noqa: E402

__all__ = ["__version__", "backbone_info", "create_backbone", "list_backbones", "register"]


def __getattr__(name: str):
    """Return the factory of the backbone ``name``; PaddleClas evaluates ``ppcls_ext.<Name>`` and arrives here."""
    factories = registry.factories()
    if name in factories:
        return factories[name]
    hint = [] if name.startswith("_") else nearest(name, factories)
    advice = f"; did you mean {', '.join(hint)}?" if hint else ""
    raise AttributeError(f"module 'ppcls_ext' has no attribute {name!r}{advice}")


def __dir__() -> list:
    return sorted([*globals(), *registry.factories()])


register()
