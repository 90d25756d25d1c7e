"""The backbone and its arguments."""

from __future__ import annotations

import difflib
import inspect
from typing import Callable, Optional

from ppcls_ext import plugin, registry
from ppcls_ext.arch.backbone.base import THESEUS_ARGUMENTS
from ppcls_ext.config.report import Report
from ppcls_ext.factory import backbone_factory, is_ours
from ppcls_ext.utils.spelling import nearest

#: Keys that every Arch section may have, and other libraries' names for them.
OWN_ARGUMENTS = ("class_num", "pretrained", "use_sync_bn", "use_ssld", "infer_add_softmax", "infer_output_key")
RENAMED_ARGUMENTS = {"num_classes": ["class_num"], "classes_num": ["class_num"]}
#: PaddleClas's arguments of some models, and the keys that do the same for all of ours.
INSTEAD = {
    "lr_mult_list": "use Optimizer.layerwise_decay for rates that fall towards the input, and Arch.freeze to freeze "
    "layers"
}
#: Models of PaddleClas's that are put together from others.
COMPOSED = ("AttentionModel", "DistillationModel", "RecModel")


def check_backbone(report: Report) -> None:
    """Check the backbone's name and its arguments."""
    arch = report.config.Arch
    if arch.name in COMPOSED:
        report.wrong("Arch.name", f"{arch.name} of PaddleClas is not supported; name a backbone", "unsupported")
        return
    factory = backbone_factory(arch.name)
    if factory is None:
        known = [*registry.factories(), *plugin.paddleclas_names()]
        hint = nearest(arch.name.rpartition(".")[2], known)
        advice = f"; did you mean {', '.join(hint)}?" if hint else ""
        missing = "" if plugin.HAS_PADDLECLAS else "; PaddleClas, which has others, is not installed"
        report.wrong("Arch.name", f"unknown backbone {arch.name!r}{advice}{missing}")
        return
    allowed = factory_arguments(factory)
    for name in arch.kwargs():
        if allowed is None:
            # PaddleClas's backbones swallow what they do not know: at least a misspelt key of ours is found.
            meant = RENAMED_ARGUMENTS.get(name) or difflib.get_close_matches(name, OWN_ARGUMENTS, n=1, cutoff=0.8)
            if meant and name not in OWN_ARGUMENTS:
                report.wrong(f"Arch.{name}", f"unknown key; did you mean Arch.{meant[0]}?")
        elif name not in allowed:
            # pretrained is the engine's business (a saved config holds it); class_num has a default
            if name == "pretrained" or (name == "class_num" and name not in arch.model_fields_set):
                continue
            hint = nearest(name, [*allowed, "use_sync_bn", "infer_add_softmax"], count=1)
            advice = INSTEAD.get(name) or (f"did you mean {hint[0]}?" if hint else f"it takes {', '.join(allowed)}")
            report.wrong(f"Arch.{name}", f"{arch.name} has no such argument; {advice}")
    if report.mode == "train" and report.config.Global.recompute and not is_ours(arch.name):
        report.wrong("Global.recompute", f"PaddleClas's {arch.name} has no recompute; ppcls_ext's backbones have")


def factory_arguments(factory: Callable) -> Optional[list[str]]:
    """Return the names of the arguments of a backbone; None if it takes any and does not say which."""
    parameters = inspect.signature(factory).parameters.values()
    named = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    declared = getattr(factory, "arguments", None)
    if declared is not None:
        return list(dict.fromkeys([*declared, *named, *THESEUS_ARGUMENTS]))
    return named if len(named) == len(parameters) else None
