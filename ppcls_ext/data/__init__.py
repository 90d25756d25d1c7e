"""Datasets, preprocessing, samplers and loaders, in PaddleClas's schema."""

from ppcls_ext.data.build import build_dataloader, build_dataset
from ppcls_ext.data.cifar import Cifar10, Cifar100
from ppcls_ext.data.class_names import class_names_of
from ppcls_ext.data.datasets import ImageNetDataset
from ppcls_ext.data.errors import (
    BadImageError,
    DataFileError,
    DecodeError,
    LabelFileError,
    TransformError,
    WorkerDiedError,
)
from ppcls_ext.data.image_folder import ImageFolder, label_file_problem
from ppcls_ext.data.loader import Loader
from ppcls_ext.data.preprocess import build_transforms, check_transform_ops, operator_arguments
from ppcls_ext.data.sample import BadImage, Batch, Sample
from ppcls_ext.data.summary import LabelSummary, inspect_labels

__all__ = [
    "BadImage",
    "BadImageError",
    "Batch",
    "Cifar10",
    "Cifar100",
    "DataFileError",
    "DecodeError",
    "ImageFolder",
    "ImageNetDataset",
    "LabelFileError",
    "LabelSummary",
    "Loader",
    "Sample",
    "TransformError",
    "WorkerDiedError",
    "build_dataloader",
    "build_dataset",
    "build_transforms",
    "check_transform_ops",
    "class_names_of",
    "inspect_labels",
    "label_file_problem",
    "operator_arguments",
]
