"""Label maps for token labelling: made by a teacher, or taken over from those of the official code.

The format is described in :mod:`ppcls_ext.data.token_label`.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Union

import numpy as np
import paddle
from tqdm import tqdm

from ppcls_ext.arch.backbone.base import Backbone
from ppcls_ext.config import Config
from ppcls_ext.data import build_dataloader
from ppcls_ext.data.token_label import SUFFIX, top_scores, write_label_map
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.model import load_trained
from ppcls_ext.weights.files.reader import read_tensor

logger = logging.getLogger("ppcls_ext")


class NoLabelMapError(ValueError):
    """A model, a preprocessing or a file that label maps cannot be made from; the message says why."""


def make_label_maps(cfg: Config, output: Union[str, Path], k: int = 5, random_weights: bool = False) -> int:
    """Let the model of ``cfg`` label the images of ``DataLoader.Eval`` cell by cell.

    As the official code does, its classifier is applied to each place of the last feature map, before pooling. (For a
    model that was trained by token labelling it is the classifier of tokens.) Processes share the images.

    Args:
        cfg: the validated config, of mode "eval"; its operators must show the whole image (ResizeImage with size).
        output: folder of the maps, which mirrors ``image_root``.
        k: classes that are kept in a cell.
        random_weights: accept a config that names no weights; the model then has its initial ones.

    Returns:
        The number of maps that this process wrote.

    Raises:
        MissingWeightsError: if the config names no weights, unless ``random_weights``.
        NoLabelMapError: if the model has no feature map, or the operators show a part of an image.
    """
    session = Session(cfg.Global.device)
    model = load_trained(cfg, "asked for label maps", random_weights)
    if not isinstance(model, Backbone):
        raise NoLabelMapError(f"{cfg.Arch.name} is no backbone of ppcls_ext, so its last feature map is not known")
    section = cfg.section("DataLoader.Eval")
    root = section["dataset"].get("image_root")
    if root is None:
        raise NoLabelMapError(f"{section['dataset']['name']} has no image_root, so its label maps have no names")
    loader = build_dataloader(section, "Eval", rank=session.rank, world_size=session.world_size)
    _check_whole_images(loader.dataset)
    classifier = model.aux_head if getattr(model, "token_label", False) else model.head
    written = 0
    try:
        for batch in tqdm(loader.epoch(0), total=len(loader), unit="batch", disable=not session.is_main or None):
            with paddle.no_grad():
                features = model.as_map(model.forward_features(batch.images), batch.images)
                scores = classifier(features.transpose([0, 2, 3, 1])).astype("float32").numpy()
            for index, logits in zip(batch.indices, scores):
                name = os.path.relpath(loader.dataset.image_path(int(index)), root)
                path = Path(output) / (os.path.splitext(name)[0] + SUFFIX)
                write_label_map(path, *top_scores(logits.transpose(2, 0, 1), min(k, logits.shape[-1])))
                written += 1
    finally:
        loader.close()
    return written


def _check_whole_images(dataset) -> None:
    """Refuse operators whose result is not the whole image, upright.

    Raises:
        NoLabelMapError: if the corners of the first result are not those of the image.
    """
    image, to_source, (width, height) = dataset.transforms.traced(dataset.read(0), np.random.default_rng(0))
    rows, columns = image.shape[1:] if dataset.transforms.layout == "CHW" else image.shape[:2]
    corners = to_source @ np.array([[0, columns], [0, rows], [1, 1]])
    if not np.allclose(corners[:2], [[0, width], [0, height]], atol=1e-6):
        raise NoLabelMapError(
            "DataLoader.Eval.dataset.transform_ops show a part of each image, and a label map is of the whole; give "
            "ResizeImage a size in place of resize_short, and leave CropImage out"
        )


def convert_label_maps(source: Union[str, Path], output: Union[str, Path]) -> int:
    """Write the official code's maps, ``.pt`` files of ``[2, k, H, W]``, in our format, under the same names.

    Maps that are there already are left alone, so an interrupted conversion can be repeated.

    Args:
        source: folder of the files, at any depth.
        output: folder of the maps.

    Returns:
        The number of maps that were written.

    Raises:
        FileNotFoundError: if there is no such file.
        NoLabelMapError: naming the first file that is not a label map.
    """
    source, output = Path(source), Path(output)
    files = sorted(source.rglob("*.pt"))
    if not files:
        raise FileNotFoundError(f"{source} holds no .pt file")
    written = 0
    for path in tqdm(files, unit="map", disable=None):
        target = output / path.relative_to(source).with_suffix(SUFFIX)
        if target.is_file():
            continue
        tensor = read_tensor(path)
        if tensor.ndim != 4 or len(tensor) != 2:
            raise NoLabelMapError(f"{path} holds a tensor {list(tensor.shape)}; expected [2, k, H, W]")
        scores, classes = tensor[0].astype(np.float32), np.rint(tensor[1]).astype(np.int64)
        if (classes != tensor[1]).any():
            raise NoLabelMapError(f"{path}: tensor[1] holds no class ids")
        try:
            write_label_map(target, scores, classes)
        except ValueError as error:
            raise NoLabelMapError(f"{path}: {error}") from error
        written += 1
    return written
