"""From ``transform_ops`` of a YAML file to a checked chain of operators."""

from __future__ import annotations

import inspect
import traceback
from typing import Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.errors import DecodeError, TransformError
from ppcls_ext.data.preprocess.auto_augment import AutoAugment
from ppcls_ext.data.preprocess.building import OperatorProblem, arguments_of, build_operator, one_key
from ppcls_ext.data.preprocess.color_jitter import ColorJitter
from ppcls_ext.data.preprocess.crop import CropImage, RandCropImage
from ppcls_ext.data.preprocess.decode import DecodeImage
from ppcls_ext.data.preprocess.flip import RandFlipImage
from ppcls_ext.data.preprocess.geometry import chained, noting
from ppcls_ext.data.preprocess.normalize import NormalizeImage, ToCHWImage
from ppcls_ext.data.preprocess.operator import CHW, FLOAT32, HWC, UINT8, Operator
from ppcls_ext.data.preprocess.pad import Pad
from ppcls_ext.data.preprocess.pca_lighting import PCALighting
from ppcls_ext.data.preprocess.rand_augment import RandAugment, RandAugmentV3
from ppcls_ext.data.preprocess.random_erasing import RandomErasing
from ppcls_ext.data.preprocess.resize import ResizeImage
from ppcls_ext.data.preprocess.rotation import RandomRotation
from ppcls_ext.data.preprocess.shape import ImageShape
from ppcls_ext.data.preprocess.timm_auto_augment import TimmAutoAugment
from ppcls_ext.utils.spelling import nearest

OPERATORS = {
    operator.__name__: operator
    for operator in (
        DecodeImage,
        ResizeImage,
        CropImage,
        RandCropImage,
        RandFlipImage,
        ColorJitter,
        RandomRotation,
        Pad,
        AutoAugment,
        RandAugment,
        RandAugmentV3,
        TimmAutoAugment,
        NormalizeImage,
        PCALighting,
        RandomErasing,
        ToCHWImage,
    )
}

#: Operators that PaddleClas has and ppcls_ext has not, refused by name.
PADDLECLAS_ONLY = (
    "AugMix CenterCrop CropImageAtRatio CropWithPadding Cutout GridMask HideAndSeek Normalize Padv2 "
    "RandAugmentV2 RandAugmentV4 RandCropImageV2 RandomApply RandomCropImage RandomGrayscale "
    "RandomHorizontalFlip RandomInterpolationAugment RandomResizedCrop RandomRot90 Resize ToTensor"
).split()


def operator_arguments(name: str) -> dict[str, inspect.Parameter]:
    """Return the arguments of operator ``name``, in order, with their defaults.

    Raises:
        KeyError: if there is no such operator; the nearest name is given.
    """
    if name not in OPERATORS:
        raise KeyError(_unknown(name))
    return arguments_of(OPERATORS[name])


def check_transform_ops(
    transform_ops: Optional[Sequence[dict]], from_bytes: bool = False, size: Optional[tuple[int, int]] = None
) -> list[OperatorProblem]:
    """Return every mistake in ``transform_ops``: names, arguments, values, and what one operator hands to the next.

    That is the order of axes, bytes or normalised pixels, channels, and sizes as far as they do not depend on the
    image.

    Args:
        transform_ops: list of one-key mappings ``{operator: {argument: value}}``, as in YAML.
        from_bytes: whether the chain starts from a file's bytes, so that DecodeImage must come first (a dataset).
        size: (width, height) of the images, where all have the same.
    """
    return _build(transform_ops, from_bytes, size)[1]


def shapes_after(transform_ops: Optional[Sequence[dict]], size: Optional[tuple[int, int]] = None) -> list[ImageShape]:
    """Return what is known of an image's shape after each operator, without an image.

    Args:
        transform_ops: a list in which :func:`check_transform_ops` finds no mistake.
        size: as there.
    """
    shapes = []
    shape = _first_shape(size)
    for operator in build_transforms(transform_ops, size=size).operators:
        shape = operator.shape_after(shape)
        shapes.append(shape)
    return shapes


def build_transforms(
    transform_ops: Optional[Sequence[dict]], from_bytes: bool = False, size: Optional[tuple[int, int]] = None
) -> Pipeline:
    """Build the chain of operators.

    Args:
        transform_ops: list of one-key mappings ``{operator: {argument: value}}``, as in YAML.
        from_bytes: as in :func:`check_transform_ops`.
        size: as in :func:`check_transform_ops`.

    Raises:
        ValueError: with every mistake that :func:`check_transform_ops` finds.
    """
    operators, problems = _build(transform_ops, from_bytes, size)
    if problems:
        raise ValueError("\n".join(str(problem) for problem in problems))
    return Pipeline(operators)


