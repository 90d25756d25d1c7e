"""Files of weights and checkpoints, and the published weights that ``Arch`` asks for."""

from __future__ import annotations

from ppcls_ext.config.report import Report
from ppcls_ext.config.weight_plan import plan_of
from ppcls_ext.factory import backbone_factory
from ppcls_ext.utils.checkpoint_path import checkpoint_prefix, has_checkpoint
from ppcls_ext.utils.files import NotRegularFileError
from ppcls_ext.weights.errors import RecordError, WeightPlanError
from ppcls_ext.weights.files.reader import find_weights


def check_weights(report: Report) -> None:
    """Check that files of weights and checkpoints exist, and that the weights are for the model of ``Arch``."""
    before = len(report.problems)
    for key in ("Global.pretrained_model", "Arch.pretrained"):
        path = report.config.section(key)
        if not isinstance(path, str):
            continue
        if path.startswith(("http://", "https://")):
            report.wrong(key, f"got the address {path!r}; expected a file: download it first")
            continue
        try:
            find_weights(path)
        except NotRegularFileError as error:
            report.wrong(key, str(error))
        except OSError:
            report.wrong(key, f"got {path!r}; there is neither such a file nor {path + '.pdparams'!r} or .safetensors")
    if len(report.problems) == before and backbone_factory(report.config.Arch.name) is not None:
        _check_plan(report)
    checkpoint = report.config.Global.checkpoints
    if report.mode == "train" and checkpoint is not None and not has_checkpoint(checkpoint_prefix(checkpoint)):
        report.wrong(
            "Global.checkpoints",
            f"got {checkpoint!r}; there is no checkpoint of that prefix, such as output/latest for "
            "output/latest.pdparams, nor is it the folder of a run",
        )


def _check_plan(report: Report) -> None:
    """Make the plan that the run will make, without a download, and report what is wrong with it."""
    config = report.config
    path_key = "Global.pretrained_model" if config.Global.pretrained_model else "Arch.pretrained"
    resumes = report.mode == "train" and config.Global.checkpoints is not None
    try:
        plan, _ = plan_of(config, {} if resumes else None)
    except WeightPlanError as error:
        for argument, message in error.problems:
            old_name = argument == "pretrained_source" and "pretrained_layout" in config.Arch.kwargs()
            report.wrong(f"Arch.{'pretrained_layout' if old_name else argument}", message)
        return
    except RecordError as error:
        report.wrong(path_key, str(error))
        return
    if report.mode != "train" and plan.class_num not in (None, config.Arch.class_num):
        classes = f"weights for {plan.class_num} classes" if plan.class_num else "weights without a classifier"
        report.wrong(path_key, f"{plan.path} holds {classes}; Arch.class_num is {config.Arch.class_num}")
