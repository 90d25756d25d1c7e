"""Strict loading: every tensor of the file is used, every tensor of the model is filled, or it is an error.

The exceptions are those of fine-tuning, each with a line in the log: a classifier with a different number of classes
keeps its fresh initial values, and tensors that depend on the input's channels or size are adapted.
"""

from __future__ import annotations

import json
import logging
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Union

import numpy as np
import paddle

from ppcls_ext.utils.state_dict import non_finite_names, unique_tensors
from ppcls_ext.weights.adapt import adapt
from ppcls_ext.weights.conversion import check_conversion
from ppcls_ext.weights.conversion_record import read_record
from ppcls_ext.weights.errors import (
    ConversionError,
    NonFiniteWeightsError,
    WeightMismatchError,
    as_arguments,
    listed,
)
from ppcls_ext.weights.expected import arch_of, depths_of, find_factory
from ppcls_ext.weights.files.reader import (
    PADDLE,
    SAFETENSORS,
    AmbiguousWeightsError,
    WeightFile,
    find_weights,
    read_weights,
)

logger = logging.getLogger("ppcls_ext")


@dataclass
class LoadReport:
    """What a load did, as names of tensors."""

    loaded: list = field(default_factory=list)
    reinitialised: dict = field(default_factory=dict)  # a classifier that stays fresh: name and reason
    left_out: list = field(default_factory=list)  # the file's classifier, for a model without one
    adapted: dict = field(default_factory=dict)  # name: what was done, see ppcls_ext.weights.adapt
    missing: list = field(default_factory=list)
    unexpected: list = field(default_factory=list)
    misshaped: list = field(default_factory=list)  # (name, shape in the file, shape in the model)

    def problems(self) -> list[str]:
        """Return one line for each tensor that does not fit."""
        lines = [f"missing in the file: {name}" for name in self.missing]
        lines += [f"unexpected in the file: {name}" for name in self.unexpected]
        lines += [f"{name}: {_shapes(a, b)}" for name, a, b in self.misshaped]
        return lines


def load_state(
    model: paddle.nn.Layer, state: dict[str, np.ndarray], class_num: Optional[int] = None, adapting: bool = False
) -> LoadReport:
    """Copy ``state`` into ``model`` if every name and shape fits, and report what was found either way.

    The model is changed only when the report holds no problem.

    Args:
        model: any Paddle layer.
        state: arrays by name; an LSTM tensor may come under either of its names, or both.
        class_num: width of the model's classifier. A layer whose tensors differ from the file's in this dimension
            alone, or one of this width that is all that the file lacks, is taken for the classifier, and keeps its
            initial values. ``None``: the classifier must fit too. ``0``: the model has no classifier, and the file's is
            left out.
        adapting: also adapt tensors to different input channels and a different image size.

    Raises:
        WeightMismatchError: if two names of one tensor come with different values.
    """
    report = LoadReport()
    known: set[str] = set()
    wrong_shape, fitting = {}, []
    for name, (tensor, aliases) in unique_tensors(model).items():
        known.update(aliases)
        given = [alias for alias in aliases if alias in state]
        if not given:
            report.missing.append(name)
            continue
        array = state[given[0]]
        if any(not np.array_equal(array, state[alias]) for alias in given[1:]):
            raise WeightMismatchError(f"{' and '.join(given)} are one tensor, yet the file gives two values for it")
        adapted = None
        if adapting and tuple(array.shape) != tuple(tensor.shape):
            adapted = adapt(model, name, array, tuple(tensor.shape))
        if adapted:
            array, report.adapted[name] = adapted
        if tuple(array.shape) == tuple(tensor.shape):
            fitting.append((name, tensor, array))
        else:
            wrong_shape[name] = (tuple(array.shape), tuple(tensor.shape))
    report.loaded = [name for name, _, _ in fitting]
    report.unexpected = [name for name in state if name not in known]
    report.reinitialised = {name: _shapes(*wrong_shape[name]) for name in _other_classifier(wrong_shape, class_num)}
    report.misshaped = [(name, *shapes) for name, shapes in wrong_shape.items() if name not in report.reinitialised]
    if class_num:
        shapes = {name: tuple(tensor.shape) for name, (tensor, _) in unique_tensors(model).items()}
        lacking = _only_a_classifier(report.missing, shapes, class_num)
        report.reinitialised.update({name: "missing in the file" for name in lacking})
        report.missing = [name for name in report.missing if name not in lacking]
    if class_num == 0:
        report.left_out = _only_a_classifier(report.unexpected, {name: state[name].shape for name in state})
        report.unexpected = [name for name in report.unexpected if name not in report.left_out]
    if not report.problems():
        for _, tensor, array in fitting:
            # Cast by Paddle: NumPy has no bfloat16, the type of a model's weights under AMP O2.
            tensor.set_value(paddle.to_tensor(array).astype(tensor.dtype))
    return report


