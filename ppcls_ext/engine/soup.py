"""Soups: one set of weights that is the mean of several (Wortsman et al., arXiv 2203.05482)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Sequence, Union

import numpy as np

from ppcls_ext.config import Config
from ppcls_ext.data import build_dataloader
from ppcls_ext.engine.batch_statistics import update_batch_statistics
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.evaluator import Evaluator
from ppcls_ext.engine.model import build_model
from ppcls_ext.engine.precision import Precision
from ppcls_ext.engine.train.checkpoint import Checkpoint, CheckpointStore, load_checkpoint
from ppcls_ext.utils.checkpoint_path import MANIFEST, checkpoint_file, checkpoint_prefix
from ppcls_ext.utils.state_dict import non_finite_names, state_arrays
from ppcls_ext.weights.files.reader import find_weights, read_weights
from ppcls_ext.weights.loading import WeightMismatchError, check_model, load_state

logger = logging.getLogger("ppcls_ext")

#: Names in a message.
_SHOWN = 3


class SoupError(ValueError):
    """The sets of weights are not of one model, or cannot be averaged."""


@dataclass
class Ingredient:
    """One set of weights.

    Attributes:
        name: path as given.
        state: arrays by name.
        arguments: constructor arguments that the weights are bound to, where the checkpoint records them.
        class_names: names of the classes by id, where it records them.
    """

    name: str
    state: dict[str, np.ndarray]
    arguments: Optional[dict] = None
    class_names: Optional[list] = None


@dataclass
class Soup:
    """What :func:`make_soup` returns.

    Attributes:
        state: the averaged arrays by name.
        used: names of the sets of weights that are in it.
        figures: greedy: figure of the soup after each set that was tried, in order; None for one that was not added.
        criterion: greedy: name of that figure.
    """

    state: dict[str, np.ndarray]
    used: list[str]
    criterion: Optional[str] = None
    figures: list[dict] = field(default_factory=list)


def read_ingredient(path: Union[str, Path]) -> Ingredient:
    """Read a checkpoint of a run, or a file of weights.

    Raises:
        OSError: if there is none.
        CheckpointError: if a checkpoint is damaged.
        SoupError: if it holds NaN or infinity.
    """
    prefix = checkpoint_prefix(path)
    if checkpoint_file(prefix, "", MANIFEST).is_file():
        checkpoint = load_checkpoint(prefix)
        found = Ingredient(
            str(path),
            checkpoint.parts["pdparams"],
            checkpoint.info.get("arguments"),
            checkpoint.info.get("class_names"),
        )
    else:
        found = Ingredient(str(path), read_weights(find_weights(path)).tensors)
    wrong = non_finite_names(found.state)
    if wrong:
        raise SoupError(f"{path} holds NaN or infinity in {', '.join(wrong[:_SHOWN])}")
    return found


def check_alike(ingredients: Sequence[Ingredient]) -> None:
    """Check that all sets of weights are of one model.

    Raises:
        SoupError: naming what differs, and between which two.
    """
    if len(ingredients) < 2:
        raise SoupError(f"expected two sets of weights or more, got {len(ingredients)}")
    first = ingredients[0]
    for other in ingredients[1:]:
        pair = f"{other.name} does not fit {first.name}"
        for one, two, label in ((first, other, "lacks"), (other, first, "has besides")):
            only = [name for name in one.state if name not in two.state]
            if only:
                raise SoupError(f"{pair}: it {label} {_some(only)}")
        for name, array in first.state.items():
            if array.shape != other.state[name].shape:
                raise SoupError(f"{pair}: {name} is {list(other.state[name].shape)}, not {list(array.shape)}")
            if array.dtype.kind != "f" and not np.array_equal(array, other.state[name]):
                raise SoupError(f"{pair}: {name} holds {array.dtype} numbers that differ, which have no mean")
        for key in {**(first.arguments or {}), **(other.arguments or {})}:
            values = [(item.arguments or {}).get(key) for item in (first, other)]
            if first.arguments is not None and other.arguments is not None and values[0] != values[1]:
                raise SoupError(f"{pair}: its model has {key}={values[1]!r}, not {values[0]!r}")
        if first.class_names and other.class_names and first.class_names != other.class_names:
            raise SoupError(f"{pair}: its classes have other names or another order")


def mean_of(states: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the mean of floating-point arrays, summed in float64, and the others of the first set."""
    mean = {}
    for name, array in states[0].items():
        if array.dtype.kind == "f":
            total = sum((state[name].astype(np.float64) for state in states), np.zeros(array.shape))
            array = (total / len(states)).astype(array.dtype)
        mean[name] = array
    return mean


