"""Archives in the exact format of the published ones, with pixels that a test chooses."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from ppcls_ext.data import cifar


def python_2_pickle(batch: dict) -> bytes:
    """Pickle a mapping of names to lists, text and one array as Python 2.7's cPickle does with protocol 2.

    Its text is bytes (SHORT_BINSTRING, BINSTRING), an array is rebuilt by ``numpy.core.multiarray._reconstruct``, and
    lists are written in runs of 1,000.
    """
    out = io.BytesIO()

    def write(value) -> None:
        if isinstance(value, str):
            write(value.encode("latin1"))
        elif isinstance(value, bytes):
            short = len(value) < 256
            out.write((b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<i", len(value))) + value)
        elif isinstance(value, bool):
            out.write(b"\x88" if value else b"\x89")
        elif isinstance(value, int):
            out.write(b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value))
        elif isinstance(value, list):
            out.write(b"]")
            for start in range(0, len(value), 1000):
                out.write(b"(")
                for item in value[start : start + 1000]:
                    write(item)
                out.write(b"e")
        elif isinstance(value, np.ndarray):
            out.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01(")
            for size in value.shape:
                write(size)
            out.write(b"tcnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")
            write(False)
            write(value.tobytes())
            out.write(b"tb")
        else:
            raise TypeError(value)

    out.write(b"\x80\x02}(")
    for key, value in batch.items():
        write(key)
        write(value)
    out.write(b"u.")
    return out.getvalue()


def images(count: int, seed: int) -> np.ndarray:
    """Random RGB images [count, 32, 32, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def rows(pixels: np.ndarray) -> np.ndarray:
    """Lay images out as the archives do: the red plane, the green, the blue."""
    return np.concatenate([pixels[..., channel].reshape(len(pixels), -1) for channel in range(3)], axis=1)


#: Classes by the key of their labels.
NAMES = {"Cifar10": {"labels": 10}, "Cifar100": {"fine_labels": 100, "coarse_labels": 20}}


class Archive:
    """A small archive, entered as the published one; ``pixels`` and ``labels`` by split are what it holds."""

    def __init__(self, folder: Path, monkeypatch, name: str, count: int = 4, poison: bytes = b""):
        published = cifar.ARCHIVES[name]
        self.path, self.folder = folder / published.file, folder / published.folder
        self.pixels, self.labels, self.coarse = {}, {}, {}
        files, contents = {}, {}
        for split, names in published.files.items():
            pixels = images(count * len(names), len(split))
            classes = 10 if name == "Cifar10" else 100
            labels = [(7 * i + len(split)) % classes for i in range(len(pixels))]
            self.pixels[split], self.labels[split] = pixels, labels
            self.coarse[split] = [label // 5 for label in labels]
            files[split] = {}
            for number, file in enumerate(names):
                part = slice(count * number, count * (number + 1))
                batch = {"batch_label": file, "data": rows(pixels[part])}
                batch["filenames"] = [f"thing_s_{i:06d}.png" for i in range(*part.indices(len(pixels)))]
                if name == "Cifar10":
                    batch["labels"] = labels[part]
                else:
                    batch["fine_labels"], batch["coarse_labels"] = labels[part], self.coarse[split][part]
                contents[file] = poison or python_2_pickle(batch)
                files[split][file] = hashlib.md5(contents[file]).hexdigest()
        self.names = {key: [f"{key[:4]} {i}" for i in range(count)] for key, count in NAMES[name].items()}
        meta = {published.name_keys[key]: names for key, names in self.names.items()}
        contents[published.names[0]] = python_2_pickle(meta)
        names_md5 = hashlib.md5(contents[published.names[0]]).hexdigest()
        with tarfile.open(self.path, "w:gz") as tar:
            for file, content in contents.items():
                entry = tarfile.TarInfo(f"{published.folder}/{file}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        md5 = hashlib.md5(self.path.read_bytes()).hexdigest()
        monkeypatch.setitem(
            cifar.ARCHIVES, name, replace(published, md5=md5, files=files, names=(published.names[0], names_md5))
        )

    def unpack(self) -> Path:
        with tarfile.open(self.path) as tar:
            tar.extractall(self.folder.parent, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(
                self.folder.parent
            )
        return self.folder


def as_python_reads_it(content: bytes) -> dict:
    """Read it with the standard library, for comparison; the content is our own."""
    return pickle.loads(content, encoding="latin1")  # noqa: S301
