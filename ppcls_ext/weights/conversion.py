"""Converting a published file of weights into one of ours, and back: every tensor accounted for, and a record kept."""

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
from ppcls_ext.version import __version__
from ppcls_ext.weights.conversion_record import ConversionRecord, file_facts, record_path, recorded_arguments
from ppcls_ext.weights.errors import ConversionError
from ppcls_ext.weights.expected import Target, bare_name, depths_of, describe, family_of, variant_with_depths
from ppcls_ext.weights.files.reader import WeightFile, read_weights
from ppcls_ext.weights.key_rules import OURS, TORCH, Layout
from ppcls_ext.weights.remap import Source, choose_layout, fill, named_layout, publish, rename
from ppcls_ext.weights.sources import layouts_of

logger = logging.getLogger("ppcls_ext")

SUFFIXES = (".pdparams", ".safetensors")


@dataclass
class _Plan:
    """A file's tensors under our names, and the model that they are for."""

    source: Source
    target: Target
    layout: Layout
    arguments: dict
    needs: dict
    adaptation: list


def convert_file(
    arch: str,
    src: Union[str, Path],
    dst: Union[str, Path],
    layout: Optional[str] = None,
    to: str = "paddle",
    backbone_only: bool = False,
    class_num: Optional[int] = None,
    ema: Optional[bool] = None,
    arguments: Optional[dict] = None,
) -> ConversionRecord:
    """Convert the weights in ``src`` for the backbone ``arch``, write them to ``dst`` and a record to ``<dst>.json``.

    Args:
        arch: a backbone of ours, ``Name`` or ``ppcls_ext.Name``.
        src: a file of PyTorch, safetensors, NumPy (``.npz``) or Paddle; the format is told by its content.
        dst: where to write; the suffix, ``.pdparams`` or ``.safetensors``, is the format.
        layout: the layout of the file in PyTorch's world; None finds it by the keys (with ``to="torch"``: the
            family's first).
        to: ``paddle``: from a published file (or one of ours) to ours. ``torch``: from ours to PyTorch's names and
            orientation, as safetensors.
        backbone_only: leave the classifier out.
        class_num: leave the classifier out if it has another number of classes.
        ema: which weights, if the file holds two sets: True the moving average, False the others.
        arguments: constructor arguments, besides the name's own, of the model that the file is for.

    Raises:
        FileNotFoundError, UnsafeFileError, DamagedFileError: see :mod:`ppcls_ext.weights.files.reader`.
        ConversionError: if the file does not fit, listing every difference.
        KeyError: if there is no such backbone.
        ValueError: if an argument is wrong.
    """
    src, dst = Path(src), Path(dst)
    _check_destination(src, dst, to)
    family = family_of(arch)
    written = named_layout(layout, family, layouts_of(family)) if layout else layouts_of(family)[0]
    if to == "torch" and written.orientation != TORCH:
        raise ValueError(f"layout {written.name!r} is Paddle's; --to torch takes a layout of PyTorch")
    file = read_weights(src, ema)
    try:
        source_layout = OURS if to == "torch" else layout
        plan = _plan(arch, family, file, source_layout, dict(arguments or {}), backbone_only, class_num)
        if plan.layout.name == OURS:
            plan.needs = _check_recorded(src, plan.target.structure.config)
        if to == "torch":
            _check_published_form(written, plan.target.structure.config)
        arrays, types = fill(plan.source, plan.target, plan.layout)
        shown = arrays if to == "paddle" else publish(arrays, plan.target, written)
    except ConversionError as error:
        raise ConversionError(f"{src} does not fit {arch}: {error}") from None
    shown_layout = plan.layout if to == "paddle" else written
    _save(shown, dst, "pd" if to == "paddle" else "pt")
    record = ConversionRecord(
        arch=bare_name(arch),
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
        layout=shown_layout.name,
        depths=list(plan.target.structure.depths),
        class_num=plan.target.structure.config["class_num"],
        tensors=len(shown),
        types=types,
        dropped=plan.source.dropped,
        adaptation=plan.adaptation,
        licence=_licence(arch, shown_layout.name),
        result=file_facts(dst),
        versions={"ppcls_ext": __version__, "paddle": paddle.__version__, "numpy": np.__version__},
    )
    record.write(record_path(dst))
    _log(record, src, dst, shown_layout)
    return record


# ---- what the file is for ----------------------------------------------------------------------------------------


