"""From the ``Arch`` section to a model with its weights."""

from __future__ import annotations

import logging
from typing import Any, Optional

import paddle

from ppcls_ext import registry
from ppcls_ext.arch.freezing import convert_sync_batchnorm, freeze_up_to
from ppcls_ext.engine.train.checkpoint import Checkpoint
from ppcls_ext.factory import backbone_factory, is_ours
from ppcls_ext.weights.conversion_record import form_in, recorded_arguments
from ppcls_ext.weights.files.reader import find_weights
from ppcls_ext.weights.loading import WeightMismatchError, load_pretrained
from ppcls_ext.weights.pretrained import choose, published_form

logger = logging.getLogger("ppcls_ext")


def build_model(cfg, checkpoint: Optional[Checkpoint] = None) -> paddle.nn.Layer:
    """Build the backbone that ``cfg.Arch`` names and load the weights that the config asks for.

    ``Global.pretrained_model`` wins over ``Arch.pretrained``, which is then neither loaded nor downloaded. Forms of one
    network that differ in what they compute, not in their tensors, follow the weights unless the config names one.

    Args:
        cfg: the validated config.
        checkpoint: what the model is to go on from; it keeps its initial weights, and the checkpoint's come later.

    Raises:
        WeightMismatchError: if the weights do not fit; see :func:`ppcls_ext.weights.loading.load_pretrained`.
    """
    arguments = dict(cfg.Arch.kwargs())
    source = arguments.pop("pretrained")
    if checkpoint is not None or cfg.Global.pretrained_model:
        source = False
    arguments = {**_form_of_weights(cfg, arguments, checkpoint), **arguments}
    from_path = isinstance(source, str)
    # Paths go through the strict reader whoever owns the backbone; True is the backbone's own business.
    published = bool(source) and not from_path
    if not published:
        arguments.pop("pretrained_layout", None)
    # Ours freeze themselves; PaddleClas's own way renames the weights.
    frozen = None if is_ours(cfg.Arch.name) else arguments.pop("freeze_befor", None)
    model = backbone_factory(cfg.Arch.name)(pretrained=published, **arguments)
    if frozen:
        freeze_up_to(model, frozen)
    if cfg.Arch.use_sync_bn:
        if paddle.get_device() == "cpu":
            logger.warning("Arch.use_sync_bn needs a GPU; on CPU each process keeps its own batch statistics")
        else:
            model = convert_sync_batchnorm(model)
    if from_path:
        load_pretrained(model, source, class_num=cfg.Arch.class_num)
    if checkpoint is None and cfg.Global.pretrained_model:
        load_pretrained(model, cfg.Global.pretrained_model, class_num=cfg.Arch.class_num)
    return model


def load_trained(cfg, purpose: str) -> paddle.nn.Layer:
    """Build the backbone of ``cfg`` with its weights, in evaluation mode.

    Training starts a classifier of another class count afresh; here that would be a classifier with random weights, so
    it is refused.

    Args:
        cfg: the validated config.
        purpose: what the weights are for, as a participle for the warning: ``exported``, ``used``.

    Raises:
        WeightMismatchError: if the weights do not fit, the classifier included.
    """
    pretrained = cfg.Arch.kwargs().get("pretrained")
    path = cfg.Global.pretrained_model or (pretrained if isinstance(pretrained, str) else None)
    if not path and not pretrained:
        logger.warning(
            "no weights are given, so RANDOM weights are %s; pass -o Global.pretrained_model=<run>/best_model", purpose
        )
    model = build_model(cfg)
    fresh = getattr(model, "fresh_tensors", {})
    if fresh:
        raise WeightMismatchError(
            f"{path or f'the published file of {cfg.Arch.name}'} has another number of classes than Arch.class_num, "
            f"{cfg.Arch.class_num}, or no classifier:\n  "
            + "\n  ".join(f"{name}: {why}" for name, why in fresh.items())
        )
    model.eval()
    return model


def _form_of_weights(cfg, arguments: dict, checkpoint: Optional[Checkpoint]) -> dict:
    """Return the arguments for the form that the model's final weights are of, as far as that is known."""
    names = getattr(backbone_factory(cfg.Arch.name), "arguments", None)
    if names is None:
        return {}  # PaddleClas's backbones have one form each
    path = cfg.Global.pretrained_model or cfg.Arch.pretrained
    if checkpoint is not None:
        recorded = checkpoint.info.get("arguments") or {}
    else:
        recorded = recorded_arguments(find_weights(path)) if isinstance(path, str) else {}
    layout = arguments.get("pretrained_layout")
    # Weights without a record, of a run that began from published ones.
    if not recorded and (layout is not None or cfg.Arch.pretrained is True):
        bare = cfg.Arch.name.rpartition(".")[2]
        recorded = published_form(bare, choose(bare, registry.get_spec(bare).weights, layout), names, arguments)
    return form_in(recorded, names)


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
