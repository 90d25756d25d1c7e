"""CIFAR-10 and CIFAR-100 from their published archives (A. Krizhevsky, Learning Multiple Layers of Features from Tiny
Images, 2009, https://www.cs.toronto.edu/~kriz/cifar.html): 50,000 training and 10,000 test images of 32 x 32 pixels.

The archives hold Python 2 pickles. They are checked against the published MD5 and read by a machine that runs nothing
of what a file names; no image is re-encoded.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tarfile
from dataclasses import dataclass
from typing import Optional, Sequence

import numpy as np

from ppcls_ext.data.datasets import ClassificationDataset
from ppcls_ext.data.errors import DataFileError
from ppcls_ext.data.preprocess import DecodeImage
from ppcls_ext.utils.files import open_regular
from ppcls_ext.utils.safe_pickle import DAMAGE, Bytes, DataUnpickler, MemoryBudget, UnsafeFileError
from ppcls_ext.utils.validate import choice

SIDE = 32
SPLITS = ("train", "test")


@dataclass(frozen=True)
class CifarArchive:
    """What is published of one of the two datasets: where it is, and the MD5 of the archive and of each file in it."""

    name: str  # of the dataset here
    url: str
    md5: str
    folder: str  # in the archive
    files: dict  # split -> {file: MD5}
    names: tuple  # file of the class names, and its MD5
    name_keys: dict  # key of the labels in a batch -> key of their names in that file

    @property
    def file(self) -> str:
        """The archive's file name."""
        return self.url.rpartition("/")[2]

    def remedy(self) -> str:
        """Return how to get the archive."""
        option = self.name.lower()
        return f"python tools/prepare_cifar.py --dataset {option} fetches it from {self.url} (MD5 {self.md5})"


