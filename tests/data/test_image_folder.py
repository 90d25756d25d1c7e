"""Folders of images: what counts as data, in training and prediction alike, and which class has which number."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from data_helpers import EVAL_OPS, encode, smooth_pixels
from PIL import Image

from ppcls_ext.data import ImageFolder, LabelFileError, class_names_of, inspect_labels, label_file_problem
from ppcls_ext.data.build import build_dataloader
from ppcls_ext.data.image_files import IMAGE_SUFFIXES, images_below, list_images
from ppcls_ext.data.sample import Sample

pytestmark = pytest.mark.compat

KINDS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
    ".pgm": "PPM",
}


def put(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        suffix = path.suffix.lower()
        image = Image.fromarray(smooth_pixels(16, 16)).convert("L" if suffix == ".pgm" else "RGB")
        path.write_bytes(encode(image, KINDS.get(suffix, suffix[1:].upper())))
    return root


def section(root, **more):
    return {"name": "ImageFolder", "image_root": str(root), "transform_ops": EVAL_OPS, **more}


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_suffix_trains_and_predicts(tmp_path, suffix):
    put(tmp_path, f"cat/a{suffix}", f"cat/b{suffix.upper()}")
    dataset = ImageFolder(str(tmp_path), EVAL_OPS)
    assert [str(path) for path in list_images(tmp_path)] == dataset.paths and len(dataset) == 2
    assert isinstance(dataset[0], Sample)


def test_hidden_files_and_folders_are_no_data(tmp_path, caplog):
    put(tmp_path, "cat/0.png", "cat/.ipynb_checkpoints/0.png", "cat/.ipynb_checkpoints/deep/1.png", "cat/._0.png")
    put(tmp_path, ".cache/dog/0.png", "cat/more/2.png")
    expected = [str(tmp_path / "cat/0.png"), str(tmp_path / "cat/more/2.png")]
    loader = build_dataloader({"dataset": section(tmp_path), "sampler": {"batch_size": 1}}, "Eval")
    assert loader.dataset.paths == expected and loader.dataset.hidden == 4
    assert "left out 4 images that are hidden" in caplog.text
    caplog.clear()
    assert [str(path) for path in list_images(tmp_path)] == expected
    assert "left out 4 images that are hidden" in caplog.text


def test_linked_folders_are_followed_once_and_never_in_circles(tmp_path):
    put(tmp_path, "data/cat/0.png", "elsewhere/1.png")
    cat = tmp_path / "data" / "cat"
    for name, target in [("x", "elsewhere"), ("y", "elsewhere"), ("up", "data"), ("self", "data/cat"), ("top", ".")]:
        (cat / name).symlink_to(tmp_path / target)
    (tmp_path / "data" / "circle").symlink_to(tmp_path / "data")
    found = images_below(cat)
    assert [path[len(str(cat)) + 1 :] for path in found.paths] == ["0.png", "x/1.png"]
    assert ImageFolder(str(tmp_path / "data"), EVAL_OPS).classes == ["cat"]
    assert [path.name for path in list_images(tmp_path / "data")] == ["0.png", "1.png"]


# ---------------------------------------------------------------- which class has which number


@pytest.fixture
def folders(tmp_path):
    put(tmp_path / "train", "bird/0.png", "cat/0.png", "dog/0.png")
    put(tmp_path / "val", "cat/1.png", "dog/1.png")
    return tmp_path


def test_evaluation_numbers_its_folders_as_training_does(folders):
    """Trial 1: the first class folder is missing from validation."""
    names = class_names_of(section(folders / "train"))
    assert names == ["bird", "cat", "dog"]
    loader = build_dataloader(
        {"dataset": section(folders / "val"), "sampler": {"batch_size": 2}}, "Eval", class_names=names
    )
    np.testing.assert_array_equal(loader.dataset.labels, [1, 2])
    assert loader.dataset.class_names == names
    assert inspect_labels(section(folders / "val"), class_names=names).class_names == ("bird", "cat", "dog")


def test_a_folder_that_training_does_not_know_is_an_error(folders):
    put(folders / "val", "fish/0.png")
    with pytest.raises(LabelFileError) as caught:
        inspect_labels(section(folders / "val"), class_names=["bird", "cat", "dog"])
    for part in ("does not know: fish;", "the folders here are cat, dog, fish", "training are bird, cat, dog"):
        assert part in str(caught.value)


def test_names_numbers_and_counts_are_logged(folders, caplog):
    put(folders / "train", "loose.png")
    with caplog.at_level(logging.INFO, "ppcls_ext"):
        build_dataloader({"dataset": section(folders / "train"), "sampler": {"batch_size": 1}}, "Train")
    assert "0 bird (1), 1 cat (1), 2 dog (1)" in caplog.text
    assert "left out 1 images that are in no class folder" in caplog.text


def test_a_map_names_the_classes_and_may_not_contradict_training(folders):
    path = folders / "map.txt"
    path.write_text("0 dog\n2 cat\n1 bird\n")
    train = section(folders / "train", class_id_map_file=str(path))
    assert class_names_of(train) == ["dog", "bird", "cat"]
    np.testing.assert_array_equal(ImageFolder(str(folders / "val"), EVAL_OPS, str(path)).labels, [2, 0])
    with pytest.raises(LabelFileError, match="numbers 'bird' 1, in training it is 0"):
        ImageFolder(str(folders / "val"), EVAL_OPS, str(path), class_names=["bird", "cat", "dog"])
    path.write_text("0 dog\n1 bird\n2 dog\n")
    with pytest.raises(LabelFileError, match="'dog' has two class ids, 0 and 2"):
        class_names_of(train)


def test_a_label_file_that_contradicts_the_folders():
    names = ["bird", "cat", "dog"]
    assert label_file_problem(names, ["Vogel", "Katze", "Hund"], "l.txt") is None
    assert label_file_problem(names, names, "l.txt") is None
    assert "calls class 0 'cat', but by the folders it is 'bird'" in label_file_problem(names, names[1:], "l.txt")


def test_training_on_another_machine_leaves_no_names(tmp_path):
    assert class_names_of(section(tmp_path / "nowhere")) is None
    assert class_names_of(None) is None
