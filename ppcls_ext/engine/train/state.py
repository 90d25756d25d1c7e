"""What a training checkpoint holds, and how a run goes on from one.

``pdparams``: the weights in float32. ``pdopt``: optimizer and schedule. ``pdema``: the moving average. ``pdstates``:
position, best figures, loss scaler, running sums, unreadable images, and the seed, from which with the position all
random states follow (:func:`ppcls_ext.engine.distributed.seed_everything`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ppcls_ext.engine.train.checkpoint import Checkpoint, CheckpointError
from ppcls_ext.engine.train.optimizer_state import from_disk, to_disk
from ppcls_ext.utils.state_dict import state_arrays
from ppcls_ext.weights.loading import WeightMismatchError, check_model, load_state

if TYPE_CHECKING:
    from ppcls_ext.engine.distributed import Session
    from ppcls_ext.engine.train.trainer import Trainer

logger = logging.getLogger("ppcls_ext")


@dataclass
class Progress:
    """Where the run is. ``epoch`` counts finished epochs, ``iteration`` the batches done of the next one."""

    epoch: int = 0
    iteration: int = 0
    step: int = 0  # optimizer steps since the start of the run, skipped ones included
    skipped: int = 0  # those that the loss scaler skipped, since a gradient was not finite


@dataclass
class Best:
    """The best value of the criterion so far, and its epoch; -inf before the first evaluation."""

    metric: float = float("-inf")
    epoch: int = 0


def pack(trainer: Trainer, sums: np.ndarray) -> dict[str, Any]:
    """Return the parts of a checkpoint that resumes ``trainer``.

    Args:
        trainer: the run, at a step boundary.
        sums: the epoch's running sums over all processes.
    """
    parts = {
        "pdparams": float32_weights(trainer),
        "pdopt": to_disk(trainer.optimizer, trainer.model),
        "pdstates": states(trainer, sums),
    }
    if trainer.ema:
        parts["pdema"] = trainer.ema.state_dict()
    return parts


def float32_weights(trainer: Trainer) -> dict[str, np.ndarray]:
    """Return the model's state; under AMP O2 the optimizer's master weights stand for the half-precision ones."""
    arrays = state_arrays(trainer.model)
    master = trainer.master_weights() or {}
    for name, parameter in trainer.model.named_parameters():
        if parameter.name in master:
            arrays[name] = master[parameter.name].numpy()
    return arrays


def states(trainer: Trainer, sums: np.ndarray) -> dict[str, Any]:
    """Return the part called ``pdstates``; ``metric`` and ``epoch`` are what PaddleClas's holds."""
    return {
        "metric": trainer.best.metric,
        "epoch": trainer.progress.epoch,
        "best_epoch": trainer.best.epoch,
        "metric_ema": trainer.best_ema.metric,
        "best_epoch_ema": trainer.best_ema.epoch,
        "iteration": trainer.progress.iteration,
        "iterations": trainer.iterations,
        "step": trainer.progress.step,
        "skipped_steps": trainer.progress.skipped,
        "seed": trainer.seed,
        "order": trainer.loader.sampler.signature(),
        "samples_per_step": trainer.samples_per_step,
        "arch": trainer.cfg.Arch.name,
        "epochs": trainer.epochs,
        "meter": sums,
        "bad_images": trainer.bad_images.state(),
        "ema_updates": trainer.ema.updates if trainer.ema else 0,
        "scaler": trainer.scaler.state_dict() if trainer.scaler else None,
    }


