"""ppcls_ext: backbones for PaddleClas, and the engine that trains, evaluates and exports them.

Importing the package registers the backbones into every PaddleClas that is imported, now or later; each of them is also
an attribute of the package, so that ``ppcls_ext.<Name>`` means the same in Python and in a YAML file. Paddle is
imported when the first model, or PaddleClas, needs it: what is known of the backbones can be asked without.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING

from ppcls_ext.utils import cpu_settings, heap

cpu_settings.set_cpu_defaults()  # before anything imports Paddle, which reads its CPU settings once
heap.keep_freed_memory()

from ppcls_ext import plugin, registry  # noqa: E402
from ppcls_ext.plugin import register  # noqa: E402
from ppcls_ext.registry import backbone_info, list_backbones  # noqa: E402
from ppcls_ext.utils import import_hook  # noqa: E402
from ppcls_ext.utils.spelling import nearest  # noqa: E402
from ppcls_ext.version import __version__  # noqa: E402

if TYPE_CHECKING:
    from ppcls_ext.factory import create_backbone
    from ppcls_ext.workflow.finetuning import finetune
    from ppcls_ext.workflow.preparing import prepare_dataset

__all__ = [
    "__version__",
    "backbone_info",
    "create_backbone",
    "finetune",
    "list_backbones",
    "prepare_dataset",
    "register",
]

_FACTORY = "ppcls_ext.factory"
#: Public functions whose modules need Paddle, which is imported when one is asked for.
_LAZY = {
    "create_backbone": _FACTORY,
    "finetune": "ppcls_ext.workflow.finetuning",
    "prepare_dataset": "ppcls_ext.workflow.preparing",
}


def __getattr__(name: str):
    """Return the factory of the backbone ``name``; PaddleClas evaluates ``ppcls_ext.<Name>`` and arrives here."""
    if name.startswith("__") or importlib.util.find_spec(f"{__name__}.{name}"):
        # Python's own questions: `from ppcls_ext import cli` first asks for an attribute, then imports the module.
        raise AttributeError(f"module 'ppcls_ext' has no attribute {name!r}")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    factories = registry.factories()
    if name in factories:
        return factories[name]
    hint = [] if name.startswith("_") else nearest(name, factories)
    advice = f"; did you mean {', '.join(hint)}?" if hint else ""
    raise AttributeError(f"module 'ppcls_ext' has no attribute {name!r}{advice}")


def __dir__() -> list:
    return sorted({*globals(), *__all__, *registry.factories()})


registry.on_first_use(lambda: importlib.import_module(_FACTORY))
import_hook.when_imported(plugin.ARCH_MODULES, register, package=__name__)
if plugin.is_imported():
    register()
