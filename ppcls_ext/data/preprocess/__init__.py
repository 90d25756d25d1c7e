"""Preprocessing operators with PaddleClas's names, arguments, defaults and results."""

from ppcls_ext.data.preprocess.auto_augment import AutoAugment
from ppcls_ext.data.preprocess.building import OperatorProblem
from ppcls_ext.data.preprocess.color_jitter import ColorJitter
from ppcls_ext.data.preprocess.crop import CropImage, RandCropImage
from ppcls_ext.data.preprocess.decode import DecodeImage
from ppcls_ext.data.preprocess.flip import RandFlipImage
from ppcls_ext.data.preprocess.normalize import NormalizeImage, ToCHWImage
from ppcls_ext.data.preprocess.operator import CHW, HWC, Operator
from ppcls_ext.data.preprocess.pad import Pad
from ppcls_ext.data.preprocess.pca_lighting import PCALighting
from ppcls_ext.data.preprocess.pipeline import (
    OPERATORS,
    PADDLECLAS_ONLY,
    Pipeline,
    build_transforms,
    check_transform_ops,
    operator_arguments,
    shapes_after,
)
from ppcls_ext.data.preprocess.rand_augment import RandAugment, RandAugmentV3
from ppcls_ext.data.preprocess.random_erasing import RandomErasing
from ppcls_ext.data.preprocess.resize import ResizeImage
from ppcls_ext.data.preprocess.rotation import RandomRotation
from ppcls_ext.data.preprocess.shape import ImageShape
from ppcls_ext.data.preprocess.timm_auto_augment import TimmAutoAugment

__all__ = [
    "CHW",
    "HWC",
    "OPERATORS",
    "PADDLECLAS_ONLY",
    "AutoAugment",
    "ColorJitter",
    "CropImage",
    "DecodeImage",
    "ImageShape",
    "NormalizeImage",
    "Operator",
    "OperatorProblem",
    "PCALighting",
    "Pad",
    "Pipeline",
    "RandAugment",
    "RandAugmentV3",
    "RandCropImage",
    "RandFlipImage",
    "RandomErasing",
    "RandomRotation",
    "ResizeImage",
    "TimmAutoAugment",
    "ToCHWImage",
    "build_transforms",
    "check_transform_ops",
    "operator_arguments",
    "shapes_after",
]
