"""Strict loading: every tensor of the file is used, every tensor of the model is filled, or it is an error.

The exceptions are those of fine-tuning, each with a line in the log: a classifier of another class count keeps its
fresh initial values, and tensors that depend on the input's channels or size are adapted.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Union

import numpy as np
import paddle

from ppcls_ext.utils.state_dict import unique_tensors
from ppcls_ext.weights.adapt import adapt
from ppcls_ext.weights.conversion_record import as_arguments, recorded_arguments, recorded_licence
from ppcls_ext.weights.errors import listed
from ppcls_ext.weights.expected import arch_of, depths_of
from ppcls_ext.weights.files.reader import PADDLE, SAFETENSORS, find_weights, read_weights

logger = logging.getLogger("ppcls_ext")


class WeightMismatchError(ValueError):
    """The weights do not belong to the model."""


@dataclass
class LoadReport:
    """What a load did, as names of tensors."""

    loaded: list = field(default_factory=list)
    reinitialised: dict = field(default_factory=dict)  # a classifier that the file has for other classes or lacks: how
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
        adapting: also make tensors fit other input channels and another image size.

    Raises:
        WeightMismatchError: if two names of one tensor come with different values.
    """
    report = LoadReport()
    known, wrong_shape, fitting = set(), {}, []
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
            out.
        class_num: width of the model's classifier; ``None`` takes ``model.class_num`` where there is one.

    Raises:
        WeightMismatchError: listing every missing, unexpected and mis-shaped tensor; or with the command that converts
            the file, if it is not one of Paddle; or if its record asks for constructor arguments that the model lacks.
        FileNotFoundError, UnsafeFileError, DamagedFileError: see :mod:`ppcls_ext.weights.files.reader`.
    """
    path = find_weights(path)
    if class_num is None:
        class_num = getattr(model, "class_num", None)
    check_model(model, recorded_arguments(path), path)
    state = _read_own(model, path)
    report = load_state(model, state, class_num=class_num, adapting=True)
    problems = report.problems()
    if problems:
        raise WeightMismatchError(
            f"{path} does not fit {type(model).__name__}: {len(problems)} of its tensors differ"
            f"{_advice(model, path, report, state)}{listed(problems)}"
        )
    model.fresh_tensors = report.reinitialised
    if report.reinitialised:
        logger.warning(
            "%s has %s: %s keep their initial values (class_num is %s)",
            path,
            "no classifier" if "missing in the file" in report.reinitialised.values() else "another class count",
            ", ".join(report.reinitialised),
            class_num,
        )
    for name, what in report.adapted.items():
        logger.warning("%s of %s: %s", name, path, what)
    if report.left_out:
        logger.warning("class_num is 0: %s of %s are left out", ", ".join(report.left_out), path)
    logger.info("Finish load pretrained model from %s: %d tensors", path, len(report.loaded))
    licence = recorded_licence(path)
    if licence:
        logger.warning("licence of the weights in %s: %s", path, licence)
    return report


def check_model(model: paddle.nn.Layer, recorded: dict, path: Union[str, Path]) -> None:
    """Check that ``model`` is the one that the weights at ``path`` are of: tensors do not tell all arguments.

    Args:
        model: any Paddle layer; one that cannot tell its constructor arguments passes.
        recorded: constructor arguments that the weights are bound to.
        path: for the message.

    Raises:
        WeightMismatchError: with the arguments to build it with, if it is another.
    """
    config = model.config() if hasattr(model, "config") else {}
    differing = {key: value for key, value in recorded.items() if config.get(key, value) != value}
    if differing:
        given, has = as_arguments(differing), as_arguments({key: config[key] for key in differing})
        raise WeightMismatchError(
            f"{path} holds weights for a model with {given}; this {type(model).__name__} has {has}: build it with "
            f"{given} (in a config, under Arch)"
        )


def _read_own(model: paddle.nn.Layer, path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file that is in Paddle's orientation and holds nothing else."""
    file = read_weights(path)
    converted = file.format == SAFETENSORS and file.metadata.get("format") == "pd"
    if converted or (file.format == PADDLE and not (file.wrapper or file.prefix or file.skipped)):
        return file.tensors
    beside = f", with {', '.join(file.skipped[:4])} beside the weights" if file.skipped else ""
    raise WeightMismatchError(
        f"{path} is a file of the format {file.format}{beside}, not one of weights for Paddle alone"
        + _command(model, path)
    )


def _advice(model: paddle.nn.Layer, path: Path, report: LoadReport, state: dict) -> str:
    """Return what would help, where the differences tell: other depths, or another layout."""
    depths, wanted = depths_of(state), depths_of(unique_tensors(model))
    if depths != wanted and depths:
        return (
            f"; its depths are {list(depths)}, those of the model {list(wanted)}: build it with depths={list(depths)}"
        )
    return _command(model, path) if len(report.unexpected) > len(state) // 2 else ""


def _command(model: paddle.nn.Layer, path: Path) -> str:
    """Return how to convert the file, if the model is one of ours."""
    arch = arch_of(model)
    if arch is None:
        return ""
    result = path.with_name(f"{path.stem}{'_converted' if path.suffix == '.pdparams' else ''}.pdparams")
    return f"; convert it: python tools/convert_weights.py --arch {arch} --src {path} --dst {result}"


def _shapes(in_file: tuple, in_model: tuple) -> str:
    return f"file has shape {list(in_file)}, model has {list(in_model)}"


def _other_classifier(wrong_shape: dict, class_num: Optional[int]) -> list[str]:
    """Return the names in ``wrong_shape`` that belong to a classifier of another class count.

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
