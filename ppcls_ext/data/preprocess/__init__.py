"""Preprocessing operators with PaddleClas's names, arguments, defaults and results."""

from ppcls_ext.data.preprocess.crop import CropImage, RandCropImage
from ppcls_ext.data.preprocess.decode import DecodeImage
from ppcls_ext.data.preprocess.flip import RandFlipImage
from ppcls_ext.data.preprocess.normalize import NormalizeImage, ToCHWImage
from ppcls_ext.data.preprocess.operator import CHW, HWC, Operator
from ppcls_ext.data.preprocess.pipeline import (
    OPERATORS,
    PADDLECLAS_ONLY,
    OperatorProblem,
    Pipeline,
    build_transforms,
    check_transform_ops,
    operator_arguments,
)
from ppcls_ext.data.preprocess.resize import ResizeImage

__all__ = [
    "CHW",
    "HWC",
    "OPERATORS",
    "PADDLECLAS_ONLY",
    "CropImage",
    "DecodeImage",
    "NormalizeImage",
    "Operator",
    "OperatorProblem",
    "Pipeline",
    "RandCropImage",
    "RandFlipImage",
    "ResizeImage",
    "ToCHWImage",
    "build_transforms",
    "check_transform_ops",
    "operator_arguments",
]