CIFAR_10 = CifarArchive(
    "Cifar10",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "c58f30108f718f92721af3b95e74349a",
    "cifar-10-batches-py",
    {
        "train": {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        "test": {"test_batch": "40351d587109b95175f43aff81a1287e"},
    },
    ("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
    {"labels": "label_names"},
)
CIFAR_100 = CifarArchive(
    "Cifar100",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    "eb9058c3a382ffc7106e4002c42a8d85",
    "cifar-100-python",
    {
        "train": {"train": "16019d7e3df5f24257cddd939b257f8d"},
        "test": {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    },
    ("meta", "7973b15100ade9c7d40fb424638fde48"),
    {"fine_labels": "fine_label_names", "coarse_labels": "coarse_label_names"},
)
ARCHIVES = {archive.name: archive for archive in (CIFAR_10, CIFAR_100)}


class Cifar10(ClassificationDataset):
    """CIFAR-10: 10 classes. Images are uint8 ``[32, 32, 3]`` before the operators.

    The operators may begin with DecodeImage, as those of files do, and then have its order of channels; without it they
    are given RGB.

    Args:
        data_file: ``cifar-10-python.tar.gz``, or the folder ``cifar-10-batches-py`` that was unpacked from it.
        mode: "train" or "test".
        transform_ops: operators as in YAML.
        skip_bad: see :class:`ClassificationDataset`; no image here can be bad.
        seed: see :class:`ClassificationDataset`.

    Raises:
        FileNotFoundError: if the archive or a file of the folder does not exist.
        DataFileError: if it is not the published one.
        ValueError: if an argument or the operators are wrong.
    """

    from_bytes = False
    image_size = (SIDE, SIDE)
    archive_name = CIFAR_10.name

    def __init__(
        self,
        data_file: str,
        mode: str,
        transform_ops: Optional[Sequence[dict]] = None,
        *,
        skip_bad: bool = False,
        seed: int = 0,
    ):
        self._load(data_file, mode, "labels", transform_ops, skip_bad, seed)

    def _load(
        self,
        data_file: str,
        mode: str,
        label_key: str,
        transform_ops: Optional[Sequence[dict]],
        skip_bad: bool,
        seed: int,
    ) -> None:
        split = read_split(ARCHIVES[self.archive_name], data_file, choice(mode, "mode", SPLITS))
        labels: list[int] = []
        paths: list[str] = []
        for file, batch, count in split.batches:
            names, classes = batch.get("filenames"), batch.get(label_key)
            if not isinstance(names, list) or not isinstance(classes, list) or {len(names), len(classes)} != {count}:
                raise DataFileError(f"{data_file}: {file} lacks a name and one of its {label_key} for each image")
            labels.extend(classes)
            paths.extend(f"{data_file}:{file}/{name}" for name in names)
        self.pixels = split.pixels
        self.class_names = read_class_names(ARCHIVES[self.archive_name], data_file, label_key)
        self.original_classes = tuple(int(label) for label in np.unique(labels))
        super().__init__(paths, np.array(labels, np.int64), transform_ops, skip_bad=skip_bad, seed=seed)
        operators = self.transforms.operators
        self._as_bgr = bool(operators) and isinstance(operators[0], DecodeImage)

    def read(self, index: int) -> np.ndarray:
        """Return the pixels ``[32, 32, 3]`` of a sample: BGR, which DecodeImage takes arrays for, if it comes first."""
        image = self.pixels[index]
        return image[:, :, ::-1] if self._as_bgr else image

    def missing_files(self) -> list[str]:
        """Return []: all images are in memory."""
        return []


class Cifar100(Cifar10):
    """CIFAR-100: 100 classes in 20 groups.

    Args:
        data_file: ``cifar-100-python.tar.gz``, or the folder ``cifar-100-python`` that was unpacked from it.
        mode: "train" or "test".
        transform_ops: operators as in YAML.
        label_mode: "fine" for the 100 classes, "coarse" for the 20 groups.
        skip_bad: see :class:`Cifar10`.
        seed: see :class:`ClassificationDataset`.

    Raises:
        FileNotFoundError, DataFileError, ValueError: see :class:`Cifar10`.
    """

    archive_name = CIFAR_100.name

    def __init__(
        self,
        data_file: str,
        mode: str,
        transform_ops: Optional[Sequence[dict]] = None,
        label_mode: str = "fine",
        *,
        skip_bad: bool = False,
        seed: int = 0,
    ):
        key = f"{choice(label_mode, 'label_mode', ('fine', 'coarse'))}_labels"
        self._load(data_file, mode, key, transform_ops, skip_bad, seed)


def check_archive(archive: CifarArchive, path: str) -> None:
    """Compare the archive ``path`` with the published one.

    Raises:
        DataFileError: if it is a different file; the message says how to get the right one.
    """
    with open_regular(path) as stream:
        digest = hashlib.md5(usedforsecurity=False)
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    found = digest.hexdigest()
    if found == archive.md5:
        return
    for other in ARCHIVES.values():
        if found == other.md5:
            raise DataFileError(f"{path} is {other.file}: write name: {other.name}, or give {archive.file}")
    raise DataFileError(
        f"{path} has the MD5 {found}, that of {archive.file} is {archive.md5}: it is incomplete or a different file. "
        f"Delete it; {archive.remedy()}"
    )


@dataclass(frozen=True)
class Split:
    """The images of a split, uint8 ``[n, 32, 32, 3]``, read-only, and (file, what else it holds, its images)."""

    pixels: np.ndarray
    batches: list[tuple[str, dict, int]]


def read_split(archive: CifarArchive, data_file: str, mode: str) -> Split:
    """Return a split, checked. An archive is read once in a process, however often it is asked for.

    Args:
        archive: which of the two.
        data_file: the archive, or its unpacked folder.
        mode: "train" or "test".

    Raises:
        FileNotFoundError: if the archive or a file does not exist.
        DataFileError: if it is not the published one.
    """
    if os.path.isdir(data_file):
        places = [os.path.join(data_file, name) for name in archive.files[mode]]
    elif os.path.exists(data_file):
        places = [data_file]
    else:
        raise FileNotFoundError(f"data_file {str(data_file)!r} does not exist; {archive.remedy()}")
    # The files' size and time tell whether they are still the same.
    states = tuple(os.stat(path) if os.path.exists(path) else None for path in places)
    stamp = tuple((state.st_size, state.st_mtime_ns, state.st_ino) if state else None for state in states)
    splits = (mode,) if os.path.isdir(data_file) else SPLITS
    return _read_splits(archive.name, os.path.abspath(data_file), data_file, splits, stamp)[mode]


def read_class_names(archive: CifarArchive, data_file: str, label_key: str) -> Optional[list[str]]:
    """Return the names of the classes by id, from the archive's own file of them.

    Args:
        archive: which of the two.
        data_file: the archive, or its unpacked folder.
        label_key: ``labels``, ``fine_labels`` or ``coarse_labels``.

    Returns:
        None for a folder without that file.

    Raises:
        DataFileError: if it is not the published one.
    """
    file, md5 = archive.names
    if os.path.isdir(data_file):
        if not os.path.exists(os.path.join(data_file, file)):
            return None
        content = _read_unpacked(archive, data_file, file, md5)
    else:  # its MD5 has been compared with the published one
        with tarfile.open(data_file, "r:gz") as tar:
            content = _read_member(tar, f"{archive.folder}/{file}", data_file)
    names = _unpickled(content, f"{data_file}: {file}").get(archive.name_keys[label_key])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataFileError(f"{data_file}: {file} lacks the names {archive.name_keys[label_key]}")
    return names


@functools.lru_cache(maxsize=4)
def _read_splits(name: str, path: str, data_file: str, splits: tuple, stamp: tuple) -> dict[str, Split]:
    archive = ARCHIVES[name]
    files = {file: md5 for split in splits for file, md5 in archive.files[split].items()}
    if os.path.isdir(path):
        content = {file: _read_unpacked(archive, data_file, file, md5) for file, md5 in files.items()}
    else:
        check_archive(archive, data_file)
        with tarfile.open(path, "r:gz") as tar:
            content = {file: _read_member(tar, f"{archive.folder}/{file}", data_file) for file in files}
    return {split: _parsed({file: content.pop(file) for file in archive.files[split]}, data_file) for split in splits}


def _read_member(tar: tarfile.TarFile, name: str, data_file: str) -> bytes:
    stream = tar.extractfile(name)
    if stream is None:
        raise DataFileError(f"{data_file}: {name} is no file")
    return stream.read()


def _parsed(files: dict[str, bytes], data_file: str) -> Split:
    pixels, batches = [], []
    for file, content in files.items():
        batch = _unpickled(content, f"{data_file}: {file}")
        pixels.append(_checked_pixels(batch.pop("data", None), f"{data_file}: {file}"))
        batches.append((file, batch, len(pixels[-1])))
    together = np.concatenate(pixels)
    together.flags.writeable = False
    return Split(together, batches)


def _read_unpacked(archive: CifarArchive, folder: str, name: str, md5: str) -> bytes:
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"data_file {str(folder)!r} holds no {name}; expected the folder {archive.folder} of {archive.file}"
        )
    with open_regular(path) as stream:
        content = stream.read()
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataFileError(f"{path} has the MD5 {found}, published is {md5}; unpack {archive.file} again")
    return content


def _unpickled(content: bytes, where: str) -> dict:
    try:
        batch = DataUnpickler(Bytes(memoryview(content)), MemoryBudget(len(content))).load()
    except (UnsafeFileError, *DAMAGE) as error:
        raise DataFileError(f"{where}: {error}") from error
    if not isinstance(batch, dict):
        raise DataFileError(f"{where} holds a {type(batch).__name__}, expected a mapping")
    return batch


def _checked_pixels(data, where: str) -> np.ndarray:
    """Turn rows of 1,024 red, green and blue values into images ``[n, 32, 32, 3]``."""
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape != (len(data), 3 * SIDE * SIDE):
        raise DataFileError(f"{where} holds no uint8 pixels [n, {3 * SIDE * SIDE}] under 'data'")
    return np.ascontiguousarray(data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
