"""From a section of the configuration to datasets and loaders."""

from __future__ import annotations

import inspect
from typing import Optional, Sequence

from ppcls_ext.data.batch_ops import build_batch_transforms
from ppcls_ext.data.cifar import Cifar10, Cifar100
from ppcls_ext.data.datasets import ClassificationDataset, ImageNetDataset
from ppcls_ext.data.image_folder import ImageFolder
from ppcls_ext.data.loader import Loader
from ppcls_ext.data.sampler import EpochSampler, RASampler
from ppcls_ext.data.shards import ShardDataset, ShardSampler
from ppcls_ext.utils.spelling import nearest

MODES = ("Train", "Eval", "Test")
#: ClsDataset is PaddleX's name for ImageNetDataset.
DATASETS = {
    "ImageNetDataset": ImageNetDataset,
    "ImageFolder": ImageFolder,
    "ClsDataset": ImageNetDataset,
    "Cifar10": Cifar10,
    "Cifar100": Cifar100,
    "ShardDataset": ShardDataset,
}
SAMPLERS = {"DistributedBatchSampler": EpochSampler, "RASampler": RASampler}

#: Names that PaddleClas has and ppcls_ext has not, refused by name.
PADDLECLAS_ONLY_DATASETS = (
    "AdaFaceDataset CommonDataset CompCars CustomLabelDataset DukeMTMC FiveValidationDataset "
    "ICartoonDataset LogoDataset MLClsDataset MSMT17 Market1501 MixDataset MultiLabelDataset MultiScaleDataset "
    "PersonDataset ShiTuRecDataset VeriWild"
).split()
PADDLECLAS_ONLY_SAMPLERS = (
    "DistributedRandomIdentitySampler DomainShuffleBatchSampler MixSampler MultiScaleSampler NaiveIdentityBatchSampler "
    "PKSampler"
).split()


def dataset_arguments(name: str) -> dict[str, inspect.Parameter]:
    """Return the arguments of dataset ``name`` that a configuration may give, with their defaults.

    Raises:
        ValueError: if there is no such dataset; the nearest name is given.
    """
    if name not in DATASETS:
        raise ValueError(unknown_name("dataset", name, DATASETS, PADDLECLAS_ONLY_DATASETS))
    parameters = list(inspect.signature(DATASETS[name].__init__).parameters.items())[1:]
    return {key: value for key, value in parameters if value.kind is not value.KEYWORD_ONLY}


def unknown_name(kind: str, name, known, paddleclas_only) -> str:
    """Return the sentence that refuses ``name``."""
    if name in paddleclas_only:
        return f"{name} is a {kind} of PaddleClas that ppcls_ext does not support; it has {', '.join(known)}"
    hint = nearest(str(name), known, count=1)
    return f"unknown {kind} {name!r}; " + (f"did you mean {hint[0]!r}?" if hint else f"there are {', '.join(known)}")


def build_dataset(
    section: dict,
    mode: str,
    *,
    seed: int = 0,
    check_files: bool = True,
    class_names: Optional[Sequence[str]] = None,
) -> ClassificationDataset:
    """Build the dataset of one mode.

    Args:
        section: ``DataLoader.<mode>.dataset``: ``{name: ..., image_root: ..., ...}``; its ``batch_transform_ops`` are
            the loader's business and not looked at.
        mode: "Train" (unreadable images are left out and reported) or "Eval" or "Test" (they are errors).
        seed: of the random operators.
        check_files: look for every image file first.
        class_names: names of the classes by id in training, which number the folders of an ImageFolder.

    Raises:
        ValueError: if the section holds a mistake.
        FileNotFoundError: if the list, the folder, or an image file does not exist.
    """
    if mode not in MODES:
        raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    arguments = dict(section)
    name = arguments.pop("name", None)
    allowed = dataset_arguments(name)
    arguments.pop("batch_transform_ops", None)
    for argument in arguments:
        if argument not in allowed:
            hint = nearest(str(argument), allowed, count=1)
            known = f"did you mean {hint[0]!r}?" if hint else f"it takes {', '.join(allowed)}"
            raise ValueError(f"{name} has no argument {argument!r}; {known}")
    for argument, parameter in allowed.items():
        if parameter.default is parameter.empty and argument not in arguments:
            raise ValueError(f"{name} needs the argument {argument!r}")
    if class_names is not None and DATASETS[name] is ImageFolder:
        arguments["class_names"] = class_names
    dataset = DATASETS[name](**arguments, skip_bad=mode == "Train", seed=seed)
    if check_files:
        dataset.check_files()
    return dataset


