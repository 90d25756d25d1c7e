"""``tools/infer.py``: the dygraph model on new images, with the section ``Infer`` of the config."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Optional

import numpy as np
import paddle

from ppcls_ext.config import Config
from ppcls_ext.data.image_files import list_images
from ppcls_ext.data.preprocess import build_transforms
from ppcls_ext.engine.class_names import prediction_labels
from ppcls_ext.engine.deploy.inputs import Input
from ppcls_ext.engine.deploy.pipeline import failures, predict_images, with_progress
from ppcls_ext.engine.deploy.postprocess import Topk
from ppcls_ext.engine.deploy.result_file import ResultFile
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.logger import log_config, start_logging
from ppcls_ext.engine.model import load_trained, logits_of

logger = logging.getLogger("ppcls_ext")


def infer(cfg: Config, random_weights: bool = False) -> list[dict]:
    """Classify the images of ``Infer.infer_imgs`` and ``Infer.infer_list``.

    The model gives logits, and the softmax is taken here, once. With ``Infer.save_dir`` the results are also written as
    JSON. Under ``paddle.distributed.launch`` the main process does all the work.

    Args:
        cfg: the validated config; ``Global.pretrained_model`` names the weights.
        random_weights: accept a config that names no weights; the model then has its initial ones.

    Returns:
        One result an image, as :func:`ppcls_ext.engine.deploy.pipeline.predict_images` gives them.

    Raises:
        ValueError: the model has another number of classes than the label file, no image is named, or ``save_dir`` is
            not a name for a JSON file.
        MissingWeightsError, WeightMismatchError, NonFiniteWeightsError: see
            :func:`ppcls_ext.engine.model.load_trained`.
        FileNotFoundError: the images or the label file are not there.
    """
    session = Session(cfg.Global.device)
    start_logging(session.is_main, Path(cfg.Global.output_dir) / "infer.log")
    if not session.is_main:
        return []
    log_config(cfg)
    if cfg.Infer is None or not cfg.Infer.infer_imgs:
        raise ValueError("no image is named; pass -o Infer.infer_imgs=<image, folder or list>")
    target = _json_path(cfg.Infer.save_dir)
    images = list_images(cfg.Infer.infer_imgs, cfg.Infer.infer_list)
    file = None if target is None else ResultFile(target)  # before the work, since it may be refused
    post_process = cfg.Infer.PostProcess
    labels = prediction_labels(cfg, cfg.Arch.class_num)
    model = load_trained(cfg, "used", random_weights)

    def score(batch: np.ndarray) -> np.ndarray:
        with paddle.no_grad():
            return paddle.nn.functional.softmax(logits_of(model(paddle.to_tensor(batch))), axis=-1).numpy()

    topk = Topk(post_process.topk, labels)
    inputs = [Input(str(path), path) for path in images]
    stream = predict_images(inputs, build_transforms(cfg.Infer.transforms), score, topk, cfg.Infer.batch_size)
    stream = with_progress(stream, len(images))
    results = list(stream if file is None else file.through(stream))
    for result in failures(results):
        logger.error("%s was not read: %s", result["file_name"], result["error"])
    if file is not None:
        logger.info("%d results are in %s", len(results), file.path)
    return results


def _json_path(save_dir: object) -> Optional[Path]:
    """Return the file that ``Infer.save_dir`` means: PaddleClas gives it the suffix ``.json`` if it has none."""
    if not save_dir:
        return None
    path = Path(str(save_dir))
    if path.suffix not in ("", ".json"):
        raise ValueError(f"Infer.save_dir is {str(path)!r}; expected a name that ends in .json")
    return path.with_suffix(".json")
