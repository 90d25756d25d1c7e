"""What follows from the configuration and the data before the first step: batches of an epoch, learning rates."""

from __future__ import annotations

import logging

from ppcls_ext.config import Config
from ppcls_ext.optim import describe_scaling, scale_learning_rates

logger = logging.getLogger("ppcls_ext")


def iterations_per_epoch(cfg: Config, batches: int) -> int:
    """Return the batches of an epoch: a whole number of optimizer steps.

    Args:
        cfg: the validated config.
        batches: those of one pass over the data, on each process.

    Raises:
        ValueError: if they are not one optimizer step.
    """
    batches, accumulate = min(batches, cfg.Global.iter_per_epoch or batches), cfg.Global.update_freq
    if batches < accumulate:
        raise ValueError(
            f"Global.update_freq is {accumulate}, but an epoch has only {batches} batches: not one optimizer step"
        )
    return batches // accumulate * accumulate


def optimizer_section(cfg: Config, samples_per_step: int, falls: bool) -> dict:
    """Return the ``Optimizer`` section, its learning rates scaled from ``Global.base_batch_size`` to this run's.

    Args:
        cfg: the validated config.
        samples_per_step: images of an optimizer step, on all processes.
        falls: whether less is better of the figure that a schedule watches.
    """
    section, stated_for = cfg.section("Optimizer"), cfg.Global.base_batch_size
    if section["lr"].get("name") == "ReduceOnPlateau":
        section["lr"].setdefault("mode", "min" if falls else "max")
    if cfg.SWA and cfg.SWA.lr is not None:
        section["lr"]["then"] = {"epoch": cfg.SWA.start_epoch - 1, "rate": cfg.SWA.lr}
    if stated_for is None or stated_for == samples_per_step:
        return section
    factor = samples_per_step / stated_for
    scaled = scale_learning_rates(section["lr"], factor)
    if "then" in scaled:
        scaled["then"] = {**scaled["then"], "rate": scaled["then"]["rate"] * factor}
    logger.info(
        "learning rates x %g: %d images per optimizer step, the recipe's are stated for %d "
        "(Global.base_batch_size): %s",
        factor,
        samples_per_step,
        stated_for,
        describe_scaling(section["lr"], scaled),
    )
    return {**section, "lr": scaled}
