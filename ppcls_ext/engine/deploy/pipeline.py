"""The loop that every prediction runs: read, preprocess, batch, score, name; the model is a function."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterable, Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.errors import TransformError
from ppcls_ext.engine.deploy.postprocess import Topk

#: An image as a file, or as an array ``[H, W, 3]`` of uint8 in RGB.
Image = Union[str, Path, np.ndarray]


def classify(
    images: Iterable[Image],
    from_bytes: Callable[[bytes], np.ndarray],
    score: Callable[[np.ndarray], np.ndarray],
    topk: Topk,
    batch_size: int = 1,
    from_array: Optional[Callable[[np.ndarray], np.ndarray]] = None,
) -> list[dict]:
    """Classify images; one that cannot be read neither stops the others nor joins their batch.

    Args:
        images: paths, or arrays if ``from_array`` is given.
        from_bytes: preprocessing of a file's content, to ``[C, H, W]``.
        score: the model, ``[N, C, H, W]`` -> probabilities ``[N, classes]``.
        topk: names the best classes.
        batch_size: images a call of ``score``; images of another size start a new batch.
        from_array: preprocessing of an array.

    Returns:
        One result an image, in order: ``class_ids``, ``scores``, ``label_names`` (best first) and ``file_name``. An
        image that cannot be read has empty lists, and ``error`` with the reason.
    """
    results: list = []
    waiting: list = []  # (position in results, name, preprocessed image)

    def run() -> None:
        scores = score(np.stack([array for _, _, array in waiting]))
        named = topk(scores, [name for _, name, _ in waiting])
        for (position, _, _), result in zip(waiting, named):
            results[position] = result
        waiting.clear()

    for number, image in enumerate(images):
        is_array = isinstance(image, np.ndarray)
        name = f"array {number}" if is_array else str(image)
        try:
            array = from_array(image) if is_array else from_bytes(Path(image).read_bytes())
        except (OSError, ValueError, TransformError) as error:
            results.append(_failed(name, _reason(error)))
            continue
        if waiting and (len(waiting) >= batch_size or waiting[0][2].shape != array.shape):
            run()
        waiting.append((len(results), name, array))
        results.append(None)
    if waiting:
        run()
    return results


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().split("\n")[0] or type(error).__name__


def _failed(file_name: str, reason: str) -> dict:
    return {"class_ids": [], "scores": [], "label_names": [], "file_name": file_name, "error": reason}


def failures(results: Sequence[dict]) -> list[dict]:
    """Return the results of the images that could not be read."""
    return [result for result in results if "error" in result]