class Pipeline:
    """A chain of operators: ``pipeline(image, rng=None) -> array``.

    ``layout`` is the axis order of what comes out, "HWC" or "CHW".
    """

    def __init__(self, operators: Sequence[Operator]):
        self.operators = list(operators)
        self.layout = HWC
        for operator in self.operators:
            self.layout = operator.layout_out or self.layout

    def split_normalization(self) -> tuple[Pipeline, Optional[NormalizeImage]]:
        """Return the chain up to a NormalizeImage at its end, whose results are bytes, and NormalizeImage.

        ToCHWImage may follow it. Where there is none, or it appends a channel or does not take bytes (being a second
        one), that is the whole chain and None.
        """
        steps = self.operators[:-1] if self.operators and isinstance(self.operators[-1], ToCHWImage) else self.operators
        last = steps[-1] if steps else None
        takes_bytes = all(operator.dtype_out != FLOAT32 for operator in steps[:-1])
        if isinstance(last, NormalizeImage) and last.channel_num == 3 and takes_bytes:
            return Pipeline(steps[:-1]), last
        return self, None

    def __call__(self, image: Union[bytes, np.ndarray], rng: Optional[np.random.Generator] = None) -> np.ndarray:
        """Run all operators in turn.

        Args:
            image: the bytes of a file, or an array ``[height, width, 3]``, uint8, in OpenCV's order (BGR) if the
                first operator is DecodeImage, else as the second operator wants it.
            rng: where random operators draw from.

        Raises:
            DecodeError: if the bytes are not a readable image.
            TransformError: if any other operator fails; the message names it and holds the traceback.
        """
        return self._run(image, rng, 0, len(self.operators))

    def _run(
        self, image: Union[bytes, np.ndarray], rng: Optional[np.random.Generator], start: int, stop: int
    ) -> np.ndarray:
        for position, operator in enumerate(self.operators[start:stop], start):
            try:
                image = operator(image, rng)
            except DecodeError:
                raise
            except Exception as error:  # reported with the operator
                where = f"operator {position} ({type(operator).__name__})"
                raise TransformError(f"{where}: {error}\n{traceback.format_exc()}") from error
        return image

    def traced(
        self, image: Union[bytes, np.ndarray], rng: Optional[np.random.Generator] = None
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Run all operators, the first of which decodes, and say where the result's pixels come from.

        Returns:
            The result of the call; its map to the decoded image, see :mod:`ppcls_ext.data.preprocess.geometry`; and the
            decoded image's (width, height).
        """
        decoded = self._run(image, rng, 0, 1)
        with noting() as maps:
            result = self._run(decoded, rng, 1, len(self.operators))
        height, width = decoded.shape[:2] if self.operators[0].layout_out == HWC else decoded.shape[1:]
        return result, chained(maps), (width, height)


def _first_shape(size: Optional[tuple[int, int]]) -> ImageShape:
    return ImageShape() if size is None else ImageShape().sized(*size)


def _build(
    transform_ops: Optional[Sequence[dict]], from_bytes: bool, size: Optional[tuple[int, int]]
) -> tuple[list[Operator], list[OperatorProblem]]:
    if transform_ops is None:
        transform_ops = []
    if not isinstance(transform_ops, (list, tuple)):
        return [], [OperatorProblem("", f"expected a list of operators, got {type(transform_ops).__name__}")]
    operators, problems, layout, dtype = [], [], HWC, UINT8
    shape: Optional[ImageShape] = _first_shape(size)
    for position, item in enumerate(transform_ops):
        operator, found = _build_one(position, item)
        problems.extend(found)
        if operator is None:
            shape = None
            continue
        if operator.layout_in not in (None, layout):
            problems.append(_layout_problem(position, operator, layout))
        if operator.dtype_in not in (None, dtype):
            problems.append(_dtype_problem(position, operator))
        try:
            shape = None if shape is None else operator.shape_after(shape)
        except ValueError as error:
            problems.append(OperatorProblem(f"{position}.{type(operator).__name__}", str(error)))
            shape = None
        layout = operator.layout_out or layout
        dtype = operator.dtype_out or dtype
        operators.append(operator)
    if from_bytes and not problems and not (operators and isinstance(operators[0], DecodeImage)):
        problems.append(OperatorProblem("0", "the first operator must be DecodeImage, since images come as files"))
    return operators, problems


def _build_one(position: int, item: dict) -> tuple[Optional[Operator], list[OperatorProblem]]:
    name, arguments, problem = one_key(position, item, "transform_ops")
    if problem:
        return None, [problem]
    return build_operator(f"{position}.{name}", name, arguments, OPERATORS, _unknown)


def _unknown(name: str) -> str:
    if name in PADDLECLAS_ONLY:
        return f"{name} is an operator of PaddleClas that ppcls_ext does not support; it has {', '.join(OPERATORS)}"
    hint = nearest(str(name), OPERATORS, count=1)
    return f"unknown operator {name!r}" + (
        f"; did you mean {hint[0]!r}?" if hint else f"; there are {', '.join(OPERATORS)}"
    )


def _layout_problem(position: int, operator: Operator, layout: str) -> OperatorProblem:
    name = type(operator).__name__
    if isinstance(operator, NormalizeImage):
        advice = "write order: ''" if layout == HWC else "write order: 'chw'"
    elif layout == CHW:
        advice = "put it before ToCHWImage, and leave DecodeImage's channel_first False"
    else:
        advice = "put ToCHWImage before it"
    return OperatorProblem(f"{position}.{name}", f"needs {operator.layout_in} but the image is {layout} here; {advice}")


def _dtype_problem(position: int, operator: Operator) -> OperatorProblem:
    name = type(operator).__name__
    if operator.dtype_in == FLOAT32:
        what = f"mode: {operator.mode!r} draws" if isinstance(operator, RandomErasing) else "draws"
        message = f"{what} in units of a normalised image; put NormalizeImage before {name}"
    else:
        message = "needs pixels from 0 to 255; put it before NormalizeImage"
    return OperatorProblem(f"{position}.{name}", message)
