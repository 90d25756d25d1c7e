"""From a section of the configuration to datasets and loaders."""

from __future__ import annotations

import inspect
from typing import Any, Optional, Sequence, Type

from ppcls_ext.data.batch_ops import build_batch_transforms
from ppcls_ext.data.cifar import Cifar10, Cifar100
from ppcls_ext.data.class_sampler import ClassBalancedSampler, RepeatFactorSampler
from ppcls_ext.data.datasets import ClassificationDataset, ImageNetDataset
from ppcls_ext.data.image_folder import ImageFolder
from ppcls_ext.data.loader import Loader
from ppcls_ext.data.multi_scale import MultiScaleDataset, multi_scale_problem
from ppcls_ext.data.sampler import EpochSampler, MultiScaleSampler, RASampler, checked_scales
from ppcls_ext.data.shards import ShardDataset, ShardSampler
from ppcls_ext.utils.spelling import nearest

MAX_WORKERS = 1024
MODES = ("Train", "Eval", "Test")
#: ClsDataset is PaddleX's name for ImageNetDataset.
DATASETS: dict[str, Type[ClassificationDataset]] = {
    "ImageNetDataset": ImageNetDataset,
    "ClsDataset": ImageNetDataset,
    "ImageFolder": ImageFolder,
    "Cifar10": Cifar10,
    "Cifar100": Cifar100,
    "ShardDataset": ShardDataset,
    "MultiScaleDataset": MultiScaleDataset,
}
SAMPLERS = {
    "DistributedBatchSampler": EpochSampler,
    "RASampler": RASampler,
    "MultiScaleSampler": MultiScaleSampler,
    "ClassBalancedSampler": ClassBalancedSampler,
    "RepeatFactorSampler": RepeatFactorSampler,
}
#: Those that repeat images, for training alone, and jump between shards.
REPEATING = ("RASampler", "MultiScaleSampler", "ClassBalancedSampler", "RepeatFactorSampler")
#: Those that look at the labels.
BY_CLASS = ("ClassBalancedSampler", "RepeatFactorSampler")
#: The options of each sampler with their defaults; None means required.
SAMPLER_OPTIONS: dict[str, dict[str, Any]] = {
    "DistributedBatchSampler": {"batch_size": None, "shuffle": False, "drop_last": False},
    "RASampler": {"batch_size": None, "shuffle": False, "drop_last": False, "num_repeats": 3},
    "MultiScaleSampler": {"scales": None, "first_bs": None, "divided_factor": 32, "is_training": True},
    "ClassBalancedSampler": {"batch_size": None, "drop_last": False},
    "RepeatFactorSampler": {"batch_size": None, "drop_last": False, "repeat_threshold": None},
}

#: Names that PaddleClas has and ppcls_ext has not, refused by name.
PADDLECLAS_ONLY_DATASETS = (
    "AdaFaceDataset CommonDataset CompCars CustomLabelDataset DukeMTMC FiveValidationDataset ICartoonDataset "
    "LogoDataset MLClsDataset MSMT17 Market1501 MixDataset MultiLabelDataset PersonAttribute PersonDataset "
    "ShiTuRecDataset VeriWild"
).split()
PADDLECLAS_ONLY_SAMPLERS = (
    "DistributedRandomIdentitySampler DomainShuffleBatchSampler MixSampler NaiveIdentityBatchSampler PKSampler"
).split()


def dataset_arguments(name: str) -> dict[str, inspect.Parameter]:
    """Return the arguments of dataset ``name`` that a configuration may give, with their defaults.

    Raises:
        ValueError: if there is no such dataset; the nearest name is given.
    """
    if not isinstance(name, str) or name not in DATASETS:
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
    name, options = sampler_options(section.get("sampler") or {}, mode)
    problems = sampler_problems(section, mode)
    if problems:
        raise ValueError("\n".join(f"{key}: {message}" for key, message in problems))
    dataset = build_dataset(section["dataset"], mode, seed=seed, class_names=class_names)
    if rank == 0:
        dataset.describe()
    batch_ops = section["dataset"].get("batch_transform_ops")
    if dataset.token_labels is not None and mode != "Train":
        raise ValueError(f"token_label: expected none in {mode}, only training has labels of tokens")
    batch_transforms = build_batch_transforms(batch_ops, class_num, seed, rank, dataset.token_labels)
    if mode != "Train":
        options["exact"] = True
    options.update(seed=seed, rank=rank, world_size=world_size)
    if isinstance(dataset, ShardDataset):
        sampler = ShardSampler(
            dataset.shard_lengths, buffer=dataset.shuffle_buffer, fingerprint=dataset.fingerprint, **options
        )
    else:
        sampler = SAMPLERS[name](dataset.labels if name in BY_CLASS else len(dataset), **options)
    loader = dict(section.get("loader") or {})
    num_workers = loader.pop("num_workers", 0)
    use_shared_memory = loader.pop("use_shared_memory", True)
    normalize_on_device = loader.pop("normalize_on_device", False)
    if loader:
        known = "num_workers, use_shared_memory, normalize_on_device"
        raise ValueError(f"loader: unknown key {next(iter(loader))!r}; it takes {known}")
    if isinstance(num_workers, bool) or not isinstance(num_workers, int) or not 0 <= num_workers <= MAX_WORKERS:
        raise ValueError(f"loader.num_workers: expected an integer from 0 to {MAX_WORKERS}, got {num_workers!r}")
    return Loader(
        dataset,
        sampler,
        min(num_workers, len(sampler)),
        bool(use_shared_memory),
        places,
        batch_transforms,
        bool(normalize_on_device),
    )


