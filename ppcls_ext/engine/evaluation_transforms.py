"""Which operators made the images that a model was evaluated on: what export, and pictures of models, must repeat."""

from __future__ import annotations

from ppcls_ext.config import Config


def evaluation_transforms(cfg: Config) -> tuple[str, list]:
    """Return the section of the config that holds the operators of evaluation, and the operators.

    Raises:
        ConfigError: if the config has neither ``DataLoader.Eval`` nor ``Infer.transforms``.
    """
    if cfg.DataLoader is not None and cfg.DataLoader.Eval is not None:
        return "DataLoader.Eval", cfg.DataLoader.Eval.dataset.transform_ops
    if cfg.Infer is not None and cfg.Infer.transforms:
        return "Infer", cfg.Infer.transforms
    raise cfg.error("DataLoader.Eval", "neither it nor Infer.transforms is there: the preprocessing is not known")