def _plan(
    arch: str,
    family: str,
    file: WeightFile,
    layout: Optional[str],
    arguments: dict,
    backbone_only: bool,
    class_num: Optional[int],
) -> _Plan:
    """Find the layout of ``file`` and the model that it is for: that of ``arch``, as deep and with as many classes."""
    target = describe(arch, arguments)
    chosen = choose_layout(file, family, target, layout)
    adaptation: list = []
    needs = _needs(chosen, target.structure.config, arguments)
    if any(target.structure.config[key] != value for key, value in needs.items()):
        given = ", ".join(f"{key}={value!r}" for key, value in needs.items())
        adaptation.append(f"weights of the {chosen.name} layout are for a model with {given}")
        arguments = {**arguments, **needs}
        target = describe(arch, arguments)
    source = rename(file.tensors, chosen, target)
    config = target.structure.config
    found = {}
    depths = depths_of(source.arrays)
    if depths != target.structure.depths and "depths" in config:
        _check_depths(arch, depths, target.structure.depths, arguments)
        found["depths"] = list(depths)
        adaptation.append(
            f"the file has depths {list(depths)}, {bare_name(arch)} has {list(target.structure.depths)}: build the "
            f"model with depths={list(depths)}"
        )
    classes = _classes(source, chosen)
    left_out = [name for name in source.arrays if name.startswith("head.")]
    if not left_out:
        adaptation.append("the file has no classifier")
    elif backbone_only or class_num not in (None, classes):
        why = "only the backbone was asked for" if backbone_only else f"it has {classes} classes, not {class_num}"
        adaptation.append(f"the classifier ({', '.join(sum(map(source.keys.get, left_out), []))}) is left out: {why}")
        classes = 0
    if classes != config["class_num"] and ("class_num" not in arguments or not classes):
        found["class_num"] = classes
    if found:
        arguments = {**arguments, **found}
        target = describe(arch, arguments)
        source = rename(file.tensors, chosen, target)
    if not classes:
        source.remove(left_out)
    return _Plan(source, target, chosen, arguments, needs, adaptation)


def _needs(layout: Layout, config: dict, arguments: dict) -> dict:
    """Return the constructor arguments that the weights need.

    Raises:
        ConversionError: if others were asked for.
    """
    needs = layout.needs(config)
    for key, value in needs.items():
        if arguments.get(key, value) != value:
            raise ConversionError(f"weights of the {layout.name} layout need {key}={value!r}, not {arguments[key]!r}")
    return needs


def _check_recorded(src: Path, config: dict) -> dict:
    """Return the constructor arguments that the record or manifest beside a file of ours binds its weights to.

    Raises:
        ConversionError: if they are to be read as another model's.
    """
    recorded = recorded_arguments(src)
    for key, value in recorded.items():
        if config.get(key, value) != value:
            raise ConversionError(
                f"its weights are of a model with {key}={value!r}, this one has {key}={config[key]!r}; convert it "
                f"with -o {key}={value}"
            )
    return recorded


def _check_published_form(layout: Layout, config: dict) -> None:
    """Refuse to write a model of one form under the names of another: whoever reads them would compute something else.

    Raises:
        ConversionError: with the argument to give, if the weights are of the layout's form after all.
    """
    for key, value in layout.needs(config).items():
        if config[key] != value:
            raise ConversionError(
                f"the {layout.name} layout is of models with {key}={value!r}, this one has {key}={config[key]!r}; "
                f"weights of the former convert with -o {key}={value}"
            )


def _check_depths(arch: str, found: tuple, expected: tuple, arguments: dict) -> None:
    """Refuse a file of another variant, and one whose depths cannot be those of a model."""
    other = variant_with_depths(arch, found)
    if other is not None:
        raise ConversionError(f"its depths, {list(found)}, are those of {other}: use --arch {other}")
    if "depths" in arguments or len(found) != len(expected) or 0 in found:
        raise ConversionError(f"its depths are {list(found)}, those of the model are {list(expected)}")


def _classes(source: Source, layout: Layout) -> int:
    """Return the number of classes of the file's classifier, 0 if it has none."""
    if "head.weight" not in source.arrays:
        return 0
    return source.arrays["head.weight"][0].shape[0 if layout.orientation == TORCH else -1]


def _licence(arch: str, layout: str) -> str:
    spec = next((spec for spec in registry.specs() if spec.name == bare_name(arch)), None)
    weights = spec.weights if spec else ()
    for item in weights:
        if item.layout == layout:
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


def _log(record: ConversionRecord, src: Path, dst: Path, layout: Layout) -> None:
    logger.info(
        "%s: %s layout (%s), %s%s, %d tensors, depths %s, %d classes",
        src,
        layout.name,
        layout.source,
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