def restore(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Put ``checkpoint`` into a freshly built ``trainer``.

    Raises:
        CheckpointError: if it is of another model, or stopped within an epoch of other batches.
        OptimizerStateError: if the optimizer's state is of other parameters.
    """
    found = checkpoint.parts.get("pdstates")
    if found is None or "pdopt" not in checkpoint.parts:
        raise CheckpointError(
            f"Global.checkpoints: {checkpoint.prefix} holds weights alone; use Global.pretrained_model for them"
        )
    _check_same_position(trainer.session, checkpoint.prefix, found)
    _check_same_run(trainer, checkpoint.prefix, found)
    try:
        check_model(trainer.model, checkpoint.info.get("arguments") or {}, f"{checkpoint.prefix}.pdparams")
    except WeightMismatchError as error:
        raise CheckpointError(f"Global.checkpoints: {error}") from None
    report = load_state(trainer.model, checkpoint.parts["pdparams"])
    if report.problems():
        raise CheckpointError(
            f"{checkpoint.prefix}.pdparams does not fit {trainer.cfg.Arch.name}:\n  " + "\n  ".join(report.problems())
        )
    from_disk(checkpoint.parts["pdopt"], trainer.optimizer, trainer.model)
    if trainer.ema:
        if "pdema" not in checkpoint.parts:
            raise CheckpointError(f"the config has an EMA section, but {checkpoint.prefix}.pdema is not there")
        trainer.ema.load_state_dict(checkpoint.parts["pdema"], found["ema_updates"])
    if trainer.scaler and found["scaler"]:
        trainer.scaler.load_state_dict(found["scaler"])
    trainer.progress = Progress(found["epoch"], found["iteration"], found["step"], found.get("skipped_steps", 0))
    _place_schedule(trainer)
    trainer.best = Best(found["metric"], found["best_epoch"])
    trainer.best_ema = Best(found["metric_ema"], found["best_epoch_ema"])
    trainer.bad_images.load_state(found["bad_images"])
    if len(trainer.meter.state()) == len(found["meter"]):
        # The sums are those of all processes together; one of them carries them on.
        trainer.meter.load_state(found["meter"] if trainer.session.is_main else 0 * found["meter"])
    logger.info(
        "Finish load checkpoints from %s: epoch %d, iteration %d, step %d",
        checkpoint.prefix,
        trainer.progress.epoch,
        trainer.progress.iteration,
        trainer.progress.step,
    )


def _place_schedule(trainer: Trainer) -> None:
    """Put the schedule where the run is, in steps of this run: another number of processes means another number.

    The rate follows from the config and that place, not from the rate that was saved.
    """
    progress, accumulate = trainer.progress, trainer.accumulate
    steps = (progress.epoch * trainer.iterations + progress.iteration) // accumulate
    trainer.lr.step(progress.epoch if trainer.lr.by_epoch else steps)


def _check_same_position(session: Session, prefix, found: dict) -> None:
    """Check that all processes read a checkpoint of the same position; nodes may hold copies of different age."""
    positions = np.stack([session.gather(found[name]) for name in ("epoch", "iteration", "step")], axis=1).astype(int)
    if (positions != positions[0]).any():
        listed = "; ".join(f"process {rank}: {position.tolist()}" for rank, position in enumerate(positions))
        raise CheckpointError(
            f"Global.checkpoints: {prefix} is not the same for all processes (epoch, iteration, step): {listed}. "
            "Put it where all nodes can read it, or copy that of process 0 to every node"
        )


def _check_same_run(trainer: Trainer, prefix, found: dict) -> None:
    arch = trainer.cfg.Arch.name
    if found["arch"] != arch:
        raise CheckpointError(
            f"Global.checkpoints: {prefix} is of {found['arch']}, Arch.name is {arch}; "
            "to start a new run from its weights, use Global.pretrained_model"
        )
    order, order_then = trainer.loader.sampler.signature(), found.get("order", "")
    if found["iteration"] and order != order_then:
        raise CheckpointError(
            f"Global.checkpoints: {prefix} stopped within an epoch that was read from {order_then or 'single files'}; "
            f"this run reads {order or 'single files'}. Resume with the same, or from a checkpoint at the end of an "
            "epoch"
        )
    then = (found["iterations"], found["samples_per_step"], found["seed"])
    now = (trainer.iterations, trainer.samples_per_step, trainer.seed)
    if found["iteration"] and then != now:
        raise CheckpointError(
            f"Global.checkpoints: {prefix} stopped within an epoch, at batch {found['iteration']} of {then[0]} "
            f"({then[1]} samples a step, seed {then[2]}); this run has {now[0]} batches ({now[1]} samples a step, "
            f"seed {now[2]}). Resume with the same batches, or from a checkpoint at the end of an epoch"
        )
    if then != now:
        logger.warning(
            "batches differ from the checkpoint's run (%d samples a step, seed %d): the run goes on, but is not the "
            "one that would have been",
            then[1],
            then[2],
        )
    if found["epochs"] != trainer.epochs:
        logger.warning(
            "Global.epochs is %d, in the checkpoint's run it was %d: the learning-rate schedule changes",
            trainer.epochs,
            found["epochs"],
        )
