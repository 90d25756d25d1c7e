"""From the ``Arch`` section to a model with its weights."""

from __future__ import annotations

import logging
from typing import Any

import paddle

from ppcls_ext.plugin import create_backbone
from ppcls_ext.weights.loading import load_pretrained

logger = logging.getLogger("ppcls_ext")


def build_model(cfg, pretrained: bool = True) -> paddle.nn.Layer:
    """Build the backbone that ``cfg.Arch`` names and load the weights that the config asks for.

    ``Arch.pretrained`` is loaded first, then ``Global.pretrained_model``, which therefore wins.

    Args:
        cfg: the validated config.
        pretrained: False builds the model with its initial weights (a checkpoint follows).

    Raises:
        WeightMismatchError: if the weights do not fit; see :func:`ppcls_ext.weights.loading.load_pretrained`.
    """
    arguments = dict(cfg.Arch.kwargs())
    source = arguments.pop("pretrained")
    source = source if pretrained else False
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
    if pretrained and cfg.Global.pretrained_model:
        load_pretrained(model, cfg.Global.pretrained_model, class_num=cfg.Arch.class_num)
    return model


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
