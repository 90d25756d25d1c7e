"""A model as explanations see it: a function from images to probabilities and, unless it is exported, its layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Sequence

import numpy as np
import paddle
from paddle import nn

from ppcls_ext.analysis.explanation.errors import ExplanationError
from ppcls_ext.analysis.explanation.occlusion import Score
from ppcls_ext.analysis.subjects import is_export, open_network, split_label
from ppcls_ext.data.preprocess import build_transforms
from ppcls_ext.data.preprocess.pipeline import Pipeline
from ppcls_ext.engine.deploy.predictor import Predictor
from ppcls_ext.engine.model import logits_of
from ppcls_ext.utils.spelling import nearest


@dataclass
class Subject:
    """What is explained.

    Attributes:
        label: as pictures name it.
        score: from preprocessed images to probabilities.
        transforms: operators, from an image file to ``[C, H, W]``.
        class_names: by class id.
        model: None for an exported model.
    """

    label: str
    score: Score
    transforms: list[dict]
    class_names: list[str]
    model: Optional[nn.Layer] = None

    @property
    def preprocess(self) -> Pipeline:
        """The operators."""
        return build_transforms(self.transforms)

    def class_id(self, wanted: str) -> int:
        """Return the id of a class by its name or by its id.

        Raises:
            ExplanationError: there is no such class; the message has the nearest names.
        """
        if wanted in self.class_names:
            return self.class_names.index(wanted)
        if wanted.isdecimal() and int(wanted) < len(self.class_names):
            return int(wanted)
        hint = nearest(wanted, self.class_names, 3)
        more = f"; did you mean {', '.join(hint)}?" if hint else f"; ids are 0 to {len(self.class_names) - 1}"
        raise ExplanationError(f"{self.label} has no class {wanted!r}{more}")


def open_subject(
    word: str, overrides: Sequence[str] = (), random_weights: bool = False, engine: str = "auto"
) -> Subject:
    """Open a model: whatever :func:`ppcls_ext.analysis.subjects.open_network` takes, or an exported folder.

    Raises:
        ExplanationError: a folder was exported with its preprocessing inside the graph.
        SubjectError, EngineError, DamagedExportError: the model cannot be opened.
    """
    if not is_export(word):
        network = open_network(word, overrides, random_weights)
        model = network.model

        def probabilities(images: np.ndarray) -> np.ndarray:
            with paddle.no_grad():
                return nn.functional.softmax(logits_of(model(paddle.to_tensor(images))), axis=-1).numpy()

        score = _finite(network.label, probabilities)
        return Subject(network.label, score, network.transforms, network.class_names, model)
    label, folder = split_label(word)
    predictor = Predictor(Path(folder), engine=engine)
    if predictor.engine.input.dtype != "float32":
        raise ExplanationError(f"{folder} normalises inside its graph; export it without --uint8_input to explain it")
    config = predictor.config
    return Subject(label, _finite(label, predictor.score), config.preprocessing, config.label_list)


def _finite(label: str, score: Score) -> Score:
    def checked(images: np.ndarray) -> np.ndarray:
        found = score(images)
        if not np.isfinite(found).all():
            raise ExplanationError(f"{label}: the scores are NaN or infinite")
        return found

    return checked


def shown(image: np.ndarray, transforms: Sequence[dict]) -> np.ndarray:
    """Return what a preprocessed image ``[C, H, W]`` shows, float32 ``[H, W, 3]`` in [0, 1]: normalisation undone."""
    pixels = image.transpose(1, 2, 0).astype(np.float32)
    arguments: dict[str, Any] = next((op["NormalizeImage"] or {} for op in transforms if "NormalizeImage" in op), {})
    if arguments:
        scale = _number(arguments.get("scale", 1 / 255))
        mean, std = (np.array(arguments.get(key, default)) for key, default in (("mean", 0.0), ("std", 1.0)))
        pixels = (pixels * std + mean) / scale
    pixels = np.clip(pixels / 255, 0, 1).astype(np.float32)
    if pixels.shape[2] != 3:
        return np.repeat(pixels[:, :, :1], 3, axis=2)
    decode = transforms[0].get("DecodeImage") or {} if transforms else {}
    return pixels if decode.get("to_rgb", True) else pixels[:, :, ::-1].copy()


def _number(value: Any) -> float:
    if isinstance(value, str):
        above, _, below = value.partition("/")
        return float(above) / float(below or 1)
    return 1 / 255 if value is None else float(value)
