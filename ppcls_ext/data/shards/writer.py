"""From a label list to shards."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Optional, Sequence, Union

import numpy as np

from ppcls_ext.data.datasets import ImageNetDataset
from ppcls_ext.data.errors import DataFileError
from ppcls_ext.data.image_files import IMAGE_SUFFIXES
from ppcls_ext.data.shards.index import SUFFIX, ShardIndex
from ppcls_ext.utils.validate import positive_int


def write_shards(
    image_root: Union[str, Path],
    cls_label_path: Union[str, Path],
    output: Union[str, Path],
    *,
    delimiter: Optional[str] = None,
    samples: int = 2000,
    shuffle: bool = True,
    seed: int = 0,
    progress: bool = True,
) -> list[str]:
    """Pack the images of a label list, bytes as they are, into ``<output>-000000.tar`` and so on, each with its index.

    Shards that are there already and hold the same samples are left alone, so an interrupted call can be made again.

    Args:
        image_root: where relative paths of the list start.
        cls_label_path: the list, ``<path> <int>`` a line.
        output: beginning of the shards' paths; the folder is created if necessary.
        delimiter: between path and label; by default any run of spaces or tabs.
        samples: images a shard.
        shuffle: mix the images once, over all shards; a list in the order of its classes has to be, for training.
        seed: of the mixing.
        progress: whether to show a progress bar.

    Returns:
        The shards.

    Raises:
        FileNotFoundError: if the list, the folder or an image does not exist; nothing is written then.
        LabelFileError: if the list is malformed.
        DataFileError: if a file of the list has no suffix of an image.
    """
    from tqdm import tqdm

    positive_int(samples, "samples")
    source = ImageNetDataset(str(image_root), str(cls_label_path), [{"DecodeImage": None}], delimiter)
    source.check_files()
    odd = [path for path in source.paths if os.path.splitext(path)[1].lower() not in IMAGE_SUFFIXES]
    if odd:
        raise DataFileError(f"{odd[0]}: expected one of {', '.join(IMAGE_SUFFIXES)}")
    order = np.random.RandomState(seed).permutation(len(source)) if shuffle else np.arange(len(source))
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    shards = []
    with tqdm(total=len(order), desc=f"shards -> {output}", unit="image", disable=not progress) as bar:
        for start in range(0, len(order), samples):
            shards.append(f"{output}-{start // samples:06d}.tar")
            _write_shard(shards[-1], source, order[start : start + samples], start)
            bar.update(len(order[start : start + samples]))
    return shards


def _write_shard(shard: str, source: ImageNetDataset, chosen: Sequence[int], start: int) -> None:
    names = [_member_name(start + place, source.paths[index]) for place, index in enumerate(chosen)]
    labels = [int(source.labels[index]) for index in chosen]
    if _is_written(shard, names, labels, [source.paths[index] for index in chosen]):
        return
    offsets, sizes = [], []
    aside = f"{shard}.{os.getpid()}"
    try:
        with tarfile.open(aside, "w:", format=tarfile.USTAR_FORMAT) as archive:
            for index, name, label in zip(chosen, names, labels):
                data = source.read(int(index))
                _add(archive, name, data)
                offsets.append(archive.offset - _padded(len(data)))
                sizes.append(len(data))
                _add(archive, f"{os.path.splitext(name)[0]}.cls", str(label).encode())
        tar_bytes = os.path.getsize(aside)
        os.replace(aside, shard)
    finally:
        if os.path.exists(aside):
            os.remove(aside)
    ShardIndex(tar_bytes, names, offsets, sizes, labels).save(shard)


def _member_name(number: int, path: str) -> str:
    """Return ``<number>-<old name>``: unique whatever the folders were, with one dot only, and not too long."""
    stem, suffix = os.path.splitext(os.path.basename(path))
    stem = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "_" for letter in stem)
    return f"{number:08d}-{stem[:60]}{suffix.lower()}"


def _is_written(shard: str, names: list[str], labels: list[int], paths: list[str]) -> bool:
    if not os.path.isfile(shard) or not os.path.isfile(shard + SUFFIX):
        return False
    try:
        index = ShardIndex.load(shard)
    except DataFileError:
        return False
    same = (index.tar_bytes, index.names, index.labels) == (os.path.getsize(shard), names, labels)
    return same and index.sizes == [os.path.getsize(path) for path in paths]


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # no date and no owner: the same list gives the same bytes
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
