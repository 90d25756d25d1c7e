"""Token labels: a label for each token of an image, cut out of the label map that a teacher made of the whole image.

Jiang et al., "All Tokens Matter: Token Labeling for Training Better Vision Transformers", arXiv 2104.10858, section 3.

A label map is a file for each image. It holds, for each cell of a raster over the image (18 x 18 for the teacher of the
paper), the teacher's k greatest scores and their classes::

    <root>/<path of the image in the dataset, without its suffix>.npz
        scores   float16 [k, H, W], logits
        classes  uint16 or int32 [k, H, W], class ids

Scores of all other classes count as 0, as in the paper's code. What happens to an image in preprocessing happens to its
map: each token's cell is led back to the original image, the scores there are averaged as RoIAlign does (He et al.,
arXiv 1703.06870, section 3), and a softmax over all classes makes the label. Where preprocessing shows nothing of the
image (a border, the corners of a rotation), all scores are 0. (The paper's code hands rows and columns of a crop to
RoIAlign in the wrong order, so its labels are those of the crop mirrored at the diagonal; here they are the crop's.)
"""

from __future__ import annotations

import math
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence, Union

import numpy as np

from ppcls_ext.data.errors import DataFileError
from ppcls_ext.data.preprocess.geometry import scaling
from ppcls_ext.utils.files import open_regular
from ppcls_ext.utils.validate import choice, positive_int

SUFFIX = ".npz"
CLASS_TARGETS = ("teacher", "ground_truth", "blend")
#: The teacher's share of a blended label, where it names the ground truth's class and where it does not.
TEACHER_SHARE_AGREEING, TEACHER_SHARE_DIFFERING = 0.5, 0.9
#: The most tokens along a side.
MAX_SIZE = 256
#: The most that a map's arrays may take: far more than 20 classes in 100 x 100 cells.
MAX_BYTES = 16 << 20
#: The most sampling points along a side of a token's cell: more than a map could need, and a bound for tiny images.
MAX_POINTS = 64


@dataclass(frozen=True)
class LabelMap:
    """A teacher's scores of one image: ``scores`` float32 and ``classes`` int64, both ``[k, H, W]``."""

    scores: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class TokenScores:
    """The scores of one preprocessed image and its tokens.

    ``values`` is float32 ``[1 + size * size, len(classes)]``: first those of the image as a whole, then the tokens',
    row by row. Classes that are not in ``classes`` (int64, ascending) have the score 0.
    """

    values: np.ndarray
    classes: np.ndarray


class TokenLabels:
    """The ``token_label`` section of a dataset: where the maps are, and how many tokens the model has.

    Args:
        root: folder of the maps.
        size: tokens along a side of the last stage, such as 7 for 224 pixels and a stride of 32.
        class_target: the label of the image as a whole. "teacher": the teacher's for what is to be seen of the image,
            as the paper's code does; "ground_truth": the dataset's; "blend": both, by half where they name the same
            class, else 0.9 of the teacher's (the code's option ``--ground-truth``).

    Raises:
        TypeError, ValueError: if an argument is wrong.
    """

    def __init__(self, root: str, size: int, class_target: str = "teacher"):
        self.root = root
        self.size = positive_int(size, "size", MAX_SIZE)
        self.class_target = choice(class_target, "class_target", CLASS_TARGETS)

    def path_of(self, image: str) -> str:
        """Return where the map of an image lies.

        Args:
            image: the image's path from the folder that the dataset starts from.
        """
        return os.path.join(self.root, os.path.splitext(image)[0] + SUFFIX)

    def dense(self, scores: Sequence[TokenScores], labels: np.ndarray, class_num: int) -> np.ndarray:
        """Return the labels of a batch, float32 ``[n, 1 + size * size, class_num]``; each row adds up to 1.

        Args:
            scores: one for each image.
            labels: class ids, int64 ``[n]``.
            class_num: number of classes.

        Raises:
            ValueError: if a class is not below ``class_num``.
        """
        dense = np.zeros((len(scores), 1 + self.size**2, class_num), np.float32)
        for row, item in zip(dense, scores):
            if item.classes.size and item.classes[-1] >= class_num:
                raise ValueError(
                    f"a label map names class {item.classes[-1]}, but class_num {class_num} allows 0 to {class_num - 1}"
                )
            row[:, item.classes] = item.values
        dense -= dense.max(axis=2, keepdims=True)
        np.exp(dense, out=dense)
        dense /= dense.sum(axis=2, keepdims=True)
        if self.class_target != "teacher":
            truth = np.eye(class_num, dtype=np.float32)[labels]
            share = np.zeros(len(labels), np.float32)
            if self.class_target == "blend":
                agrees = dense[:, 0].argmax(axis=1) == labels
                share = np.where(agrees, TEACHER_SHARE_AGREEING, TEACHER_SHARE_DIFFERING).astype(np.float32)
            dense[:, 0] = dense[:, 0] * share[:, None] + truth * (1 - share[:, None])
        return dense