def build_dataloader(
    section: dict,
    mode: str,
    *,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    places=None,
    class_num: Optional[int] = None,
    class_names: Optional[Sequence[str]] = None,
) -> Loader:
    """Build the loader of one mode and rank.

    Args:
        section: ``DataLoader.<mode>``: ``{dataset, sampler, loader}``. ``sampler.batch_size`` is per process.
        mode: "Train", "Eval" or "Test".
        seed: of order and augmentation; the same on all ranks.
        rank: this process.
        world_size: number of processes.
        places: device for the tensors, default Paddle's current one.
        class_num: number of classes; batch operators need it.
        class_names: see :func:`build_dataset`.

    Raises:
        ValueError: if the section holds a mistake.
        FileNotFoundError: if the list, the folder, or an image file does not exist.
    """
    dataset = build_dataset(section["dataset"], mode, seed=seed, class_names=class_names)
    if rank == 0:
        dataset.describe()
    batch_ops = section["dataset"].get("batch_transform_ops")
    if batch_ops and mode != "Train":
        raise ValueError(f"batch_transform_ops: expected none in {mode}, mixed images and labels cannot be evaluated")
    if dataset.token_labels is not None and mode != "Train":
        raise ValueError(f"token_label: expected none in {mode}, only training has labels of tokens")
    batch_transforms = build_batch_transforms(batch_ops, class_num, seed, rank, dataset.token_labels)
    name, options = sampler_options(section.get("sampler") or {}, mode)
    if mode != "Train":
        options["exact"] = True
    options.update(seed=seed, rank=rank, world_size=world_size)
    if isinstance(dataset, ShardDataset):
        if name != "DistributedBatchSampler":
            raise ValueError(f"sampler.name: {name} jumps between shards; expected DistributedBatchSampler")
        sampler = ShardSampler(
            dataset.shard_lengths, buffer=dataset.shuffle_buffer, fingerprint=dataset.fingerprint, **options
        )
    else:
        sampler = SAMPLERS[name](len(dataset), **options)
    loader = dict(section.get("loader") or {})
    num_workers = loader.pop("num_workers", 0)
    use_shared_memory = loader.pop("use_shared_memory", True)
    normalize_on_device = loader.pop("normalize_on_device", False)
    if loader:
        known = "num_workers, use_shared_memory, normalize_on_device"
        raise ValueError(f"loader: unknown key {next(iter(loader))!r}; it takes {known}")
    if isinstance(num_workers, bool) or not isinstance(num_workers, int) or num_workers < 0:
        raise ValueError(f"loader.num_workers: expected an integer of at least 0, got {num_workers!r}")
    return Loader(
        dataset,
        sampler,
        min(num_workers, len(sampler)),
        bool(use_shared_memory),
        places,
        batch_transforms,
        bool(normalize_on_device),
    )


def sampler_options(section: dict, mode: str) -> tuple[str, dict]:
    """Return the name and the options of a ``sampler`` section. A missing name means the usual sampler.

    Raises:
        ValueError: if a name, key or value is wrong.
    """
    options = {"batch_size": None, "shuffle": mode == "Train", "drop_last": False}
    section = dict(section)
    name = section.pop("name", "DistributedBatchSampler")
    if name not in SAMPLERS:
        raise ValueError(unknown_name("sampler", name, SAMPLERS, PADDLECLAS_ONLY_SAMPLERS))
    if name == "RASampler":
        if mode != "Train":
            raise ValueError(f"sampler.name: RASampler repeats images; expected DistributedBatchSampler in {mode}")
        options["num_repeats"] = 3
    for key, value in section.items():
        if key not in options:
            hint = nearest(str(key), options, count=1)
            known = f"did you mean {hint[0]!r}?" if hint else f"it takes {', '.join(options)}"
            raise ValueError(f"sampler: unknown key {key!r}; {known}")
        options[key] = value
    for key in ("batch_size", "num_repeats"):
        size = options.get(key, 1)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"sampler.{key}: expected an integer of at least 1, got {size!r}")
    for key in ("shuffle", "drop_last"):
        if not isinstance(options[key], bool):
            raise ValueError(f"sampler.{key}: expected True or False, got {options[key]!r}")
    return name, options