class Kitchen:
    """Evaluates sets of weights, and measures their batch statistics.

    Args:
        cfg: a configuration for training: its model, ``DataLoader.Eval`` and, for statistics, ``DataLoader.Train``. The
            weights that it starts from are not loaded.
        first: one of the sets of weights, which may say what its model is built with.
        greedy: whether anything is to be evaluated.
        update_bn: whether batch statistics are to be measured for each mean.

    Raises:
        SoupError: if there is no figure to compare by, or the weights are of a different model.
    """

    def __init__(self, cfg: Config, first: Ingredient, greedy: bool, update_bn: bool):
        self.session = Session(cfg.Global.device)
        self.precision, self.update_bn = Precision(), update_bn
        bound = first.arguments or {}
        self.model = build_model(cfg, Checkpoint(Path(first.name), {}, {"arguments": bound}))
        try:
            check_model(self.model, bound, first.name)
        except WeightMismatchError as error:
            raise SoupError(str(error)) from error
        self.evaluator = Evaluator(cfg, self.session, self.precision) if greedy else None
        if self.evaluator and self.evaluator.criterion is None:
            raise SoupError("the configuration has no Metric.Eval with a figure, so no two soups can be compared")
        self.loader = None
        if update_bn:
            self.loader = build_dataloader(
                cfg.section("DataLoader.Train"), "Train", class_num=cfg.Arch.class_num, seed=cfg.Global.seed or 0
            )

    def prepare(self, state: dict[str, np.ndarray], name: str, is_mean: bool = True) -> dict[str, np.ndarray]:
        """Load a set of weights, measure its statistics if it is a mean and that is asked for, and return it.

        Raises:
            SoupError: if it does not fit the model.
        """
        problems = load_state(self.model, state).problems()
        if problems:
            raise SoupError(f"{name} does not fit the model of the configuration: {'; '.join(problems[:_SHOWN])}")
        if self.loader is None or not is_mean:
            return state
        update_batch_statistics(self.model, self.loader.epoch(0), self.session, self.precision)
        return state_arrays(self.model)

    def score(
        self, state: dict[str, np.ndarray], name: str, is_mean: bool = True
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Return the figure of a set of weights, and the set as it is evaluated."""
        prepared = self.prepare(state, name, is_mean)
        evaluator = self.evaluator
        if evaluator is None or evaluator.criterion is None:
            raise SoupError("nothing to evaluate with")
        return evaluator.run(self.model)[evaluator.criterion], prepared

    def close(self) -> None:
        """Stop the loader's workers."""
        if self.loader is not None:
            self.loader.close()


def make_soup(ingredients: Sequence[Ingredient], kitchen: Optional[Kitchen] = None, greedy: bool = False) -> Soup:
    """Average sets of weights.

    Args:
        ingredients: two or more, of one model.
        kitchen: what evaluates and measures statistics; None for a plain mean.
        greedy: begin with the best set, and add the next best as long as the figure does not fall (algorithm 1 of the
            paper); otherwise all are averaged.

    Raises:
        SoupError: see :func:`check_alike` and :class:`Kitchen`.
    """
    check_alike(ingredients)
    if not greedy or kitchen is None:
        state = mean_of([item.state for item in ingredients])
        return Soup(kitchen.prepare(state, "the soup") if kitchen else state, [item.name for item in ingredients])
    criterion = kitchen.evaluator.criterion if kitchen.evaluator else None
    # Each alone with the statistics that it has; those of means are measured.
    scored = [(kitchen.score(item.state, item.name, False)[0], -place, item) for place, item in enumerate(ingredients)]
    scored.sort(key=lambda entry: entry[:2], reverse=True)
    best, _, first = scored[0]
    used, soup = [first], first.state
    figures = [{"weights": first.name, "alone": best, "soup": best, "added": True}]
    for alone, _, item in scored[1:]:
        figure, prepared = kitchen.score(mean_of([*(member.state for member in used), item.state]), "the soup")
        added = figure >= best
        figures.append({"weights": item.name, "alone": alone, "soup": figure, "added": added})
        if added:
            best, soup = figure, prepared
            used.append(item)
        logger.info("%s %s: %s %.5f", "added" if added else "left out", item.name, criterion, figure)
    return Soup(soup, [item.name for item in used], criterion, figures)


def save_soup(soup: Soup, ingredients: Sequence[Ingredient], output: Path) -> Path:
    """Write the soup as a checkpoint that holds weights alone, and return its prefix.

    Args:
        soup: what to write.
        ingredients: what it was made of: they say what the weights are bound to.
        output: ``soup`` or ``soup.pdparams``.
    """
    prefix = output.with_suffix("") if output.suffix == ".pdparams" else output
    bound = next((item.arguments for item in ingredients if item.arguments is not None), None)
    names = next((item.class_names for item in ingredients if item.class_names), None)
    return CheckpointStore(prefix.parent).save(prefix.name, {"pdparams": soup.state}, 0, bound, names)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
