"""A stand-in for a PaddleClas source checkout: the same packages, import order and name lookups, and nothing else."""

from __future__ import annotations

from pathlib import Path

FILES = {
    "ppcls/__init__.py": "from .arch import *\n",
    "ppcls/utils/__init__.py": "from . import logger\n",
    # As there: no logger until someone asks for it, and one that both trees share.
    "ppcls/utils/logger.py": """
import logging
import sys

_logger = None


def init_logger():
    global _logger
    first = _logger is None
    _logger = logging.getLogger("ppcls")
    _logger.setLevel(logging.INFO)
    if first:
        handler = logging.StreamHandler(sys.stdout)
        handler.set_name("stream_handler")
        _logger.addHandler(handler)


def info(text):
    _logger.info(text)


def warning(text):
    _logger.warning(text)
""",
    # `build_model` looks a name up as an attribute; the other two evaluate it among the module's globals.
    "ppcls/arch/__init__.py": """
import copy
import sys

from paddle import nn

from . import backbone
from .backbone import *
from .backbone.base.theseus_layer import TheseusLayer
from ..utils import logger

__all__ = ["build_model", "RecModel", "DistillationModel"]


def build_model(config):
    arguments = copy.deepcopy(config["Arch"])
    return getattr(sys.modules[__name__], arguments.pop("name"))(**arguments)


class RecModel(TheseusLayer):
    def __init__(self, Backbone):
        super().__init__()
        arguments = dict(Backbone)
        self.backbone = eval(arguments.pop("name"))(**arguments)


class DistillationModel(nn.Layer):
    def __init__(self, models):
        super().__init__()
        for row in models:
            for role, arguments in row.items():
                arguments = dict(arguments)
                self.add_sublayer(role, eval(arguments.pop("name"))(**arguments))
""",
    "ppcls/arch/backbone/__init__.py": """
import inspect
import sys

from .toy import ToyNet, toy_small


def listing():
    module = sys.modules[__name__]
    members = inspect.getmembers(module, inspect.isclass) + inspect.getmembers(module, inspect.isfunction)
    return [value.__name__ for _, value in members if value is not listing]


__all__ = listing()
""",
    "ppcls/arch/backbone/toy.py": """
from paddle import nn

from .base.theseus_layer import TheseusLayer


class ToyNet(TheseusLayer):
    def __init__(self, class_num=10):
        super().__init__()
        self.fc = nn.Linear(3, class_num)


def toy_small(pretrained=False, **kwargs):
    return ToyNet(**kwargs)
""",
    "ppcls/arch/backbone/base/__init__.py": "",
    "ppcls/arch/backbone/base/theseus_layer.py": """
from paddle import nn

from ....utils import logger


class TheseusLayer(nn.Layer):
    def __init__(self, *args, **kwargs):
        super().__init__()
        self.init_net(*args, **kwargs)

    def init_net(self, stages_pattern=None, return_stages=None, **others):
        if return_stages:
            logger.warning("stages wanted")
""",
    # As there: the file has the wheel's name, and cannot be imported by it.
    "paddleclas.py": "from .ppcls.arch import backbone\n",
    "tools/train.py": """
import json
import sys

from ppcls.arch import TheseusLayer, build_model

model = build_model({"Arch": json.loads(sys.argv[sys.argv.index("-o") + 1])})
print(json.dumps({"name": __name__, "argv": sys.argv[1:], "is_theseus": isinstance(model, TheseusLayer)}))
""",
}


def write_checkout(root: Path) -> Path:
    """Write the stand-in into ``root`` and return it."""
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip("\n"), encoding="utf-8")
    return root
