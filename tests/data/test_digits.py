"""The digits as files: real pixels, a fixed split, written once and safely."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from ppcls_ext.data import ImageNetDataset
from ppcls_ext.data.digits import as_bytes, prepare_digits
from ppcls_ext.data.label_list import read_label_list

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return prepare_digits(tmp_path_factory.mktemp("data") / "digits", progress=False)


def test_nothing_is_lost():
    values = np.arange(17)
    spread = as_bytes(values)
    assert spread[0] == 0 and spread[16] == 255 and len(set(spread)) == 17
    np.testing.assert_array_equal(np.rint(spread * (16 / 255)), values)


def test_files_hold_scikit_learns_pixels_and_labels(digits):
    images, targets = load_digits(return_X_y=True)
    seen = {}
    for name in ("train_list.txt", "val_list.txt"):
        seen.update(zip(*read_label_list(digits / name)))
    assert len(seen) == 1797
    for name, label in seen.items():
        index = int(Path(name).stem)
        assert label == targets[index]
        with Image.open(digits / name) as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.rint(np.asarray(image) * (16 / 255)).ravel(), images[index])


def test_split_is_fixed_and_stratified(digits):
    train, train_labels = read_label_list(digits / "train_list.txt")
    validation, labels = read_label_list(digits / "val_list.txt")
    assert len(train) == 1437 and len(validation) == 360 and not set(train) & set(validation)
    share = np.bincount(labels) / np.bincount(np.concatenate([labels, train_labels]))
    assert np.abs(share - 360 / 1797).max() < 0.003
    # The published accuracy of the quick start is one of these 360 images.
    assert hashlib.sha256((digits / "val_list.txt").read_bytes()).hexdigest()[:16] == "c59ef6e21b2cc87b"


def test_label_list_is_a_class_id_map(digits):
    lines = (digits / "label_list.txt").read_text().splitlines()
    assert lines[0] == "0 zero" and lines[9] == "9 nine" and len(lines) == 10


def test_writing_again_changes_nothing_and_mends_damage(digits):
    def state():
        return {path: path.read_bytes() for path in sorted(digits.rglob("*")) if path.is_file()}

    before = state()
    image = digits / "images" / "0007.png"
    untouched = (digits / "images" / "0008.png").stat().st_mtime_ns
    image.write_bytes(image.read_bytes()[:50])
    (digits / "images" / "0009.png").unlink()
    prepare_digits(digits, progress=False)
    assert state() == before
    assert (digits / "images" / "0008.png").stat().st_mtime_ns == untouched


def test_a_dataset_reads_them(digits):
    ops = [{"DecodeImage": None}, {"NormalizeImage": {"scale": "1/255", "mean": [0] * 3, "std": [1] * 3, "order": ""}}]
    dataset = ImageNetDataset(str(digits), str(digits / "val_list.txt"), ops)
    sample = dataset[0]
    index = int(Path(dataset.image_path(0)).stem)
    np.testing.assert_allclose(sample.image[1], as_bytes(load_digits().images[index]) / np.float32(255), atol=1e-7)
    assert dataset.class_num_in_labels() == 10 and not dataset.missing_files()


def test_command(tmp_path):
    command = [sys.executable, str(ROOT / "tools" / "prepare_digits.py"), "--output", str(tmp_path / "out"), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "val_list.txt" in done.stdout and (tmp_path / "out" / "val_list.txt").is_file()
