"""Names of classes: which a run was trained on, and which a prediction shows."""

from __future__ import annotations

import logging
from typing import Optional

from ppcls_ext.config import Config
from ppcls_ext.data import class_names_of, label_file_problem
from ppcls_ext.data.label_names import read_class_id_map
from ppcls_ext.engine.train.manifest import read_manifest
from ppcls_ext.utils.checkpoint_path import MANIFEST, PLACES, checkpoint_file, checkpoint_prefix

logger = logging.getLogger("ppcls_ext")

LABEL_FILE = "Infer.PostProcess.class_id_map_file"


def trained_class_names(cfg: Config, recorded: bool = True) -> Optional[list[str]]:
    """Return the names of the classes by id, from the checkpoint or else from the folders of ``DataLoader.Train``.

    Args:
        cfg: the validated config.
        recorded: whether ``Global.pretrained_model`` is what is used as it is, so that its names count; training takes
            the names of its own folders.

    Returns:
        None where the names are not known: lists of images have none.

    Raises:
        CheckpointError: if the checkpoint's manifest is damaged.
    """
    names = _recorded(cfg.Global.pretrained_model) if recorded else None
    return names or class_names_of(cfg.section("DataLoader.Train.dataset"))


def prediction_labels(cfg: Config, class_num: int) -> list[str]:
    """Return the name of each class that a prediction shows.

    They come from the label file; without one they are the names of the classes that the model was trained on, and
    where these are not known, the ids.

    Args:
        cfg: the validated config.
        class_num: number of the model's outputs.

    Raises:
        FileNotFoundError, LabelFileError: if the label file cannot be read.
        ValueError: if it names another number of classes, or contradicts the names of training.
    """
    trained = trained_class_names(cfg)
    post_process = cfg.Infer.PostProcess if cfg.Infer is not None else None
    path = post_process.class_id_map_file if post_process is not None else None
    if post_process is None or not path:
        if trained is None or len(trained) > class_num:
            logger.warning("%s is not given: classes are named by their ids", LABEL_FILE)
            trained = []
        return [*trained, *map(str, range(len(trained), class_num))]
    names = read_class_id_map(path, post_process.delimiter)
    if len(names) != class_num:
        raise ValueError(
            f"the model has {class_num} classes (Arch.class_num), but {path} ({LABEL_FILE}) names {len(names)}"
        )
    problem = label_file_problem(trained or [], names, path)
    if problem:
        raise ValueError(f"{LABEL_FILE}: {problem}")
    return names


def table_names(cfg: Config) -> list[str]:
    """Return the name of each class for tables; the ids where :func:`prediction_labels` finds a fault."""
    try:
        return prediction_labels(cfg, cfg.Arch.class_num)
    except (OSError, ValueError) as error:
        logger.warning("tables name the classes by their ids: %s", error)
        return [str(number) for number in range(cfg.Arch.class_num)]


def _recorded(weights: object) -> Optional[list[str]]:
    if not isinstance(weights, str):
        return None
    prefix = checkpoint_prefix(weights)
    manifests = (checkpoint_file(prefix, place, MANIFEST) for place in PLACES)
    path = next((path for path in manifests if path.is_file()), None)
    return None if path is None else read_manifest(path).get("class_names")
