"""From ``batch_transform_ops`` of a YAML file to a checked chain of batch operators."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional, Sequence

import numpy as np

from ppcls_ext.data.batch_ops.cutmix import CutmixOperator
from ppcls_ext.data.batch_ops.hybrid import MixupCutmixHybrid
from ppcls_ext.data.batch_ops.mix_token import MixToken
from ppcls_ext.data.batch_ops.mixup import MixupOperator
from ppcls_ext.data.batch_ops.op_sampler import OpSampler
from ppcls_ext.data.batch_ops.operator import BatchOperator
from ppcls_ext.data.collate import ArrayBatch
from ppcls_ext.data.preprocess.building import OperatorProblem, build_operator, one_key
from ppcls_ext.data.token_label import TokenLabels
from ppcls_ext.utils.spelling import nearest
from ppcls_ext.utils.validate import probability

SECTION = "batch_transform_ops"
MIXING = {operator.__name__: operator for operator in (MixupOperator, CutmixOperator, MixupCutmixHybrid, MixToken)}
BATCH_OPERATORS = {**MIXING, "OpSampler": OpSampler}
#: Batch operators that PaddleClas has and ppcls_ext has not, refused by name.
PADDLECLAS_ONLY = ("FmixOperator",)


class BatchTransforms:
    """A chain of batch operators: ``transforms(batch, epoch, number) -> batch``.

    The randomness is a function of (seed, rank, epoch, number of the batch) alone: any number of workers gives the same
    batches, and a resumed epoch goes on as it would have.

    Args:
        operators: the chain.
        class_num: number of classes.
        seed: of the operators.
        rank: this process.
        token_labels: how labels of tokens are made, where the dataset has some.
    """

    def __init__(
        self,
        operators: Sequence[BatchOperator],
        class_num: int,
        seed: int = 0,
        rank: int = 0,
        token_labels: Optional[TokenLabels] = None,
    ):
        self.operators, self.class_num, self.seed, self.rank = list(operators), class_num, seed, rank
        self.token_labels = token_labels

    def __call__(self, batch: ArrayBatch, epoch: int, number: int) -> ArrayBatch:
        """Return the batch with mixed images, and labels that are shares of the classes, mixed or not.

        They are float32 ``[n, class_num]``; with token labels ``[n, 1 + tokens, class_num]``.

        Raises:
            ValueError: if a label is no class, or an operator cannot take the shapes.
        """
        images, labels = batch.images, self._labels(batch)
        # The last word is not 0: SeedSequence pads with zeros, and samples have seeds of three and four words.
        rng = np.random.default_rng([self.seed, epoch, number, self.rank, 1])
        for operator in self.operators if len(images) else ():
            images, labels = operator(images, labels, rng)
        return replace(batch, images=images, labels=labels, tokens=[])

    def _labels(self, batch: ArrayBatch) -> np.ndarray:
        if self.token_labels is None:
            return one_hot(batch.labels, self.class_num)
        return self.token_labels.dense(batch.tokens, batch.labels, self.class_num)


def one_hot(labels: np.ndarray, class_num: int) -> np.ndarray:
    """Return class ids ``[n]`` as float32 ``[n, class_num]``; what is floating-point stays as it is.

    Raises:
        ValueError: if a label is not below ``class_num``.
    """
    if np.issubdtype(labels.dtype, np.floating):
        return labels
    if labels.size and labels.max() >= class_num:
        raise ValueError(f"label {labels.max()}, but class_num {class_num} allows 0 to {class_num - 1}")
    return (labels[:, None] == np.arange(class_num)).astype(np.float32)


def check_batch_transform_ops(batch_transform_ops: Optional[Sequence[dict]], class_num: int) -> list[OperatorProblem]:
    """Return every mistake in ``batch_transform_ops``: names, arguments and values.

    Args:
        batch_transform_ops: list of one-key mappings ``{operator: {argument: value}}``, as in YAML.
        class_num: number of classes.
    """
    return _build(batch_transform_ops, class_num)[1]


def build_batch_transforms(
    batch_transform_ops: Optional[Sequence[dict]],
    class_num: Optional[int],
    seed: int = 0,
    rank: int = 0,
    token_labels: Optional[TokenLabels] = None,
) -> Optional[BatchTransforms]:
    """Build the chain; None if there is nothing to do.

    Args:
        batch_transform_ops: as in :func:`check_batch_transform_ops`.
        class_num: number of classes; needed if there is an operator.
        seed: of the operators.
        rank: this process.
        token_labels: those of the dataset.

    Raises:
        ValueError: with every mistake that :func:`check_batch_transform_ops` and :func:`check_token_grid` find, or
            without class_num.
    """
    if not batch_transform_ops and token_labels is None:
        return None
    if class_num is None:
        raise ValueError(f"{SECTION}: mixing labels needs class_num, the number of classes")
    operators, problems = _build(batch_transform_ops, class_num)
    if token_labels is not None and not problems:
        problems = check_token_grid(batch_transform_ops, class_num, token_labels.size)
    if problems:
        raise ValueError("\n".join(str(problem) for problem in problems))
    return BatchTransforms(operators, class_num, seed, rank, token_labels)


def check_token_grid(batch_transform_ops: Optional[Sequence[dict]], class_num: int, size: int) -> list[OperatorProblem]:
    """Return what keeps valid ``batch_transform_ops`` from mixing the labels of ``size`` x ``size`` tokens."""
    problems = []
    for position, operator in enumerate(_build(batch_transform_ops, class_num)[0]):
        for part in operator.operators if isinstance(operator, OpSampler) else [operator]:
            name = type(part).__name__
            key = f"{position}.{name}" if part is operator else f"{position}.OpSampler.{name}"
            if not part.takes_token_labels:
                message = "tears the cells of tokens; with dataset.token_label use MixToken"
                problems.append(OperatorProblem(key, message, SECTION))
            elif isinstance(part, MixToken) and part.grid != size:
                message = f"grid: expected that of dataset.token_label.size, {size}, got {part.grid}"
                problems.append(OperatorProblem(key, message, SECTION))
    return problems


def label_smoothing(batch_transform_ops: Optional[Sequence[dict]], class_num: int) -> float:
    """Return the label smoothing that valid ``batch_transform_ops`` do."""
    return max((operator.label_smoothing for operator in _build(batch_transform_ops, class_num)[0]), default=0.0)


def _build(
    batch_transform_ops: Optional[Sequence[dict]], class_num: int
) -> tuple[list[BatchOperator], list[OperatorProblem]]:
    if batch_transform_ops is None:
        return [], []
    if not isinstance(batch_transform_ops, (list, tuple)):
        message = f"expected a list of operators, got {type(batch_transform_ops).__name__}"
        return [], [OperatorProblem("", message, SECTION)]
    operators: list[BatchOperator] = []
    problems: list[OperatorProblem] = []
    for position, item in enumerate(batch_transform_ops):
        operator: Optional[BatchOperator]
        name, arguments, problem = one_key(position, item, SECTION)
        key = f"{position}.{name}"
        if problem:
            operator, found = None, [problem]
        elif name == "OpSampler":
            operator, found = _build_sampler(key, arguments, class_num)
        else:
            operator, found = _build_mixing(key, name, arguments, class_num, _unknown)
        problems.extend(found)
        if operator is not None:
            operators.append(operator)
    return operators, problems


def _build_mixing(key: str, name: str, arguments: dict, class_num: int, unknown) -> tuple:
    return build_operator(key, name, arguments, MIXING, unknown, SECTION, {"class_num": class_num})


def _build_sampler(key: str, choices: dict, class_num: int) -> tuple[Optional[OpSampler], list[OperatorProblem]]:
    """Build ``OpSampler: {MixupOperator: {alpha: 0.8, prob: 0.5}, ...}``."""
    if not choices:
        return None, [OperatorProblem(key, f"give at least one of {', '.join(MIXING)}", SECTION)]
    operators, probabilities, problems = [], [], []
    for name, arguments in choices.items():
        place = f"{key}.{name}"
        arguments = {} if arguments is None else arguments
        if not isinstance(arguments, dict):
            problems.append(OperatorProblem(place, f"expected arguments as a mapping, got {arguments!r}", SECTION))
            continue
        arguments = dict(arguments)
        share = arguments.pop("prob", None)
        operator, found = _build_mixing(place, name, arguments, class_num, _unknown_choice)
        problems.extend(found)
        if share is None:
            message = "the probability is missing; OpSampler needs prob for each operator"
            problems.append(OperatorProblem(f"{place}.prob", message, SECTION))
            continue
        try:
            probabilities.append(probability(share, "prob"))
        except (TypeError, ValueError) as error:
            problems.append(OperatorProblem(f"{place}.prob", str(error), SECTION))
        operators.append(operator)
    if problems:
        return None, problems
    try:
        return OpSampler(operators, probabilities), []
    except ValueError as error:
        return None, [OperatorProblem(key, str(error), SECTION)]


def _unknown(name: str) -> str:
    if name in PADDLECLAS_ONLY:
        known = ", ".join(BATCH_OPERATORS)
        return f"{name} is a batch operator of PaddleClas that ppcls_ext does not support; it has {known}"
    hint = nearest(str(name), BATCH_OPERATORS, count=1)
    advice = f"did you mean {hint[0]!r}?" if hint else f"there are {', '.join(BATCH_OPERATORS)}"
    return f"unknown batch operator {name!r}; {advice}"


def _unknown_choice(name: str) -> str:
    return "an OpSampler cannot hold another" if name == "OpSampler" else _unknown(name)
