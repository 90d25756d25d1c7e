"""Pooled features of any network: what its classifier takes."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterator, Sequence

import numpy as np
import paddle
from paddle import nn

from ppcls_ext.analysis.embedding.content import UNKNOWN, Embeddings, EmbeddingsError
from ppcls_ext.analysis.subjects import Network
from ppcls_ext.arch.backbone.base import Backbone
from ppcls_ext.data.errors import LabelFileError
from ppcls_ext.data.image_files import is_list, list_images
from ppcls_ext.data.label_list import read_label_list
from ppcls_ext.data.preprocess import build_transforms
from ppcls_ext.engine.deploy.inputs import Input
from ppcls_ext.engine.deploy.pipeline import failures, predict_images, with_progress


def labelled_images(source: Path) -> tuple[list[Path], np.ndarray]:
    """Return the images of a list, a folder or a file, and their labels, ``UNKNOWN`` unless a list has them."""
    if is_list(source):
        try:
            names, labels = read_label_list(source, image_root=source.parent)
            return [source.parent / name for name in names], labels
        except LabelFileError:  # a list without class ids
            pass
    images = list_images(source)
    return images, np.full(len(images), UNKNOWN, np.int64)


def embed(network: Network, source: Path, batch_size: int = 32, workers: int = 2) -> Embeddings:
    """Compute the pooled features of images.

    Args:
        network: the model, with the preprocessing of its evaluation.
        source: an image, a folder or a list, whose class ids become labels.
        batch_size: images a forward pass.
        workers: threads that read and preprocess meanwhile.

    Raises:
        FileNotFoundError, ValueError: see :func:`ppcls_ext.data.image_files.list_images`.
        EmbeddingsError: an image cannot be read, the network has no classifier whose input could be taken, or the
            features are not finite.
    """
    images, labels = labelled_images(source)
    pooled = pooled_features(network.model, len(network.class_names))
    results = list(
        with_progress(
            predict_images(
                [Input(str(path), path) for path in images],
                build_transforms(network.transforms),
                pooled,
                _named,  # type: ignore[arg-type]  # in place of the best classes
                batch_size,
                workers,
            ),
            len(images),
        )
    )
    unread = failures(results)
    if unread:
        raise EmbeddingsError(
            f"{len(unread)} of {len(results)} images could not be read, the first: {unread[0]['file_name']}: "
            f"{unread[0]['error']}"
        )
    return Embeddings([str(path) for path in images], labels, np.stack([result["features"] for result in results]))


def _named(features: np.ndarray, names: Sequence[str]) -> Iterator[dict]:
    for row, name in zip(features, names):
        if not np.isfinite(row).all():
            raise EmbeddingsError(f"{name}: the features are not finite")
        yield {"file_name": name, "features": row}


def pooled_features(model: nn.Layer, class_num: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from images ``[N, C, H, W]`` to the features ``[N, D]`` that the classifier takes.

    Backbones of this package pool by themselves. In any other network the classifier is its last linear layer with
    ``class_num`` outputs.

    Raises:
        EmbeddingsError: there is no such layer.
    """
    if isinstance(model, Backbone):

        def pool(images: np.ndarray) -> np.ndarray:
            with paddle.no_grad():
                x = paddle.to_tensor(images)
                return model.forward_head(model.forward_features(x), pre_logits=True).numpy()

        return pool
    classifiers = [layer for layer in model.sublayers() if _outputs(layer) == class_num]
    if not classifiers:
        raise EmbeddingsError(
            f"{type(model).__name__} has no linear layer with {class_num} outputs to take features of"
        )

    def take(images: np.ndarray) -> np.ndarray:
        found: list[paddle.Tensor] = []
        hook = classifiers[-1].register_forward_pre_hook(lambda layer, inputs: found.append(inputs[0]))
        try:
            with paddle.no_grad():
                model(paddle.to_tensor(images))
        finally:
            hook.remove()
        return found[-1].reshape([len(images), -1]).numpy()

    return take


def _outputs(layer: nn.Layer) -> int:
    return layer.weight.shape[1] if isinstance(layer, nn.Linear) else 0
