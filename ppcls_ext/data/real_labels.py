"""Reassessed labels of ImageNet's validation images (ReaL): several classes may be right, or none.

Beyer and others, Are we done with ImageNet? (arXiv 2006.07159). The published file is ``real.json`` of
github.com/google-research/reassessed-imagenet: a list of lists of class ids, one for each image in the order of the
names ``ILSVRC2012_val_00000001.JPEG``, ``…00000002.JPEG`` and so on. An image whose list is empty is left out.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Sequence, Union

import numpy as np

from ppcls_ext.data.errors import LabelFileError
from ppcls_ext.utils.files import open_regular

#: The word that stands for the published file in the folder of the images.
REAL = "real"
FILE_NAME = "real.json"
SOURCE = "real.json of https://github.com/google-research/reassessed-imagenet"
_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.\w+")


class RealLabels:
    """The classes that count as right for each image.

    Args:
        path: the published file.

    Raises:
        FileNotFoundError: if it is not there; the message says where to get it.
        LabelFileError: if it is something else.
    """

    def __init__(self, path: Union[str, Path]):
        self.path = Path(path)
        try:
            with open_regular(self.path) as stream:
                content = json.load(stream)
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.path} does not exist; it is {SOURCE}") from None
        except (ValueError, RecursionError) as error:
            raise LabelFileError(f"{self.path} is no JSON file: {error}") from None
        if not isinstance(content, list) or not content or not all(_is_classes(item) for item in content):
            raise LabelFileError(f"{self.path}: expected a list of lists of class ids, as in {SOURCE}")
        self._classes = [frozenset(item) for item in content]

    def __len__(self) -> int:
        return len(self._classes)

    def classes_of(self, file: str) -> frozenset:
        """Return the classes that are right for an image, by its name; empty where it is left out.

        Raises:
            LabelFileError: if the name is not that of a validation image, or beyond the file's end.
        """
        found = _NAME.fullmatch(os.path.basename(file))
        if found is None:
            raise LabelFileError(
                f"{file}: ReaL's labels go by the names ILSVRC2012_val_00000001.JPEG and so on; keep them as published"
            )
        number = int(found[1])
        if not 1 <= number <= len(self._classes):
            raise LabelFileError(f"{file}: {self.path} has labels for the images 1 to {len(self._classes)}")
        return self._classes[number - 1]

    def score(self, files: Sequence[str], predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which predictions are right, and which images count, bool ``[N]`` each.

        Args:
            files: N names of images.
            predicted: int ``[N]``, their predicted classes.

        Raises:
            LabelFileError: see :meth:`classes_of`.
        """
        classes = [self.classes_of(file) for file in files]
        right = np.array([int(one) in several for one, several in zip(predicted, classes)], bool)
        return right, np.array([bool(several) for several in classes], bool)


def find_real_labels(word: str, folders: Sequence[Union[str, Path]]) -> RealLabels:
    """Return the labels that ``word`` names: the path of a file, or ``real`` for ``real.json`` in one of the folders.

    Raises:
        FileNotFoundError: if it is not there; the message says where it was looked for, and where to get it.
        LabelFileError: see :class:`RealLabels`.
    """
    if word != REAL:
        return RealLabels(word)
    places = [Path(folder) / FILE_NAME for folder in folders]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        looked = ", ".join(map(str, places))
        raise FileNotFoundError(f"no {FILE_NAME} there ({looked}); give its path in place of {REAL!r}. It is {SOURCE}")
    return RealLabels(found)


def _is_classes(item: object) -> bool:
    return isinstance(item, list) and all(type(one) is int and one >= 0 for one in item)
