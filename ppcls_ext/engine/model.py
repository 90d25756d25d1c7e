"""From the ``Arch`` section to a model with its weights."""

from __future__ import annotations

import logging
import re
import traceback
from typing import Any, Optional

import paddle

from ppcls_ext.arch.freezing import convert_sync_batchnorm, freeze, freeze_up_to
from ppcls_ext.config import Config, ConfigError
from ppcls_ext.config.weight_plan import plan_of
from ppcls_ext.engine.train.checkpoint import Checkpoint
from ppcls_ext.factory import build_backbone, existing_factory, is_ours
from ppcls_ext.weights.errors import MissingWeightsError, WeightMismatchError
from ppcls_ext.weights.resolver import WeightPlan

logger = logging.getLogger("ppcls_ext")


def build_model(cfg: Config, checkpoint: Optional[Checkpoint] = None) -> paddle.nn.Layer:
    """Build the backbone that ``cfg.Arch`` names and load the weights that the config asks for, strictly.

    ``Global.pretrained_model`` wins over ``Arch.pretrained``, which is then neither loaded nor downloaded.
    Implementations of one network that differ in what they compute, not in their tensors, follow the weights unless the
    config names one.

    Args:
        cfg: the validated config.
        checkpoint: what the run resumes; the model keeps its initial weights, and the checkpoint's come later.

    Raises:
        ConfigError: if the backbone does not take the arguments in ``Arch``.
        WeightPlanError: if there are no such weights, or they belong to a model with other arguments.
        WeightMismatchError, NonFiniteWeightsError: see :func:`ppcls_ext.weights.loading.load_pretrained`.
    """
    plan, arguments = plan_of(cfg, None if checkpoint is None else checkpoint.info.get("arguments") or {})
    return _build(cfg, plan, arguments)


def _build(cfg: Config, plan: WeightPlan, arguments: dict) -> paddle.nn.Layer:
    arguments = dict(arguments)
    # Ours freeze themselves; PaddleClas's own way renames the weights.
    frozen = None if is_ours(cfg.Arch.name) else arguments.pop("freeze_befor", None)
    try:
        model = build_backbone(existing_factory(cfg.Arch.name), plan, arguments)
    except Exception as error:
        if not _is_of_constructor(error):
            raise
        raise _argument_error(cfg, arguments, error) from error
    if frozen:
        freeze_up_to(model, frozen)
    if cfg.Arch.freeze and cfg.mode == "train":
        _freeze(cfg, model)
    if cfg.Arch.use_sync_bn:
        if paddle.get_device() == "cpu":
            logger.warning("Arch.use_sync_bn needs a GPU; on CPU each process keeps its own batch statistics")
        else:
            model = convert_sync_batchnorm(model)
    return model


def _freeze(cfg: Config, model: paddle.nn.Layer) -> None:
    """Freeze what ``Arch.freeze`` names."""
    try:
        frozen = freeze(model, cfg.Arch.freeze or [])
    except ValueError as error:
        raise cfg.error("Arch.freeze", str(error).removeprefix("freeze: ")) from error
    left = [name for name, parameter in model.named_parameters() if not parameter.stop_gradient]
    logger.info(
        "Arch.freeze: %d of %d parameter tensors are frozen; trained: %s%s",
        len(frozen),
        len(frozen) + len(left),
        ", ".join(left[:4]),
        ", ..." if len(left) > 4 else "",
    )


def _is_of_constructor(error: Exception) -> bool:
    """Return whether the backbone's constructor raised ``error``, and not what finds, reads and loads weights."""
    rooms = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return not isinstance(error, OSError) and not any(name.startswith("ppcls_ext.weights.") for name in rooms)


def _argument_error(cfg: Config, arguments: dict, error: Exception) -> ConfigError:
    """Return the error that names the key of ``Arch`` whose value the constructor does not take."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # Paddle puts what was wrong last, behind its own call stack; our messages begin with the argument's name.
    message = lines[0] if type(error) in (TypeError, ValueError) else f"{type(error).__name__}: {lines[-1]}"
    given = [name for name in arguments if name != "class_num"]
    named = [name for name in re.findall(r"\w+", message) if name in arguments] or (given if len(given) == 1 else [])
    if named:
        return cfg.error(f"Arch.{named[0]}", message.removeprefix(f"{named[0]}: "))
    return cfg.error("Arch", f"{cfg.Arch.name} cannot be built with {', '.join(given) or 'class_num'}: {message}")


def load_trained(cfg: Config, purpose: str, random_weights: bool = False) -> paddle.nn.Layer:
    """Build the backbone of ``cfg`` with its weights, in evaluation mode.

    Training starts a classifier with a different number of classes afresh; here that would be a classifier with random
    weights, so it is refused.

    Args:
        cfg: the validated config.
        purpose: what the weights are for, as a participle for messages: ``exported``, ``used``.
        random_weights: accept a config that names no weights; the model then has its initial ones.

    Raises:
        ConfigError: if the backbone does not take the arguments in ``Arch``.
        MissingWeightsError: if the config names no weights, unless ``random_weights``.
        WeightMismatchError: if the weights do not fit, the classifier included.
        NonFiniteWeightsError: if they hold NaN or infinity.
    """
    plan, arguments = plan_of(cfg)
    if not plan.has_weights:
        if not random_weights:
            raise MissingWeightsError(_missing_weights(cfg, purpose))
        logger.warning("no weights are given: random weights are %s", purpose)
    model = _build(cfg, plan, arguments)
    fresh = getattr(model, "fresh_tensors", {})
    if fresh:
        raise WeightMismatchError(
            f"{_origin(cfg, plan)} has a different number of classes than Arch.class_num, {cfg.Arch.class_num}, or no "
            "classifier:\n  " + "\n  ".join(f"{name}: {why}" for name, why in fresh.items())
        )
    model.eval()
    return model


def _origin(cfg: Config, plan: WeightPlan) -> str:
    is_own = plan.published is None and plan.address is None
    return str(plan.path) if is_own else f"the published file of {cfg.Arch.name}"


def _missing_weights(cfg: Config, purpose: str) -> str:
    if cfg.Global.checkpoints:
        return (
            f"Global.checkpoints is what training resumes from; give Global.pretrained_model={cfg.Global.checkpoints} "
            f"for the weights to be {purpose}"
        )
    return (
        f"no weights are given, so random ones would be {purpose}: set Global.pretrained_model, such as "
        "<run>/best_model, or Arch.pretrained; --random-weights goes on without"
    )


def logits_of(output: Any, key: str = "logits") -> paddle.Tensor:
    """Return the class scores ``[N, class_num]`` of a model's output.

    PaddleClas's models return a tensor, a list whose first item counts, or a mapping with ``logits``.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(output, dict):
        if key not in output:
            raise TypeError(f"the model's output has no {key!r}; it has {', '.join(map(str, output))}")
        output = output[key]
    if isinstance(output, (list, tuple)):
        output = output[0]
    if not hasattr(output, "shape"):
        raise TypeError(f"the model's output is a {type(output).__name__}; expected class scores [N, class_num]")
    return output


def image_labels(labels: paddle.Tensor) -> paddle.Tensor:
    """Return the labels of the images alone, of a batch whose labels may be ``[N, 1 + tokens, class_num]``."""
    return labels[:, 0] if labels.ndim == 3 else labels