def load_pretrained(model: paddle.nn.Layer, path: Union[str, Path], class_num: Optional[int] = None) -> LoadReport:
    """Load the weights at ``path`` into ``model``, strictly.

    Which tensors keep their initial values, and why, is left in ``model.fresh_tensors``.

    Args:
        model: any Paddle layer.
        path: a ``.pdparams`` file, or a ``.safetensors`` file that was converted for Paddle; the suffix may be left
            out. Weights under a key such as ``model``, and names that begin with ``module.``, are found.
        class_num: width of the model's classifier; ``None`` takes ``model.class_num`` where there is one.

    Raises:
        WeightMismatchError: listing every missing, unexpected and mis-shaped tensor, with the command that converts
            the file where one does; or if its record asks for constructor arguments that the model lacks.
        NonFiniteWeightsError: naming the tensors that hold NaN or infinity.
        OSError, UnsafeFileError, DamagedFileError: see :mod:`ppcls_ext.weights.files.reader`.
        RecordError: if the record beside the file is damaged.
    """
    path = find_weights(path)
    if class_num is None:
        class_num = getattr(model, "class_num", None)
    facts = read_record(path)
    check_model(model, facts.arguments, path)
    file = _read_own(model, path)
    state = file.tensors
    _check_finite(path, state)
    report = load_state(model, state, class_num=class_num, adapting=True)
    problems = report.problems()
    if problems:
        raise WeightMismatchError(
            f"{path} does not fit {type(model).__name__}: {len(problems)} of its tensors differ"
            f"{_advice(model, path, report, file)}{listed(problems)}"
        )
    model.fresh_tensors = report.reinitialised
    if report.reinitialised:
        logger.warning(
            "%s has %s: %s keep their initial values (class_num is %s)",
            path,
            "no classifier" if "missing in the file" in report.reinitialised.values() else "a different class count",
            ", ".join(report.reinitialised),
            class_num,
        )
    for name, what in report.adapted.items():
        logger.warning("%s of %s: %s", name, path, what)
    if report.left_out:
        logger.warning("class_num is 0: %s of %s are left out", ", ".join(report.left_out), path)
    logger.info("Finish load pretrained model from %s: %d tensors", path, len(report.loaded))
    if facts.licence:
        logger.warning("licence of the weights in %s: %s", path, facts.licence)
    return report


def check_model(model: paddle.nn.Layer, recorded: dict, path: Union[str, Path]) -> None:
    """Check that ``model`` is the one that the weights at ``path`` belong to: tensors do not tell all arguments.

    Args:
        model: any Paddle layer; one that cannot tell its constructor arguments passes.
        recorded: constructor arguments that the weights are bound to.
        path: for the message.

    Raises:
        WeightMismatchError: with the arguments to build it with, if it is not.
    """
    config = model.config() if hasattr(model, "config") else {}
    differing = {key: value for key, value in recorded.items() if config.get(key, value) != value}
    if differing:
        given, has = as_arguments(differing), as_arguments({key: config[key] for key in differing})
        raise WeightMismatchError(
            f"{path} holds weights for a model with {given}; this {type(model).__name__} has {has}: build it with "
            f"{given} (in a config, under Arch)"
        )


def _read_own(model: paddle.nn.Layer, path: Path) -> WeightFile:
    """Return the tensors of a file in Paddle's orientation."""
    try:
        file = read_weights(path)
    except AmbiguousWeightsError as error:
        advice = _command(model, path, read_weights(path, ema=False), "--no-ema")
        raise WeightMismatchError(f"{error}{advice}") from None
    if file.format != PADDLE and not (file.format == SAFETENSORS and file.metadata.get("format") == "pd"):
        raise WeightMismatchError(
            f"{path} is a file of the format {file.format}, not one of weights for Paddle{_command(model, path, file)}"
        )
    found = [f"under {file.wrapper!r}"] if file.wrapper else []
    found += [f"without the prefix {file.prefix!r} of their names"] if file.prefix else []
    if found:
        logger.info("the weights in %s are taken %s", path, " and ".join(found))
    if file.skipped:
        logger.info("%s also holds %s, which are not read", path, ", ".join(file.skipped[:8]))
    return file