def sampler_problems(section: dict, mode: str) -> list[tuple[str, str]]:
    """Return every mistake in what a mode's dataset and sampler say together, as (key below the mode, message).

    Args:
        section: ``DataLoader.<mode>``; names and types of its keys are right.
        mode: "Train", "Eval" or "Test".
    """
    sampler, dataset = section.get("sampler") or {}, section["dataset"]
    name, source = sampler.get("name", "DistributedBatchSampler"), dataset.get("name")
    problems = []
    if name in REPEATING and mode != "Train":
        problems.append(("sampler.name", f"{name} repeats images; expected DistributedBatchSampler in {mode}"))
    if name in REPEATING and source == "ShardDataset":
        problems.append(("sampler.name", f"{name} jumps between shards; expected DistributedBatchSampler"))
    elif name == "MultiScaleSampler" and source != "MultiScaleDataset":
        problems.append(("sampler.name", f"MultiScaleSampler needs dataset.name: MultiScaleDataset, got {source}"))
    if source == "MultiScaleDataset" and mode == "Train" and name != "MultiScaleSampler":
        problems.append(("dataset.name", f"MultiScaleDataset needs sampler.name: MultiScaleSampler, got {name}"))
    if source == "MultiScaleDataset":
        problem = multi_scale_problem(dataset.get("transform_ops"))
        problems.extend([("dataset.transform_ops", problem)] if problem else [])
    known = SAMPLER_OPTIONS.get(name, {})
    for key in dict.fromkeys(key for options in SAMPLER_OPTIONS.values() for key in options):
        if key == "shuffle" and name in BY_CLASS:
            continue  # they are, whether it says so or not
        if sampler.get(key) not in (None, False) and key not in known:
            owners = [other for other, options in SAMPLER_OPTIONS.items() if key in options]
            problems.append((f"sampler.{key}", f"needs sampler.name: {' or '.join(owners)}"))
    for key, default in known.items():
        if default is None and sampler.get(key) is None:
            problems.append((f"sampler.{key}", f"the key is missing; {name} needs it"))
    threshold = sampler.get("repeat_threshold")
    if name == "RepeatFactorSampler" and threshold is not None and not 0 < threshold <= 1:
        problems.append(("sampler.repeat_threshold", f"expected a share in (0, 1], got {threshold}"))
    if name in BY_CLASS and sampler.get("shuffle") is False:
        problems.append(("sampler.shuffle", f"{name} draws at random; remove the key"))
    if name == "MultiScaleSampler" and sampler.get("scales") is not None:
        try:
            checked_scales(sampler["scales"], sampler.get("divided_factor") or 32)
        except (TypeError, ValueError) as error:
            problems.append(("sampler.scales", str(error)))
    if dataset.get("batch_transform_ops") and mode != "Train":
        problems.append(("dataset.batch_transform_ops", "mixed images and labels cannot be evaluated; remove it"))
    return problems


def sampler_options(section: dict, mode: str) -> tuple[str, dict]:
    """Return the name and the options of a ``sampler`` section. A missing name means the usual sampler.

    Raises:
        ValueError: if a name, key or value is wrong.
    """
    section = dict(section)
    name = section.pop("name", "DistributedBatchSampler")
    if not isinstance(name, str) or name not in SAMPLERS:
        raise ValueError(unknown_name("sampler", name, SAMPLERS, PADDLECLAS_ONLY_SAMPLERS))
    options = dict(SAMPLER_OPTIONS[name])
    if "shuffle" in options:
        options["shuffle"] = mode == "Train"
    others = {key for table in SAMPLER_OPTIONS.values() for key in table} - set(options)
    for key, value in section.items():
        if key == "shuffle" and name in BY_CLASS and value is True:
            continue
        if key in others and value in (None, False):  # a default that has no effect
            continue
        if key not in options:
            hint = nearest(str(key), options, count=1)
            known = f"did you mean {hint[0]!r}?" if hint else f"it takes {', '.join(options)}"
            raise ValueError(f"sampler: unknown key {key!r}; {known}")
        options[key] = value
    for key in ("batch_size", "num_repeats", "first_bs", "divided_factor"):
        size = options.get(key, 1)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"sampler.{key}: expected an integer of at least 1, got {size!r}")
    for key in ("shuffle", "drop_last", "is_training"):
        if not isinstance(options.get(key, True), bool):
            raise ValueError(f"sampler.{key}: expected True or False, got {options[key]!r}")
    return name, options
