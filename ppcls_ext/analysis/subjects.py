"""What a word on a command line means as a model to look into: a run, a checkpoint, a YAML file, a backbone."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Sequence

import paddle

from ppcls_ext.analysis.benchmark.targets import Target, find_targets
from ppcls_ext.config import Config, load_config
from ppcls_ext.config.recipes import find_config
from ppcls_ext.engine.class_names import prediction_labels
from ppcls_ext.engine.deploy.inference_yml import FILE_NAME, portable_transforms
from ppcls_ext.engine.evaluation_transforms import evaluation_transforms
from ppcls_ext.engine.model import load_trained
from ppcls_ext.factory import create_backbone
from ppcls_ext.utils.checkpoint_path import LATEST, checkpoint_prefix, has_checkpoint

#: What a run leaves of its configuration, and the checkpoint that stands for its result.
RUN_CONFIG, BEST = "config.yaml", "best_model"
#: ``label=word``; a label has no separator of folders, so that a path with ``=`` in it stays one.
_LABELLED = re.compile(r"([^=/\\]+)=(.+)", re.DOTALL)


class SubjectError(ValueError):
    """A word that means no model, or one that cannot be looked into; the message says what would."""


@dataclass
class Network:
    """A model to look into, with what an image becomes before it.

    Attributes:
        label: the name that pictures and tables show.
        model: in evaluation mode.
        transforms: operators as in a YAML file, from an image file to an array ``[C, H, W]``: those of evaluation.
        size: height and width of the input.
        class_names: by class id; the ids, as text, where names are not known.
        arch: name of the backbone.
        cfg: the configuration; None for a backbone by name.
    """

    label: str
    model: paddle.nn.Layer
    transforms: list[dict]
    size: tuple[int, int]
    class_names: list[str] = field(repr=False)
    arch: str
    cfg: Optional[Config] = field(default=None, repr=False)


def split_label(word: str) -> tuple[str, str]:
    """Return label and rest of ``label=word``; without a label, the last part of a path or the name itself."""
    found = _LABELLED.fullmatch(word)
    if found:
        return found[1], found[2]
    path = Path(word)
    is_checkpoint = has_checkpoint(path) and not path.is_dir()
    return (f"{path.parent.name}/{path.name}" if is_checkpoint else path.resolve().name or word), word


def is_export(word: str) -> bool:
    """Return whether ``word``, with or without a label, is a folder that ``ppcls_ext export`` wrote."""
    return Path(split_label(word)[1], FILE_NAME).is_file()


def open_network(
    word: str, overrides: Sequence[str] = (), random_weights: bool = False, mode: str = "export"
) -> Network:
    """Build the model that a word means, with its weights.

    Args:
        word: a run's folder (its ``best_model``, or else ``latest``), a checkpoint of a run, a YAML file or a recipe's
            name (weights by ``Global.pretrained_model`` or ``Arch.pretrained``), or a backbone's name (published
            weights); each with or without ``label=`` before it.
        overrides: ``key=value`` as after ``-o``, for what has a configuration.
        random_weights: accept that no weights are given.
        mode: which sections of a configuration are checked: ``eval`` where its data are read, see
            :func:`ppcls_ext.config.load_config`.

    Raises:
        SubjectError: it means no model, or an exported one, which has no layers to look into.
        ConfigError, MissingWeightsError, WeightMismatchError: see :func:`ppcls_ext.engine.model.load_trained`.
    """
    label, rest = split_label(word)
    path = Path(rest)
    if is_export(rest):
        raise SubjectError(f"{rest} is an exported model, which has no layers to look into; give the run it came from")
    run = path if path.is_dir() else path.parent
    if (path.is_dir() or has_checkpoint(path)) and (run / RUN_CONFIG).is_file():
        weights = f"Global.pretrained_model={_weights_of(path)}"
        return _configured(label, run / RUN_CONFIG, [weights, *overrides], random_weights, mode)
    if path.is_dir() or has_checkpoint(path):
        raise SubjectError(f"{run} has no {RUN_CONFIG}, so what its weights belong to is not known; give a YAML file")
    try:
        (target,) = find_targets([rest])
    except ValueError:
        raise SubjectError(f"{rest!r} names several backbones; give each by itself") from None
    except KeyError as unknown:
        try:
            config = find_config(rest)
        except KeyError:
            raise SubjectError(f"{unknown.args[0]}; nor is it a run, a YAML file or a recipe") from None
        return _configured(label, config, overrides, random_weights, mode)
    return _named(label, target, random_weights)


def _weights_of(path: Path) -> Path:
    if not path.is_dir():
        return checkpoint_prefix(path)
    for name in (BEST, LATEST):
        if has_checkpoint(path / name):
            return path / name
    raise SubjectError(f"{path} holds neither {BEST} nor {LATEST}: the run has not saved anything yet")


def _configured(label: str, path: Path, overrides: Sequence[str], random_weights: bool, mode: str) -> Network:
    cfg = load_config(path, overrides, mode)
    model = load_trained(cfg, "used", random_weights)
    operators, decode = portable_transforms(evaluation_transforms(cfg)[1])
    _, height, width = cfg.Global.image_shape
    names = prediction_labels(cfg, cfg.Arch.class_num)
    transforms = [{"DecodeImage": decode}, *operators]
    return Network(label, model, transforms, (height, width), names, cfg.Arch.name, cfg)


def _named(label: str, target: Target, random_weights: bool) -> Network:
    model = create_backbone(target.full_name, pretrained=not random_weights)
    model.eval()
    height, width = target.size
    transforms = target.transform_ops(height, width)
    outputs = getattr(model, "class_num", 1000)
    return Network(label, model, transforms, target.size, [str(n) for n in range(outputs)], target.arch)
