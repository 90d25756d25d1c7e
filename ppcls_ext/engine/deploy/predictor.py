"""Prediction with an exported model, on files as they come from ``ppcls_ext export``.

The folder holds a graph (``inference.json`` of Paddle 3, ``inference.pdmodel`` or ``inference.onnx``), its weights and
``inference.yml`` with the preprocessing and the labels, so that what was evaluated is what is deployed. Needs neither
the training config nor PaddleClas, and Paddle only for Paddle's own graphs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, Iterator, Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.preprocess import build_transforms
from ppcls_ext.engine.deploy.engines.base import Engine
from ppcls_ext.engine.deploy.engines.choice import AUTO, check_device, choose_engine, open_choice
from ppcls_ext.engine.deploy.inference_yml import FILE_NAME, InferenceConfig, InferenceConfigError
from ppcls_ext.engine.deploy.inputs import Image, inputs_of
from ppcls_ext.engine.deploy.pipeline import predict_images
from ppcls_ext.engine.deploy.postprocess import Topk, softmax

__all__ = ["Predictor", "check_device"]

#: More than any machine serves; a typo beyond them would exhaust its threads or its memory.
MAX_THREADS, MAX_BATCH_SIZE, MAX_TOPK = 1024, 65_536, 1_000_000


def _check_count(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}; expected {least} to {most:,}")


class Predictor:
    """Classifies images with an exported model.

    Threads may share one predictor: each gets the results of its own images. They preprocess side by side; in the
    model they run side by side too, or with Paddle take turns.

    Args:
        model_dir: the folder that ``ppcls_ext export`` wrote.
        device: ``cpu``, ``gpu`` or ``gpu:<number>``.
        batch_size: images a run.
        threads: of the engine on the CPU; ``None`` takes all cores of this process.
        topk: classes a result; ``None`` takes the number of ``inference.yml``.
        workers: threads that read and preprocess while the model runs; 0: none.
        verify: whether to compare the graph and its weights with the checksums in ``inference.yml``, which reads them
            once; an export that has none, such as PaddleClas's, is taken as it is.
        all_scores: whether a result also holds the probability of each class, unrounded, as ``all_scores``.
        engine: ``paddle``, ``onnxruntime``, ``openvino``, or ``auto``: the first in an order of speed that is installed
            and whose graph is in the folder, see :func:`ppcls_ext.engine.deploy.engines.choice.choose_engine`.

    Attributes:
        config: the content of ``inference.yml``.
        engine: what runs the graph.

    Raises:
        FileNotFoundError: the graph, its weights or ``inference.yml`` are missing.
        EngineError: the engine is not installed, or cannot read the graph.
        DamagedExportError: a file is not the one that was exported.
        InferenceConfigError: ``inference.yml`` lacks the preprocessing or the labels.
        ValueError: a bad argument.
    """

    def __init__(
        self,
        model_dir: Union[str, Path],
        device: str = "cpu",
        batch_size: int = 1,
        threads: Optional[int] = None,
        topk: Optional[int] = None,
        workers: int = 0,
        verify: bool = True,
        engine: str = AUTO,
        all_scores: bool = False,
    ):
        _check_count("workers", workers, 0, MAX_THREADS)
        for name, value, most in (
            ("batch_size", batch_size, MAX_BATCH_SIZE),
            ("threads", 1 if threads is None else threads, MAX_THREADS),
            ("topk", 1 if topk is None else topk, MAX_TOPK),
        ):
            _check_count(name, value, 1, most)
        model_dir = Path(model_dir)
        self.config = InferenceConfig.load_from(model_dir)
        choice = choose_engine(model_dir, self.config, engine, device)
        if verify:
            self.config.verify(model_dir, choice.graph.files)
        self.batch_size = batch_size
        self.workers = workers
        self.engine: Engine = open_choice(choice, device, threads)
        self._preprocess = build_transforms(outside(self.config, choice.graph.inside))
        self._topk = Topk(topk or self.config.topk, self.config.label_list, all_scores)

    def predict(self, images: Union[Image, Iterable[Image]]) -> list[dict]:
        """Classify images.

        Args:
            images: one or many. A path of an image, a folder or a list; bytes of an image file; a Pillow image; an
                array of uint8, ``[H, W, 3]`` in RGB (``[H, W]``, one channel and RGBA are taken as such a file would
                be) or ``[N, H, W, 3]``.

        Returns:
            One result an image, in order: ``class_ids``, ``scores``, ``label_names`` (best first) and ``file_name``.
            An image that cannot be read has empty lists, and ``error`` with the reason.

        Raises:
            TypeError: something is no image.
            ValueError: an array holds other pixels or axes than an image; or the model's output does not fit the label
                list, or is not finite.
        """
        return list(self.stream(images))

    def stream(self, images: Union[Image, Iterable[Image]]) -> Iterator[dict]:
        """Classify images one batch after the other; see :meth:`predict`.

        ``images`` may be a generator without end: no more than a few batches are in memory.
        """
        return predict_images(
            inputs_of(images), self._preprocess, self.score, self._topk, self.batch_size, self.workers
        )

    def score(self, images: np.ndarray) -> np.ndarray:
        """Return the probabilities ``[N, classes]`` of preprocessed images ``[N, C, H, W]``."""
        name, output = next(iter(self.engine(images).items()))
        return softmax(output) if name == "logits" else output


def outside(config: InferenceConfig, inside: Sequence[str]) -> list:
    """Return the preprocessing that is left to do before a graph that does its last operators by itself.

    Args:
        config: of the export.
        inside: names of the operators in the graph.

    Raises:
        InferenceConfigError: the preprocessing does not end with them.
    """
    ops = config.preprocessing
    kept = len(ops) - len(inside)
    ends = [next(iter(op)) for op in ops[kept:]]
    if ends != list(inside):
        raise InferenceConfigError(
            f"{FILE_NAME}: Export.onnx.inside is {list(inside)}, but PreProcess.transform_ops ends with {ends}"
        )
    return ops[:kept]
