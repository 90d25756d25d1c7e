"""Datasets: what all of them share, and the label list beside an image folder."""

from __future__ import annotations

import os
from typing import Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.errors import BadImageError, DecodeError, LabelFileError, TransformError
from ppcls_ext.data.label_list import SHOWN, read_label_list, relabelled
from ppcls_ext.data.preprocess import CHW, Pipeline, build_transforms
from ppcls_ext.data.sample import BadImage, Sample
from ppcls_ext.data.text_files import printable
from ppcls_ext.data.token_label import TokenLabels, read_label_map, token_scores
from ppcls_ext.utils.files import open_regular

NOT_TRACEABLE = "AugMix blends several views of an image, which one label map cannot follow; use a different policy"


class ClassificationDataset:
    """Images with one label each; the parent of every dataset.

    The randomness of a sample's operators is a function of (seed, epoch, index, repeat) alone: whoever loads it, in
    whatever order and process, gets the same pixels. ``original_classes`` are the distinct labels as the files have
    them, before any relabelling.

    Args:
        paths: the image files.
        labels: int64 ``[n]``.
        transform_ops: operators as in YAML; where images are files (``from_bytes``) the first is DecodeImage.
        skip_bad: whether an unreadable image becomes a :class:`BadImage` (training) rather than an error (evaluation).
        seed: of the random operators.

    Raises:
        ValueError: if the operators are wrong or a label is negative.
    """

    #: Whether :meth:`read` gives the bytes of a file rather than pixels.
    from_bytes = True
    #: (width, height) of the images before the operators, where all have the same.
    image_size: Optional[tuple[int, int]] = None
    #: The names of the classes by their ids, where the dataset knows them.
    class_names: Optional[list[str]] = None
    #: The distinct labels as the files have them.
    original_classes: tuple[int, ...]
    #: How labels of tokens are made, and the files of the label maps; see :meth:`use_token_labels`.
    token_labels: Optional[TokenLabels] = None
    label_maps: Sequence[str] = ()

    def __init__(
        self,
        paths: Sequence[str],
        labels: np.ndarray,
        transform_ops: Optional[Sequence[dict]] = None,
        *,
        skip_bad: bool = False,
        seed: int = 0,
    ):
        self.paths = paths
        self.labels = np.asarray(labels, np.int64)
        self.transforms = build_transforms(transform_ops, from_bytes=self.from_bytes, size=self.image_size)
        self.before_normalization, self.normalization = self.transforms.split_normalization()
        self.skip_bad = skip_bad
        self.seed = seed
        self.epoch = 0
        if self.labels.min() < 0:
            worst = int(self.labels.argmin())
            raise LabelFileError(f"{self.paths[worst]}: label {self.labels[worst]} is negative; see relabel")

    def use_token_labels(self, section: dict, image_root: str) -> None:
        """Add a label of each token to each sample.

        Args:
            section: arguments of :class:`ppcls_ext.data.token_label.TokenLabels`.
            image_root: folder that the maps' folder mirrors.

        Raises:
            ValueError: if an argument is wrong, an image is not below the folder, or an operator moves pixels in a way
                that a map cannot follow.
        """
        self.token_labels = TokenLabels(**section)
        for position, operator in enumerate(self.transforms.operators):
            if not operator.traceable:
                raise ValueError(f"transform_ops.{position}.{type(operator).__name__}: {NOT_TRACEABLE}")
        names = [os.path.relpath(path, image_root) for path in self.paths]
        outside = next((path for path, name in zip(self.paths, names) if name.startswith(os.pardir)), None)
        if outside is not None:
            raise ValueError(f"token_label: {outside} is not below {image_root}, so its label map has no place")
        self.label_maps = [self.token_labels.path_of(name) for name in names]

    def describe(self) -> None:
        """Log what is to be known of the dataset before it is used; most have nothing to say."""

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Union[Sample, BadImage]:
        """Load one sample in the epoch of :meth:`set_epoch`; see :meth:`load`."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of a dataset with {len(self)} samples")
        return self.load(int(index) % len(self), self.epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose augmentation ``dataset[i]`` shows."""
        self.epoch = int(epoch)

    def image_path(self, index: int) -> str:
        """Return the file of a sample."""
        return self.paths[index]

    def class_num_in_labels(self) -> int:
        """Return the least number of classes that holds all labels: the greatest label + 1."""
        return int(self.labels.max()) + 1

    def read(self, index: int) -> Union[bytes, np.ndarray]:
        """Return what the first operator takes: the bytes of the sample's file.

        Raises:
            OSError: if it cannot be read.
        """
        with open_regular(self.paths[index]) as stream:
            return stream.read()

    def transforms_at(self, size: Optional[tuple[int, int]], normalize: bool) -> Pipeline:
        """Return the operators for the images of a batch.

        Args:
            size: the (width, height) that its sampler gives them; None leaves that to the operators.
            normalize: False leaves out what ``self.normalization`` does.

        Raises:
            ValueError: if images of this dataset cannot be given a size.
        """
        if size is not None:
            raise ValueError(f"{type(self).__name__} takes no size from its sampler; expected MultiScaleDataset")
        return self.transforms if normalize else self.before_normalization

    def load(
        self,
        index: int,
        epoch: int,
        repeat: int = 0,
        normalize: bool = True,
        size: Optional[tuple[int, int]] = None,
    ) -> Union[Sample, BadImage]:
        """Read, decode and transform one image.

        Args:
            index: of the sample.
            epoch: chooses the augmentation.
            repeat: selects a different augmentation, for samplers that use an image several times in an epoch.
            normalize: False leaves out what ``self.normalization`` does at the end, if there is such an operator.
            size: see :meth:`transforms_at`.

        Returns:
            The sample, its image ``[channels, height, width]`` as float32, or as bytes where normalisation was left
            out; or, in training, a BadImage.

        Raises:
            BadImageError: if the file cannot be read or decoded, in evaluation.
            TransformError: if an operator fails on the decoded image.
            FileNotFoundError, DataFileError: if the image's label map cannot be read.
        """
        path = self.paths[index]
        transforms = self.transforms_at(size, normalize)
        words = [self.seed, epoch, index] + ([repeat] if repeat else [])
        try:
            data, rng = self.read(index), np.random.default_rng(words)
            if self.token_labels is None:
                image = transforms(data, rng)
            else:
                image, to_source, source = transforms.traced(data, rng)
        except (OSError, DecodeError) as error:
            reason = f"{error.strerror or error}" if isinstance(error, OSError) else str(error)
            if self.skip_bad:
                return BadImage(index, path, reason)
            raise BadImageError(f"{printable(path)} (sample {index}): {reason}") from error
        except TransformError as error:
            raise TransformError(f"sample {index}, {printable(path)}, {error}") from error.__cause__
        if transforms.layout != CHW:
            image = image.transpose(2, 0, 1)
        tokens = None
        if self.token_labels is not None:
            label_map, (height, width) = read_label_map(self.label_maps[index]), image.shape[1:]
            tokens = token_scores(label_map, to_source, source, (width, height), self.token_labels.size)
        if normalize or self.normalization is None:
            image = np.ascontiguousarray(image, np.float32)
        return Sample(image, int(self.labels[index]), index, tokens)

    def missing_files(self) -> list[str]:
        """Return the images and label maps that do not exist.

        Each folder is listed once, which is quick on network disks too.
        """
        listings: dict[str, set] = {}
        missing = []
        for path in (*self.paths, *self.label_maps):
            folder, name = os.path.split(path)
            if folder not in listings:
                listings[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
            # A file system may ignore case or normalise names, so what the listing lacks is looked up individually.
            if name not in listings[folder] and not os.path.exists(path):
                missing.append(path)
        return missing

    def check_files(self) -> None:
        """Look for every image file and label map.

        Raises:
            FileNotFoundError: with the number of missing files and the first few names.
        """
        missing = self.missing_files()
        if missing:
            shown = "\n".join(f"  {printable(path)}" for path in missing[:SHOWN])
            files = "image files and label maps" if self.label_maps else "image files"
            count = len(self.paths) + len(self.label_maps)
            raise FileNotFoundError(f"{len(missing)} of {count} {files} do not exist, the first:\n{shown}")


class ImageNetDataset(ClassificationDataset):
    """A label list (one ``<path> <int>`` a line) and the folder that its relative paths start from.

    Args:
        image_root: the folder; absolute paths in the list stand for themselves.
        cls_label_path: the list.
        transform_ops: operators as in YAML.
        delimiter: between path and label, by default any run of spaces or tabs.
        relabel: renumber the classes as 0, 1, ..., in the sorted order of the labels in this list.
        token_label: arguments of :class:`ppcls_ext.data.token_label.TokenLabels`, for a label of each token.
        skip_bad: see :class:`ClassificationDataset`.
        seed: see :class:`ClassificationDataset`.

    Raises:
        FileNotFoundError: if the list or the folder does not exist.
        LabelFileError: if the list is malformed, with file and line.
        ValueError: if the operators are wrong.
    """

    def __init__(
        self,
        image_root: str,
        cls_label_path: str,
        transform_ops: Optional[Sequence[dict]] = None,
        delimiter: Optional[str] = None,
        relabel: bool = False,
        token_label: Optional[dict] = None,
        *,
        skip_bad: bool = False,
        seed: int = 0,
    ):
        if not os.path.isdir(image_root):
            raise FileNotFoundError(f"image_root {str(image_root)!r} is not a folder")
        names, labels = read_label_list(cls_label_path, delimiter, image_root)
        paths = [os.path.join(image_root, name) for name in names]
        self.original_classes = tuple(int(label) for label in np.unique(labels))
        labels = relabelled(labels) if relabel else labels
        super().__init__(paths, labels, transform_ops, skip_bad=skip_bad, seed=seed)
        if token_label is not None:
            if relabel:
                raise ValueError("token_label: a teacher knows the classes of the list; expected relabel: False")
            self.use_token_labels(token_label, image_root)