def _check_finite(path: Path, state: dict[str, np.ndarray]) -> None:
    """Refuse weights of a run that diverged.

    Raises:
        NonFiniteWeightsError: naming the tensors.
    """
    names = non_finite_names(state)
    if names:
        raise NonFiniteWeightsError(
            f"{path}: {len(names)} of its {len(state)} tensors hold NaN or infinity; the run that wrote it diverged"
            + listed(names, 8)
        )


def _advice(model: paddle.nn.Layer, path: Path, report: LoadReport, file: WeightFile) -> str:
    """Return what would help: the model that the file is for, or its conversion."""
    depths, wanted = depths_of(file.tensors), depths_of(unique_tensors(model))
    if depths and depths != wanted:
        return (
            f"; its depths are {list(depths)}, those of the model {list(wanted)}: build it with depths={list(depths)}"
        )
    return _command(model, path, file) if len(report.unexpected) > len(file.tensors) // 2 else ""


def _command(model: paddle.nn.Layer, path: Path, file: WeightFile, *options: str) -> str:
    """Return the command that converts the file for the model; it was tried in memory. "" if there is none."""
    arch = arch_of(model)
    if arch is None:
        return ""
    known = find_factory(arch).arguments
    differing = {key: value for key, value in model.config().items() if not _equal(value, known.get(key))}
    differing.pop("class_num", None)  # the file's own is kept
    bound = {key: value for key, value in differing.items() if key not in model.free_arguments}
    reason = ""
    for arguments in (bound, differing):  # the file may be of the model's channels and image size, or of the name's
        try:
            check_conversion(arch, file, arguments)
        except (ConversionError, TypeError, ValueError) as error:
            reason = reason or str(error).partition("\n")[0]
            continue
        result = path.with_name(f"{path.stem}.pdparams")
        if result.exists():
            result = path.with_name(f"{path.stem}_converted.pdparams")
        words = ["ppcls_ext", "convert", "--arch", arch, "--src", str(path), "--dst", str(result), *options]
        words += ["-o", *(f"{key}={_value(value)}" for key, value in arguments.items())] if arguments else []
        return f"; convert it: {' '.join(map(shlex.quote, words))}"
    return f"; nor can it be converted for {arch}: {reason}"


def _equal(one: object, other: object) -> bool:
    return json.dumps(one) == json.dumps(other)  # tuples and lists are alike


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _shapes(in_file: tuple, in_model: tuple) -> str:
    return f"file has shape {list(in_file)}, model has {list(in_model)}"


def _other_classifier(wrong_shape: dict, class_num: Optional[int]) -> list[str]:
    """Return the names in ``wrong_shape`` that belong to a classifier with a different number of classes.

    That is a layer with the weight of a linear layer, ``[in, classes]``, or of a 1×1 convolution,
    ``[classes, in, 1, 1]``, that differs from the file's in the number of classes alone.
    """
    if not class_num:
        return []
    found = []
    for name, (file_shape, model_shape) in wrong_shape.items():
        layer, _, kind = name.rpartition(".")
        if kind != "weight" or len(file_shape) != len(model_shape) or len(model_shape) not in (2, 4):
            continue
        axis = 0 if len(model_shape) == 4 else 1
        others_equal = all(a == b for i, (a, b) in enumerate(zip(file_shape, model_shape)) if i != axis)
        if not others_equal or model_shape[axis] != class_num:
            continue
        found.append(name)
        if wrong_shape.get(f"{layer}.bias") == ((file_shape[axis],), (class_num,)):
            found.append(f"{layer}.bias")
    return found


def _only_a_classifier(names: list[str], shapes: dict, class_num: Optional[int] = None) -> list[str]:
    """Return ``names`` if they are one linear layer (of ``class_num`` outputs) and nothing else, else nothing."""
    layers = {name.rpartition(".")[0] for name in names}
    if len(layers) != 1:
        return []
    (layer,) = layers
    weight, bias = shapes.get(f"{layer}.weight", ()), shapes.get(f"{layer}.bias")
    is_linear = len(weight) == 2 and bias in (None, tuple(weight[1:])) and class_num in (None, weight[1])
    return list(names) if is_linear and set(names) <= {f"{layer}.weight", f"{layer}.bias"} else []
