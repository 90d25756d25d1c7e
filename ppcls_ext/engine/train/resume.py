"""Resuming from a checkpoint: is it whole, finite, and of this run?"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, cast

import numpy as np

from ppcls_ext.config import Config
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.train.checkpoint import Checkpoint, CheckpointError
from ppcls_ext.engine.train.manifest import is_count
from ppcls_ext.engine.train.selection import is_early_stopping_state
from ppcls_ext.engine.train.state import TrainState
from ppcls_ext.weights.loading import WeightMismatchError, check_model

logger = logging.getLogger("ppcls_ext")

#: Sections that decide what a step does; a resumed run that changes them logs a warning.
COMPARED_SECTIONS = ("Optimizer", "Loss.Train", "EMA", "SWA", "Arch.freeze", "Global.best_metric")


@dataclass(frozen=True)
class RunFacts:
    """What ``pdstates`` says of the run besides its state: enough to tell whether a resumed run is the same one.

    Attributes:
        arch: name of the backbone.
        epochs: length of the run.
        iterations: batches of an epoch, on each process.
        samples_per_step: images of an optimizer step, on all processes.
        seed: the run's seed.
        order: how shards are read, which decides the order within an epoch; empty for single files.
        settings: values of :data:`COMPARED_SECTIONS` by dotted key.
    """

    arch: str
    epochs: int
    iterations: int
    samples_per_step: int
    seed: int
    order: str
    settings: dict

    @classmethod
    def of(cls, cfg: Config, iterations: int, samples_per_step: int, order: str) -> RunFacts:
        """Take the facts from a validated config and the lengths that follow from the data."""
        settings: dict[str, Any] = {}
        for name in COMPARED_SECTIONS:
            settings.update(_flat(cfg.section(name), name))
        return cls(
            cfg.Arch.name,
            cast(int, cfg.Global.epochs),  # a configuration for training has it
            iterations,
            samples_per_step,
            cfg.Global.seed or 0,
            order,
            settings,
        )

    def to_dict(self) -> dict:
        """Return what is added to ``pdstates``."""
        return asdict(self)


def resume(state: TrainState, facts: RunFacts, checkpoint: Checkpoint, session: Session, accumulate: int) -> None:
    """Put ``checkpoint`` into the freshly built ``state`` of a run.

    Raises:
        CheckpointError: if the checkpoint is of a different model, stopped within an epoch of different batches, holds
            NaN or infinity, or is damaged in a way that its hashes do not show.
        OptimizerStateError: if the optimizer's state is of other parameters.
    """
    prefix, parts = checkpoint.prefix, checkpoint.parts
    if "pdstates" not in parts or "pdopt" not in parts:
        raise CheckpointError(f"Global.checkpoints: {prefix} holds weights alone; use Global.pretrained_model for them")
    for suffix, part in parts.items():
        if not isinstance(part, dict):
            raise CheckpointError(f"{prefix}.{suffix} holds a {type(part).__name__}, not a mapping")
    for suffix in ("pdparams", "pdema", "pdswa"):
        for name, value in parts.get(suffix, {}).items():
            if not isinstance(value, np.ndarray):
                raise CheckpointError(f"{prefix}.{suffix}: {_shown(name)} is a {type(value).__name__}, not a tensor")
    found = checked_states(parts["pdstates"], prefix)
    _check_same_position(session, prefix, found)
    _check_same_run(facts, prefix, found)
    try:
        check_model(state.model, checkpoint.info.get("arguments") or {}, f"{prefix}.pdparams")
    except WeightMismatchError as error:
        raise CheckpointError(f"Global.checkpoints: {error}") from None
    try:
        state.set_state_dict({**parts, "pdstates": found}, session.is_main)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        if type(error).__module__.startswith("ppcls_ext."):
            raise
        raise CheckpointError(f"Global.checkpoints: {prefix} does not fit {facts.arch}: {error}") from error
    wrong = state.non_finite()
    if wrong:
        raise CheckpointError(
            f"Global.checkpoints: {prefix} holds NaN or infinity in {len(wrong)} of {state.tensor_count()} tensors, "
            f"among them {', '.join(wrong[:3])}; resume from an earlier checkpoint"
        )
    state.place_schedule(facts.iterations, accumulate)
    logger.info(
        "Finish load checkpoints from %s: epoch %d, iteration %d, step %d",
        prefix,
        state.progress.epoch,
        state.progress.iteration,
        state.progress.step,
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_metric(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value < float("inf")


def _is_sums(value: Any) -> bool:
    array = np.asarray(value)
    return array.ndim == 1 and array.dtype.kind in "fiu" and bool(np.isfinite(array).all())


def _is_named_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(item) for pair in value.items() for item in pair)


def _is_scaler(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and all(np.asarray(item).dtype.kind in "fiub" and np.isfinite(item).all() for item in value.values())
    )


#: Entries of ``pdstates``: a check, what is expected, and a default for those that older versions did not write.
_STATES: dict[str, tuple[Callable[[Any], bool], str, Any]] = {
    **{
        name: (is_count, "a whole number", ...)
        for name in (
            "epoch best_epoch best_epoch_ema iteration iterations step seed samples_per_step epochs ema_updates"
        ).split()
    },
    "swa_updates": (is_count, "a whole number", 0),
    "skipped_steps": (is_count, "a whole number", 0),
    "metric": (_is_metric, "a number", ...),
    "metric_ema": (_is_metric, "a number", ...),
    "arch": (_is_text, "a name", ...),
    "order": (_is_text, "a text", ""),
    "meter": (_is_sums, "a list of finite numbers", ...),
    "bad_images": (_is_named_texts, "a mapping of paths to reasons", ...),
    "scaler": (_is_scaler, "a mapping of finite numbers", ...),
    "early_stopping": (is_early_stopping_state, "the state of early stopping", None),
    "settings": (lambda value: isinstance(value, dict), "a mapping", {}),
}


def checked_states(found: dict, prefix: Path) -> dict:
    """Return the entries of ``pdstates``, each of them what it should be.

    Raises:
        CheckpointError: naming the entry that is missing or wrong.
    """
    states = {}
    for name, (is_right, expected, default) in _STATES.items():
        value = found.get(name, default)
        if isinstance(value, np.generic):
            value = value.item()
        if value is ...:
            raise CheckpointError(f"{prefix}.pdstates has no entry {name!r}")
        try:
            right = is_right(value)
        except (TypeError, ValueError):
            right = False
        if not right:
            raise CheckpointError(f"{prefix}.pdstates: {name!r} is {_shown(value)}, not {expected}")
        states[name] = value
    return states


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_same_position(session: Session, prefix: Path, found: dict) -> None:
    """Check that all processes read a checkpoint of the same position; nodes may hold copies of different age."""
    positions = np.stack([session.gather(found[name]) for name in ("epoch", "iteration", "step")], axis=1).astype(int)
    if (positions != positions[0]).any():
        listed = "; ".join(f"process {rank}: {position.tolist()}" for rank, position in enumerate(positions))
        raise CheckpointError(
            f"Global.checkpoints: {prefix} is not the same for all processes (epoch, iteration, step): {listed}. "
            "Put it where all nodes can read it, or copy that of process 0 to every node"
        )


def _check_same_run(facts: RunFacts, prefix: Path, found: dict) -> None:
    """Refuse a run that cannot continue exactly where it must, and warn of changed settings."""
    if found["arch"] != facts.arch:
        raise CheckpointError(
            f"Global.checkpoints: {prefix} is of {found['arch']}, Arch.name is {facts.arch}; "
            "to start a new run from its weights, use Global.pretrained_model"
        )
    # Checkpoints of earlier versions say nothing of the shards' content.
    same_order = found["order"] in (facts.order, facts.order.partition(", with the index ")[0])
    if found["iteration"] and not same_order:
        raise CheckpointError(
            f"Global.checkpoints: {prefix} stopped within an epoch that was read from "
            f"{found['order'] or 'single files'}; this run reads {facts.order or 'single files'}. Resume with the "
            "same, or from a checkpoint at the end of an epoch"
        )
    then = (found["iterations"], found["samples_per_step"], found["seed"])
    now = (facts.iterations, facts.samples_per_step, facts.seed)
    if found["iteration"] and then != now:
        raise CheckpointError(
            f"Global.checkpoints: {prefix} stopped within an epoch, at batch {found['iteration']} of {then[0]} "
            f"({then[1]} samples a step, seed {then[2]}); this run has {now[0]} batches ({now[1]} samples a step, "
            f"seed {now[2]}). Resume with the same batches, or from a checkpoint at the end of an epoch"
        )
    if not same_order:
        logger.warning(
            "the resumed run reads %s, the checkpoint's read %s",
            facts.order or "single files",
            found["order"] or "single files",
        )
    for change in _changes(facts, found):
        logger.warning("the resumed run differs from the checkpoint's: %s", change)


def _changes(facts: RunFacts, found: dict) -> list[str]:
    """Return what the run changes against the checkpoint's, with both values."""
    pairs: dict[str, tuple[Any, Any]] = {
        "Global.epochs": (found["epochs"], facts.epochs),
        "images per optimizer step": (found["samples_per_step"], facts.samples_per_step),
        "batches per epoch": (found["iterations"], facts.iterations),
        "Global.seed": (found["seed"], facts.seed),
    }
    if found["settings"]:
        for key in sorted({*found["settings"], *facts.settings}):
            pairs[key] = (found["settings"].get(key), facts.settings.get(key))
    return [f"{key} was {_value(then)}, is {_value(now)}" for key, (then, now) in pairs.items() if then != now]


def _value(value: Any) -> str:
    return "not set" if value is None else str(value)


def _flat(value: Any, key: str) -> dict:
    """Return the values of nested mappings and lists of mappings by dotted key, without those that are unset."""
    items: Iterable[tuple[Any, Any]]
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        items = enumerate(value)
    else:
        return {} if value is None else {key: value}
    return {name: item for step, inner in items for name, item in _flat(inner, f"{key}.{step}").items()}
