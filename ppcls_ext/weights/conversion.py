"""Converting a published file of weights for this package, and back: every tensor accounted for, and a record kept."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

import numpy as np
import paddle
from safetensors.numpy import save_file

from ppcls_ext import registry
from ppcls_ext.utils.files import write_atomically
from ppcls_ext.utils.key_rules import OURS, TORCH, Source
from ppcls_ext.utils.state_dict import non_finite_names
from ppcls_ext.version import __version__
from ppcls_ext.weights.conversion_record import ConversionRecord, file_facts, read_record, record_path
from ppcls_ext.weights.errors import ConversionError, as_arguments, short
from ppcls_ext.weights.expected import Target, depths_of, describe, variant_with_depths
from ppcls_ext.weights.files.reader import WeightFile, read_weights
from ppcls_ext.weights.remap import Renamed, choose_source, fill, named_source, publish, rename, sources_of

logger = logging.getLogger("ppcls_ext")

SUFFIXES = (".pdparams", ".safetensors")


@dataclass
class _Plan:
    """A file's tensors under the model's names, and the model that they are for."""

    renamed: Renamed
    target: Target
    source: Source
    arguments: dict
    needs: dict
    adaptation: list


def convert_file(
    arch: str,
    src: Union[str, Path],
    dst: Union[str, Path],
    source: Optional[str] = None,
    to: str = "paddle",
    backbone_only: bool = False,
    class_num: Optional[int] = None,
    ema: Optional[bool] = None,
    arguments: Optional[dict] = None,
    layout: Optional[str] = None,
) -> ConversionRecord:
    """Convert the weights in ``src`` for the backbone ``arch``, write them to ``dst`` and a record to ``<dst>.json``.

    Args:
        arch: a backbone of this package, ``Name`` or ``ppcls_ext.Name``.
        src: a file of PyTorch, safetensors, NumPy (``.npz``) or Paddle; its content tells the format.
        dst: where to write; the suffix, ``.pdparams`` or ``.safetensors``, is the format.
        source: whose key names the file has, such as ``timm``; None finds it by the keys (with ``to="torch"``: the
            family's first).
        to: ``paddle``: from a published file (or one of this package) to this package's names. ``torch``: from this
            package's names to a publisher's names in PyTorch, as safetensors.
        backbone_only: leave the classifier out.
        class_num: leave the classifier out if it has a different number of classes.
        ema: which weights, if the file holds two sets: True the moving average, False the others.
        arguments: constructor arguments, besides the name's own, of the model that the file is for.
        layout: the old name of ``source``.

    Raises:
        OSError, UnsafeFileError, DamagedFileError: see :mod:`ppcls_ext.weights.files.reader`.
        ConversionError: if the file does not fit, listing every difference.
        RecordError: if the record beside ``src`` is damaged.
        KeyError: if there is no such backbone.
        ValueError: if an argument is wrong.
    """
    src, dst = Path(src), Path(dst)
    _check_destination(src, dst, to)
    if layout is not None and source not in (None, layout):
        raise ValueError(f"source={source!r} and layout={layout!r} are two names of one argument; give one")
    source = layout if source is None else source
    family = registry.family_of(arch).name
    written = named_source(source, family) if source else sources_of(family)[0]
    if to == "torch" and written.orientation != TORCH:
        raise ValueError(f"source {written.name!r} is Paddle's; --to torch takes a source of PyTorch")
    file = read_weights(src, ema)
    try:
        plan = _plan(arch, file, OURS if to == "torch" else source, arguments, backbone_only, class_num)
        if plan.source.name == OURS:
            plan.needs = _check_recorded(src, plan.target.structure.config)
        if to == "torch":
            _check_published_form(written, plan.target.structure.config)
        arrays, types = fill(plan.renamed, plan.target, plan.source)
        shown = arrays if to == "paddle" else publish(arrays, plan.target, written)
    except ConversionError as error:
        raise ConversionError(f"{src} does not fit {arch}: {error}") from None
    diverged = non_finite_names(arrays)
    if diverged:
        names = short(", ".join(diverged))
        plan.adaptation.append(f"{len(diverged)} tensors hold NaN or infinity and cannot be used: {names}")
    shown_source = plan.source if to == "paddle" else written
    _save(shown, dst, "pd" if to == "paddle" else "pt")
    record = ConversionRecord(
        arch=registry.bare_name(arch),
        family=family,
        arguments=plan.arguments,
        needs=plan.needs,
        to=to,
        source={
            **file_facts(src),
            "format": file.format,
            "wrapper": file.wrapper,
            "prefix": file.prefix,
            "skipped": file.skipped,
        },
        layout=shown_source.name,
        depths=list(plan.target.structure.depths),
        class_num=plan.target.structure.config["class_num"],
        tensors=len(shown),
        types=types,
        dropped=plan.renamed.dropped,
        adaptation=plan.adaptation,
        licence=_licence(arch, shown_source.name),
        result=file_facts(dst),
        versions={"ppcls_ext": __version__, "paddle": paddle.__version__, "numpy": np.__version__},
    )
    record.write(record_path(dst))
    _log(record, src, dst, shown_source)
    return record


def check_conversion(arch: str, file: WeightFile, arguments: dict) -> None:
    """Convert ``file`` in memory alone, to see whether :func:`convert_file` would.

    Raises:
        ConversionError: listing every difference, if it would not.
    """
    plan = _plan(arch, file, None, arguments)
    fill(plan.renamed, plan.target, plan.source)


# ---- what the file is for ----------------------------------------------------------------------------------------


def _plan(
    arch: str,
    file: WeightFile,
    source: Optional[str] = None,
    arguments: Optional[dict] = None,
    backbone_only: bool = False,
    class_num: Optional[int] = None,
) -> _Plan:
    """Find the source of ``file`` and the model that it is for: that of ``arch``, with the file's depths and classes.

    The model is built to learn its tensors, and once more only where the file is for a different one.
    """
    arguments = dict(arguments or {})
    target = describe(arch, arguments)
    chosen = choose_source(file, registry.family_of(arch).name, target, source)
    renamed = rename(file.tensors, chosen, target)
    config = target.structure.config
    adaptation: list = []
    needs = _needs(chosen, config, arguments)
    found = {key: value for key, value in needs.items() if config[key] != value}
    if found:
        adaptation.append(f"weights of the {chosen.name} source are for a model with {as_arguments(needs)}")
    depths = depths_of(renamed.arrays)
    if depths != target.structure.depths and "depths" in config:
        _check_depths(arch, depths, target.structure.depths, arguments)
        found["depths"] = list(depths)
        adaptation.append(
            f"the file has depths {list(depths)}, {registry.bare_name(arch)} has {list(target.structure.depths)}: "
            f"build the model with depths={list(depths)}"
        )
    classes = _classes(renamed, chosen)
    left_out = [name for name in renamed.arrays if name.startswith("head.")]
    if not left_out:
        adaptation.append("the file has no classifier")
    elif backbone_only or class_num not in (None, classes):
        why = "only the backbone was asked for" if backbone_only else f"it has {classes} classes, not {class_num}"
        adaptation.append(
            f"the classifier ({', '.join(sum(map(renamed.keys.__getitem__, left_out), []))}) is left out: {why}"
        )
        classes = 0
    if classes != config["class_num"] and ("class_num" not in arguments or not classes):
        found["class_num"] = classes
    if found:
        arguments = {**arguments, **found}
        target = describe(arch, arguments)
    if "depths" in found:  # blocks are numbered by them
        renamed = rename(file.tensors, chosen, target)
    if not classes:
        renamed.remove(left_out)
    return _Plan(renamed, target, chosen, arguments, needs, adaptation)


def _needs(source: Source, config: dict, arguments: dict) -> dict:
    """Return the constructor arguments that the weights need.

    Raises:
        ConversionError: if others were asked for.
    """
    needs = source.needs(config)
    for key, value in needs.items():
        if arguments.get(key, value) != value:
            raise ConversionError(f"weights of the {source.name} source need {key}={value!r}, not {arguments[key]!r}")
    return needs


def _check_recorded(src: Path, config: dict) -> dict:
    """Return the constructor arguments to which the file beside this package's own file binds its weights.

    Raises:
        ConversionError: if they are to be read as a different model's.
    """
    recorded = read_record(src).arguments
    for key, value in recorded.items():
        if config.get(key, value) != value:
            raise ConversionError(
                f"its weights are of a model with {key}={value!r}, this one has {key}={config[key]!r}; convert it "
                f"with -o {key}={value}"
            )
    return recorded


def _check_published_form(source: Source, config: dict) -> None:
    """Refuse to write a model of one form under the names of a different one, which computes something else.

    Raises:
        ConversionError: with the argument to give, if the weights are of the source's form after all.
    """
    for key, value in source.needs(config).items():
        if config[key] != value:
            raise ConversionError(
                f"the {source.name} source is of models with {key}={value!r}, this one has {key}={config[key]!r}; "
                f"weights of the former convert with -o {key}={value}"
            )


def _check_depths(arch: str, found: tuple, expected: tuple, arguments: dict) -> None:
    """Refuse a file of a different variant, and one whose depths cannot be those of a model."""
    other = variant_with_depths(arch, found)
    if other is not None:
        raise ConversionError(f"its depths, {list(found)}, are those of {other}: use --arch {other}")
    if "depths" in arguments or len(found) != len(expected) or 0 in found:
        raise ConversionError(f"its depths are {list(found)}, those of the model are {list(expected)}")


def _classes(renamed: Renamed, source: Source) -> int:
    """Return the number of classes of the file's classifier, 0 if it has none."""
    shape = renamed.arrays["head.weight"][0].shape if "head.weight" in renamed.arrays else ()
    return shape[0 if source.orientation == TORCH else -1] if shape else 0


def _licence(arch: str, source: str) -> str:
    spec = next((spec for spec in registry.specs() if spec.name == registry.bare_name(arch)), None)
    weights = spec.weights if spec else ()
    for item in weights:
        if item.source == source:
            return item.licence
    return weights[0].licence if weights else "not known here: that of whoever published the file"


# ---- files -------------------------------------------------------------------------------------------------------


def _check_destination(src: Path, dst: Path, to: str) -> None:
    if to not in ("paddle", "torch"):
        raise ValueError(f"to must be paddle or torch, got {to!r}")
    suffixes = SUFFIXES if to == "paddle" else (".safetensors",)
    if dst.suffix not in suffixes:
        raise ValueError(f"{dst} must end in {' or '.join(suffixes)}" + (" with --to torch" if to == "torch" else ""))
    if dst.exists() and src.exists() and os.path.samefile(src, dst):
        raise ValueError(f"{dst} is the source itself; give --dst another name")
    if not dst.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {dst.parent} to write {dst.name} into")


def _save(arrays: dict[str, np.ndarray], dst: Path, format: str) -> None:
    def write(aside: Path) -> None:
        if dst.suffix == ".safetensors":
            save_file(arrays, str(aside), metadata={"format": format})
        else:
            paddle.save(arrays, str(aside))

    write_atomically(dst, write)


def _log(record: ConversionRecord, src: Path, dst: Path, source: Source) -> None:
    logger.info(
        "%s: source %s (%s), %s%s, %d tensors, depths %s, %d classes",
        src,
        source.name,
        source.publisher,
        record.source["format"],
        f", under {record.source['wrapper']}" if record.source["wrapper"] else "",
        record.tensors,
        record.depths,
        record.class_num,
    )
    for sentence in record.adaptation:
        logger.warning("%s: %s", src, sentence)
    if record.dropped:
        logger.info("%s: %d tensors hold no weights and are dropped (listed in the record)", src, len(record.dropped))
    logger.info("licence of the weights: %s", record.licence)
    logger.info("%s is written, its record is %s", dst, record_path(dst).name)
