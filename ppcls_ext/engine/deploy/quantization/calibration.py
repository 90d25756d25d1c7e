"""From images to the range of every tensor that is to become int8."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

from ppcls_ext.data.preprocess import build_transforms
from ppcls_ext.engine.deploy.engines.graphs import GraphFiles
from ppcls_ext.engine.deploy.inference_yml import InferenceConfig
from ppcls_ext.engine.deploy.inputs import Input
from ppcls_ext.engine.deploy.predictor import outside
from ppcls_ext.engine.deploy.quantization.errors import QuantizationError

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
#: Images; of more, the ranges of the models tried change little.
DEFAULT_IMAGES = 128
#: At a time, since Entropy and Percentile hold every value of every tensor of a batch.
BATCH_SIZE = 8


@dataclass(frozen=True)
class CalibrationImages:
    """Preprocessed images.

    Attributes:
        paths: of the images that could be read.
        unread: how many could not.
        batches: ``[N, …]`` as the graph takes them, each of images of one shape.
    """

    paths: list[Path]
    unread: int
    batches: list[np.ndarray]


def choose_images(paths: Sequence[Path], number: int, seed: int) -> list[Path]:
    """Return ``number`` of the images at random, the same for the same seed, or all if there are no more."""
    if len(paths) <= number:
        return list(paths)
    chosen = np.random.default_rng(seed).choice(len(paths), number, replace=False)
    return [paths[index] for index in sorted(chosen)]


def prepare(paths: Sequence[Path], config: InferenceConfig, graph: GraphFiles) -> CalibrationImages:
    """Preprocess images as a prediction does.

    Raises:
        QuantizationError: none can be read.
    """
    preprocess = build_transforms(outside(config, graph.inside))
    read: list[Path] = []
    arrays: dict[tuple, list[np.ndarray]] = {}
    reason: Optional[Exception] = None
    for path in paths:
        try:
            array = preprocess(Input(str(path), path).content())
        except (OSError, ValueError) as error:
            reason = error
            continue
        read.append(path)
        arrays.setdefault(array.shape, []).append(array.astype(graph.input.dtype))
    if not read:
        raise QuantizationError(f"none of the {len(paths)} calibration images can be read: {reason}")
    batches = [
        np.stack(same[start : start + BATCH_SIZE])
        for same in arrays.values()
        for start in range(0, len(same), BATCH_SIZE)
    ]
    return CalibrationImages(read, len(paths) - len(read), batches)


class _Reader(CalibrationDataReader):
    def __init__(self, name: str, batches: Sequence[np.ndarray]):
        self._batches: Iterator[dict] = iter([{name: images} for images in batches])

    def get_next(self) -> Optional[dict]:  # type: ignore[override]
        return next(self._batches, None)


def tensor_ranges(path: Path, operators: Sequence[str], method: str, batches: Sequence[np.ndarray]) -> Any:
    """Run the float graph and return the range of each input and output of ``operators``.

    Args:
        path: of the graph.
        operators: their types.
        method: a name of :data:`METHODS`.
        batches: of images, see :func:`prepare`.

    Returns:
        What ONNX Runtime's quantiser takes, a ``TensorsData``.
    """
    with tempfile.TemporaryDirectory(prefix="ppcls_ext-calibration-") as folder:
        augmented = str(Path(folder, "augmented.onnx"))
        calibrator = create_calibrator(path, list(operators), augmented, METHODS[method])
        (name, *_) = [tensor.name for tensor in calibrator.infer_session.get_inputs()]
        # MinMax keeps two numbers a tensor and batch; the others keep every value until a collection ends.
        for part in [batches] if method == "minmax" else [[images] for images in batches]:
            calibrator.collect_data(_Reader(name, part))
        return calibrator.compute_data()