def write_label_map(path: Union[str, Path], scores: np.ndarray, classes: np.ndarray) -> None:
    """Write a label map; the folder is created if necessary, and the file appears only when it is complete.

    Args:
        path: of the file, with its suffix .npz.
        scores: logits ``[k, H, W]``; they are kept as float16.
        classes: class ids ``[k, H, W]``; no class may occur twice in a cell.

    Raises:
        ValueError: if the arrays are no such map.
    """
    path = Path(path)
    scores, classes = np.asarray(scores), np.asarray(classes)
    problem = _problem(scores, classes)
    if problem:
        raise ValueError(f"{path}: {problem}")
    small = classes.max() <= np.iinfo(np.uint16).max
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not flushed one by one: there are as many as images, and one that a power cut damages is found and made again.
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("wb") as stream:
        np.savez(stream, scores=scores.astype(np.float16), classes=classes.astype(np.uint16 if small else np.int32))
    os.replace(aside, path)


def read_label_map(path: Union[str, Path]) -> LabelMap:
    """Read a label map.

    Raises:
        FileNotFoundError: if there is none.
        DataFileError: if the file holds none.
    """
    try:
        with open_regular(path) as stream:
            with zipfile.ZipFile(stream) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > MAX_BYTES:
                raise ValueError(f"its arrays have {size:,} bytes, expected at most {MAX_BYTES:,}")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as file:
                scores, classes = file["scores"], file["classes"]
    except FileNotFoundError:
        raise FileNotFoundError(f"the label map {str(path)!r} does not exist") from None
    except (OSError, KeyError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise DataFileError(f"{path} is no label map (an .npz file with scores and classes): {error}") from error
    problem = _problem(scores, classes)
    if problem:
        raise DataFileError(f"{path}: {problem}")
    return LabelMap(scores.astype(np.float32), classes.astype(np.int64))


def top_scores(logits: np.ndarray, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` greatest of a teacher's scores ``[classes, H, W]`` and their classes, both ``[k, H, W]``."""
    classes = np.argsort(-logits, axis=0, kind="stable")[:k]
    return np.take_along_axis(logits, classes, axis=0), classes


def token_scores(label_map: LabelMap, to_source: np.ndarray, source: tuple, result: tuple, size: int) -> TokenScores:
    """Cut the scores of a preprocessed image and of its tokens out of the map of the original.

    Args:
        label_map: of the original.
        to_source: map from the preprocessed image to the original, see :mod:`ppcls_ext.data.preprocess.geometry`.
        source: (width, height) of the original in pixels.
        result: (width, height) of the preprocessed image.
        size: tokens along a side.
    """
    height, width = label_map.scores.shape[1:]
    to_cells = scaling((width, height), source) @ to_source
    shares = np.concatenate(
        [sampling_shares(to_cells @ scaling(result, (count, count)), count, (width, height)) for count in (1, size)]
    )
    classes, position = np.unique(label_map.classes, return_inverse=True)
    cells = np.zeros((height * width, len(classes)), np.float32)
    k = len(label_map.scores)
    cells[np.tile(np.arange(height * width), k), position.ravel()] = label_map.scores.ravel()
    return TokenScores(shares @ cells, classes)


def sampling_shares(to_cells: np.ndarray, count: int, cells: tuple) -> np.ndarray:
    """Return how much each cell of a raster contributes to each token: float32 ``[count * count, height * width]``.

    RoIAlign, for any affine map: a token's cell is sampled at as many points along each side as that side is cells long
    (rounded up), each point is interpolated between the centres of the four nearest cells, and the mean is taken.
    Points outside the raster contribute nothing.

    Args:
        to_cells: map from the raster of tokens, each 1 x 1, to the raster of cells, each 1 x 1.
        count: tokens along a side.
        cells: (width, height) of the raster of cells.
    """
    width, height = cells
    points = [min(max(math.ceil(np.hypot(*to_cells[:2, axis]) - 1e-9), 1), MAX_POINTS) for axis in (0, 1)]
    # (x, y) of all points: tokens by row and column, in each of them points by row and column.
    x, y = (np.arange(count)[:, None] + (np.arange(n) + 0.5) / n for n in points)
    grid = np.broadcast_arrays(x[None, :, None, :], y[:, None, :, None], np.ones((1, 1, 1, 1)))
    across, down, _ = np.tensordot(to_cells, np.stack(grid), axes=1)
    inside = (across >= 0) & (across <= width) & (down >= 0) & (down <= height)
    column = np.clip(across - 0.5, 0, width - 1)
    row = np.clip(down - 0.5, 0, height - 1)
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    from_left, from_top = column - left, row - top
    shares = np.zeros((count * count, height * width))
    token = np.broadcast_to(np.arange(count * count).reshape(count, count, 1, 1), across.shape)
    for line, vertical in ((top, 1 - from_top), (bottom, from_top)):
        for place, horizontal in ((left, 1 - from_left), (right, from_left)):
            np.add.at(shares, (token, line * width + place), inside * vertical * horizontal)
    return (shares / (points[0] * points[1])).astype(np.float32)


def _problem(scores: np.ndarray, classes: np.ndarray) -> str:
    """Return what keeps two arrays from being a label map; "" if they are one."""
    if scores.ndim != 3 or scores.shape != classes.shape or not scores.size:
        return f"expected scores and classes [k, H, W], got {list(scores.shape)} and {list(classes.shape)}"
    if not np.issubdtype(scores.dtype, np.floating) or not np.issubdtype(classes.dtype, np.integer):
        return f"expected floating-point scores and integer classes, got {scores.dtype} and {classes.dtype}"
    if not np.isfinite(scores).all():
        return "a score is NaN or infinite"
    if classes.min() < 0:
        return f"class {classes.min()} is negative"
    ordered = np.sort(classes, axis=0)
    if (ordered[1:] == ordered[:-1]).any():
        return "a class occurs twice in a cell"
    return ""
