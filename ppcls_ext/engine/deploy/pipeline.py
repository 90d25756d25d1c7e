"""The loop that every prediction runs: read, preprocess, batch, score, name; the model is a function."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, Optional, Sequence

import numpy as np

from ppcls_ext.data.errors import TransformError
from ppcls_ext.engine.deploy.inputs import Input
from ppcls_ext.engine.deploy.postprocess import Topk


@dataclass(frozen=True)
class _Prepared:
    name: str
    array: Optional[np.ndarray] = None  # None: it could not be read
    error: str = ""


def predict_images(
    images: Iterable[Input],
    preprocess: Callable[..., np.ndarray],
    score: Callable[[np.ndarray], np.ndarray],
    topk: Topk,
    batch_size: int = 1,
    workers: int = 0,
) -> Iterator[dict]:
    """Classify images; one that cannot be read neither stops the others nor joins their batch.

    Args:
        images: what to classify; read as needed, so that no more than a few batches are in memory.
        preprocess: from a file's bytes, an array or a Pillow image to ``[C, H, W]``.
        score: the model, ``[N, C, H, W]`` -> probabilities ``[N, classes]``.
        topk: names the best classes.
        batch_size: images a call of ``score``; an image of another size starts a new batch.
        workers: threads that read and preprocess while ``score`` runs; 0: none.

    Yields:
        One result an image, in order: ``class_ids``, ``scores``, ``label_names`` (best first) and ``file_name``. An
        image that cannot be read has empty lists, and ``error`` with the reason.
    """
    waiting: list[_Prepared] = []
    shape, count = None, 0
    for item in _prepared(images, preprocess, workers, lookahead=2 * batch_size + workers):
        array = item.array
        if array is not None and count and (count == batch_size or array.shape != shape):
            yield from _scored(waiting, score, topk)
            waiting, count = [], 0
        waiting.append(item)
        if array is not None:
            shape, count = array.shape, count + 1
        elif not count:  # nothing to wait for
            yield from _scored(waiting, score, topk)
            waiting = []
    yield from _scored(waiting, score, topk)


def _prepared(
    images: Iterable[Input], preprocess: Callable[..., np.ndarray], workers: int, lookahead: int
) -> Iterator[_Prepared]:
    def prepare(item: Input) -> _Prepared:
        try:
            return _Prepared(item.name, preprocess(item.content()))
        except (OSError, ValueError, TransformError) as error:
            return _Prepared(item.name, error=_reason(error))

    if not workers:
        yield from map(prepare, images)
        return
    pending: deque = deque()
    with ThreadPoolExecutor(workers, "preprocess") as pool:
        for item in images:
            pending.append(pool.submit(prepare, item))
            if len(pending) > lookahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _scored(items: Sequence[_Prepared], score: Callable[[np.ndarray], np.ndarray], topk: Topk) -> Iterator[dict]:
    readable = [item for item in items if item.array is not None]
    named: Iterator[dict] = iter(())
    if readable:
        named = iter(topk(score(np.stack([item.array for item in readable])), [item.name for item in readable]))
    for item in items:
        yield failed(item.name, item.error) if item.array is None else next(named)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().split("\n")[0] or type(error).__name__


def failed(name: str, reason: str) -> dict:
    """Return the result of an image that cannot be read."""
    return {"class_ids": [], "scores": [], "label_names": [], "file_name": name, "error": reason}


def with_progress(results: Iterable[dict], total: Optional[int] = None) -> Iterator[dict]:
    """Hand results on; a terminal shows how many there are, and how many a second."""
    from tqdm import tqdm

    yield from tqdm(results, total=total, unit="image", disable=None if total is None or total > 1 else True)


def failures(results: Iterable[dict]) -> list[dict]:
    """Return the results of the images that could not be read."""
    return [result for result in results if "error" in result]
