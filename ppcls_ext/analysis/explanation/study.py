"""Methods over models over images: maps, figures and pictures in a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Sequence

import numpy as np

from ppcls_ext.analysis.drawing import require_matplotlib
from ppcls_ext.analysis.explanation.errors import ExplanationError
from ppcls_ext.analysis.explanation.faithfulness import faithfulness
from ppcls_ext.analysis.explanation.gradcam import find_layer, gradcam
from ppcls_ext.analysis.explanation.integrated_gradients import integrated_gradients
from ppcls_ext.analysis.explanation.lime import LimeOptions, lime, require_skimage, superpixels
from ppcls_ext.analysis.explanation.occlusion import occlusion
from ppcls_ext.analysis.explanation.pictures import Cell, save_grid, save_overlay
from ppcls_ext.analysis.explanation.rollout import rollout
from ppcls_ext.analysis.explanation.smoothgrad import smoothgrad
from ppcls_ext.analysis.explanation.subject import Subject, shown
from ppcls_ext.data.errors import TransformError
from ppcls_ext.utils.files import open_regular, write_atomically

#: Methods that look into the network, and those that ask it alone.
WITH_LAYERS = ("gradcam", "integrated_gradients", "smoothgrad", "rollout")
BLACK_BOX = ("occlusion", "lime")
METHODS = (*WITH_LAYERS, *BLACK_BOX)


@dataclass(frozen=True)
class StudyOptions:
    """What is asked for.

    Attributes:
        methods: some of ``METHODS``.
        output: folder to write to.
        wanted: class to explain, a name or an id; None takes each image's predicted one.
        layer: of Grad-CAM; None takes each network's last map.
        faithfulness: whether to compute the areas of deletion and insertion.
        window: of occlusion, in pixels; None takes a quarter of the side.
        lime: how LIME samples and fits.
        seed: of the noise of SmoothGrad.
    """

    methods: Sequence[str]
    output: Path
    wanted: Optional[str] = None
    layer: Optional[str] = None
    faithfulness: bool = False
    window: Optional[int] = None
    lime: LimeOptions = field(default_factory=LimeOptions)
    seed: int = 0


def explain(subjects: Sequence[Subject], images: Sequence[Path], options: StudyOptions) -> list[dict]:
    """Explain what each model says of each image.

    Files: ``grid.png``; ``<image>.<model>.<method>.png`` for each map over its image, and ``<image>.<model>.npz`` with
    the maps by method; ``explain.json`` with what is returned.

    Args:
        subjects: the models.
        images: files.
        options: what is asked for.

    Returns:
        For each image, model and method: ``image``, ``model``, ``method``, ``class_id``, ``class_name``,
        ``probability``, with ``completeness_error`` of integrated gradients, with ``deletion`` and ``insertion``; or
        ``error`` where the method is not defined for the model.

    Raises:
        ExplanationError: a class is not there, scores are not finite, scikit-image is missing, or no method is defined
            for any of the models.
        DrawingError: matplotlib is missing.
        OSError, TransformError: an image cannot be read.
    """
    require_matplotlib()
    if "lime" in options.methods:
        require_skimage()
    for subject in subjects:
        if options.wanted is not None:
            subject.class_id(options.wanted)
        if options.layer is not None and subject.model is not None:
            find_layer(subject.model, options.layer)
    prepared = [[_read(subject, path) for subject in subjects] for path in images]
    options.output.mkdir(parents=True, exist_ok=True)
    results: list[dict] = []
    grid: list[list[Cell]] = []
    for number, (path, arrays) in enumerate(zip(images, prepared)):
        for subject, image in zip(subjects, arrays):
            name = f"{number}_{path.stem}.{_as_file(subject.label)}"
            rows, cells = _explain_one(subject, image, options, name)
            results += [{"image": str(path), **row} for row in rows]
            grid.append(cells)
    save_grid(options.output / "grid.png", grid)
    text = json.dumps(results, ensure_ascii=False, indent=1)
    write_atomically(options.output / "explain.json", lambda aside: aside.write_text(text, encoding="utf-8"))
    if all("error" in row for row in results):
        raise ExplanationError(results[0]["error"])
    return results


def _read(subject: Subject, path: Path) -> np.ndarray:
    with open_regular(path) as file:
        content = file.read()
    try:
        return np.asarray(subject.preprocess(content), np.float32)
    except (TransformError, ValueError) as error:
        raise ExplanationError(f"{path} cannot be read: {error}") from None


def _explain_one(subject: Subject, image: np.ndarray, options: StudyOptions, name: str) -> tuple[list, list]:
    """Return the rows and the cells of one image for one model."""
    (scores,) = subject.score(image[None])
    class_id = int(scores.argmax()) if options.wanted is None else subject.class_id(options.wanted)
    class_name = subject.class_names[class_id]
    picture = shown(image, subject.transforms)
    cells = [Cell(picture, None, "", (subject.label, f"{class_name} {scores[class_id]:.3f}"), str(class_id))]
    rows, maps = [], {}
    for method in options.methods:
        row = {"model": subject.label, "method": method, "class_id": class_id, "class_name": class_name}
        row["probability"] = float(scores[class_id])
        try:
            found, figures = _map(subject, image, picture, class_id, method, options)
        except ExplanationError as error:
            rows.append({**row, "error": str(error)})
            cells.append(Cell(picture, None, method, (method, "not defined")))
            continue
        maps[method] = found
        if options.faithfulness:
            areas = faithfulness(subject.score, image, class_id, found)
            figures = {**figures, **areas._asdict()}
        rows.append({**row, **figures})
        cells.append(Cell(picture, found, method, (method, *_caption(figures))))
        save_overlay(options.output / f"{name}.{method}.png", picture, found, method)
    if maps:
        write_atomically(options.output / f"{name}.npz", lambda aside: _save(aside, maps))
    return rows, cells


def _map(
    subject: Subject, image: np.ndarray, picture: np.ndarray, class_id: int, method: str, options: StudyOptions
) -> tuple[np.ndarray, dict[str, Any]]:
    if method == "occlusion":
        return occlusion(subject.score, image, class_id, options.window), {}
    if method == "lime":
        segments = superpixels(picture, options.lime)
        return lime(subject.score, image, class_id, segments, options.lime), {}
    if subject.model is None:
        raise ExplanationError(
            f"{method} looks into the network's layers, and {subject.label} is exported; {' and '.join(BLACK_BOX)} work"
        )
    if method == "gradcam":
        return gradcam(subject.model, image, class_id, options.layer), {}
    if method == "integrated_gradients":
        attribution = integrated_gradients(subject.model, image, class_id)
        return attribution.map, {"completeness_error": attribution.completeness_error}
    if method == "smoothgrad":
        return smoothgrad(subject.model, image, class_id, seed=options.seed), {}
    return rollout(subject.model, image), {}


def _caption(figures: dict) -> list[str]:
    if "deletion" not in figures:
        return []
    return [f"del {figures['deletion']:.2f}, ins {figures['insertion']:.2f}"]


def _as_file(label: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in label)


def _save(path: Path, maps: dict) -> None:
    with path.open("wb") as stream:
        np.savez_compressed(stream, **maps)
