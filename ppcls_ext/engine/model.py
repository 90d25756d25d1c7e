"""From the ``Arch`` section to a model with its weights."""

from __future__ import annotations

import logging
from typing import Any, Optional

import paddle

from ppcls_ext import registry
from ppcls_ext.engine.checkpoint import Checkpoint
from ppcls_ext.plugin import backbone_factory, create_backbone
from ppcls_ext.weights.loading import load_pretrained
from ppcls_ext.weights.published import choose, published_form
from ppcls_ext.weights.reader import find_weights
from ppcls_ext.weights.record import form_in, recorded_arguments

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
    model = create_backbone(cfg.Arch.name, pretrained=published, **arguments)
    if cfg.Arch.use_sync_bn:
        if paddle.get_device() == "cpu":
            logger.warning("Arch.use_sync_bn needs a GPU; on CPU each process keeps its own batch statistics")
        else:
            model = paddle.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if from_path:
        load_pretrained(model, source, class_num=cfg.Arch.class_num)
    if checkpoint is None and cfg.Global.pretrained_model:
        load_pretrained(model, cfg.Global.pretrained_model, class_num=cfg.Arch.class_num)
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
