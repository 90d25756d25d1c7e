"""A model that is to be used, not trained: its weights are all from a file, or a warning says that they are random."""

from __future__ import annotations

import logging

import paddle

from ppcls_ext.engine.model import build_model
from ppcls_ext.weights.loading import WeightMismatchError, load_state
from ppcls_ext.weights.reader import pdparams_path, read_pdparams

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
    if path:
        path = pdparams_path(path)
        problems = load_state(model, read_pdparams(path), adapting=True).problems()
        if problems:
            raise WeightMismatchError(
                f"{path} has another number of classes than Arch.class_num, {cfg.Arch.class_num}:\n  "
                + "\n  ".join(problems)
            )
    model.eval()
    return model
