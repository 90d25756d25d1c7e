"""A model that is to be used, not trained: its weights are all from a file, or a warning says that they are random."""

from __future__ import annotations

import logging

import paddle

from ppcls_ext.engine.model import build_model
from ppcls_ext.weights.loading import WeightMismatchError

logger = logging.getLogger("ppcls_ext")


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
