"""Label lists, the folder layout, and what is checked of them before training."""

from __future__ import annotations

import numpy as np
import pytest
from data_helpers import EVAL_OPS, encode, smooth_pixels
from PIL import Image

from ppcls_ext.data import ImageFolder, ImageNetDataset, LabelFileError, inspect_labels
from ppcls_ext.data.build import build_dataset
from ppcls_ext.data.label_list import read_label_list, relabelled
from ppcls_ext.data.label_names import read_class_id_map
from ppcls_ext.data.summary import relabel_problem


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("a.png 0\nsub/my photo.png 12\n", None),
        ("a.png\t0\r\nsub/my photo.png \t 12", None),
        ("\n  a.png 0  \n\n\t\nsub/my photo.png  12\n\n", None),
        ("a.png,0\nsub/my photo.png,12\n", ","),
        ("a.png\t0\nsub/my photo.png\t12\n", "\t"),
        ("a.png 0\nsub/my photo.png 12\n", " "),
        ("\ufeffa.png 0\nsub/my photo.png 12\n", None),
    ],
    ids=["spaces", "tabs_crlf", "blank_lines", "comma", "tab", "one_space", "byte_order_mark"],
)
def test_label_list_is_read(tmp_path, text, delimiter):
    """Defect of issue 2068: blank lines, tabs and spaces in paths stopped PaddleClas with an IndexError."""
    names, labels = read_label_list(write(tmp_path / "train_list.txt", text), delimiter)
    assert names == ["a.png", "sub/my photo.png"]
    np.testing.assert_array_equal(labels, [0, 12])
    assert labels.dtype == np.int64


@pytest.mark.parametrize(
    ("line", "delimiter", "message"),
    [
        ("b.png", None, 'train_list.txt:3: expected "<path> <int>", got "b.png"'),
        ("b.png one", None, 'train_list.txt:3: expected "<path> <int>", got "b.png one"'),
        ("b.png 1.0", None, 'train_list.txt:3: expected "<path> <int>", got "b.png 1.0"'),
        ("b.png 1_0", None, 'train_list.txt:3: expected "<path> <int>", got "b.png 1_0"'),
        ("7", None, 'train_list.txt:3: expected "<path> <int>", got "7"'),
        ("b.png 1", "\t", 'train_list.txt:3: expected "<path>\\t<int>", got "b.png 1"'),
    ],
    ids=["no_label", "word", "fraction", "underscore", "no_path", "other_delimiter"],
)
def test_malformed_line_is_named(tmp_path, line, delimiter, message):
    between = delimiter or " "
    path = write(tmp_path / "train_list.txt", f"a.png{between}0\n\n{line}\nc.png{between}2\n")
    with pytest.raises(LabelFileError) as caught:
        read_label_list(path, delimiter)
    assert str(caught.value) == message


def test_malformed_lines_are_listed_and_counted(tmp_path):
    path = write(tmp_path / "list.txt", "".join(f"line{i}\n" for i in range(9)))
    with pytest.raises(LabelFileError) as caught:
        read_label_list(path)
    lines = str(caught.value).splitlines()
    assert lines[4].startswith("list.txt:5: ") and lines[5].startswith("... and 4 more lines") and len(lines) == 6


def test_unreadable_lists(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.txt"):
        read_label_list(tmp_path / "nowhere.txt")
    with pytest.raises(LabelFileError, match="holds no sample"):
        read_label_list(write(tmp_path / "empty.txt", "\n \n"))
    with pytest.raises(LabelFileError, match="latin.txt:1: expected UTF-8"):
        read_label_list(write(tmp_path / "latin.txt", "caf\u00e9.png 1\n", "latin-1"))


def test_relabel_follows_the_sorted_order():
    """Defect 36: PaddleClas numbers the classes in the order of a Python set: {10: 0, 3: 1, 7: 2}."""
    np.testing.assert_array_equal(relabelled(np.array([10, 3, 7, 10, 3])), [2, 0, 1, 2, 0])
    np.testing.assert_array_equal(relabelled(np.array([-1, 1, 1])), [0, 1, 1])


def image_file(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(Image.fromarray(smooth_pixels(16, 16, seed)), "PNG"))
    return path


def test_relative_and_absolute_paths(tmp_path):
    inside, outside = image_file(tmp_path / "root" / "a b.png"), image_file(tmp_path / "elsewhere" / "c.png", 1)
    listing = write(tmp_path / "list.txt", f"a b.png 1\n{outside} 0\n")
    dataset = ImageNetDataset(str(tmp_path / "root"), str(listing), EVAL_OPS)
    assert [dataset.image_path(i) for i in range(2)] == [str(inside), str(outside)]
    assert dataset.missing_files() == [] and dataset.class_num_in_labels() == 2
    assert dataset[1].image.shape == (3, 12, 12) and dataset[1].label == 0
    assert dataset[-1].index == 1
    with pytest.raises(IndexError):
        dataset[2]


def test_relabel_of_a_dataset(tmp_path):
    listing = write(tmp_path / "list.txt", "a 10\nb 3\nc 7\n")
    dataset = ImageNetDataset(str(tmp_path), str(listing), EVAL_OPS, relabel=True)
    np.testing.assert_array_equal(dataset.labels, [2, 0, 1])
    assert dataset.original_classes == (3, 7, 10)


def test_missing_files_are_reported_before_training(image_set):
    for index in range(3, 12):
        image_set.path(index).unlink()
    with pytest.raises(FileNotFoundError, match="9 of 22 image files do not exist") as caught:
        build_dataset(image_set.section()["dataset"], "Train")
    shown = str(caught.value).splitlines()[1:]
    assert shown == [f"  {image_set.path(index)}" for index in range(3, 8)]
    summary = inspect_labels(image_set.section()["dataset"])
    assert summary.missing_count == 9 and summary.missing[0] == str(image_set.path(3))


def section(tmp_path, text, **more):
    listing = write(tmp_path / f"{len(list(tmp_path.iterdir()))}.txt", text)
    return {"name": "ImageNetDataset", "image_root": str(tmp_path), "cls_label_path": str(listing), **more}


def test_label_summary(tmp_path):
    summary = inspect_labels(section(tmp_path, "a 1\nb 4\nc 4\n"))
    assert (summary.count, summary.min, summary.max, summary.classes) == (3, 1, 4, 2)
    assert summary.missing_count == 3
    assert inspect_labels(section(tmp_path, "a 1\n"), check_files=False).missing_count == 0


def test_labels_against_the_class_count(tmp_path):
    one_based = inspect_labels(section(tmp_path, "a 1\nb 2\nc 3\n"))
    assert "look 1-based" in one_based.problem(3)
    assert one_based.problem(4) is None
    too_many = inspect_labels(section(tmp_path, "a 0\nb 5\n")).problem(3)
    assert "labels go from 0 to 5" in too_many and "class_num to 6" in too_many and "1-based" not in too_many
    with pytest.raises(LabelFileError, match="negative"):
        inspect_labels(section(tmp_path, "a -1\nb 0\n"))


def test_relabelling_must_agree_between_lists(tmp_path):
    """Defect 36, second half: train {3, 7, 10} and val {7, 10} get different numbers for the same class."""
    train = inspect_labels(section(tmp_path, "a 10\nb 3\nc 7\n", relabel=True))
    fewer = inspect_labels(section(tmp_path, "a 10\nb 7\n", relabel=True))
    same = inspect_labels(section(tmp_path, "a 7\nb 3\nc 10\n", relabel=True))
    plain = inspect_labels(section(tmp_path, "a 7\nb 3\nc 10\n"))
    assert "[3]" in relabel_problem(train, fewer)
    assert relabel_problem(train, same) is None
    assert relabel_problem(train, plain)
    assert relabel_problem(plain, plain) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "ImageNetDatset"}, "did you mean 'ImageNetDataset'"),
        ({"name": "MultiLabelDataset"}, "does not support"),
        ({"cls_label_paht": "x"}, "did you mean 'cls_label_path'"),
        ({"cls_label_path": None}, "needs the argument 'cls_label_path'"),
        ({"transform_ops": [{"ResizeImage": {"size": 8}}]}, "must be DecodeImage"),
        ({"skip_bad": True}, "no argument 'skip_bad'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_mistakes_in_the_section(image_set, change, message):
    section = {**image_set.section()["dataset"], **change}
    section = {key: value for key, value in section.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        build_dataset(section, "Train")


# ---------------------------------------------------------------- one folder a class


def test_folder_layout_is_sorted_and_recursive(tmp_path):
    for name in ("dog/2.png", "cat/x/1.PNG", "cat/0.png", "bird/a.png"):
        image_file(tmp_path / name)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "readme.txt").write_text("no class")
    (tmp_path / ".cache").mkdir()
    dataset = ImageFolder(str(tmp_path), EVAL_OPS)
    assert dataset.classes == ["bird", "cat", "dog"]
    assert [path[len(str(tmp_path)) + 1 :] for path in dataset.paths] == [
        "bird/a.png",
        "cat/0.png",
        "cat/x/1.PNG",
        "dog/2.png",
    ]
    np.testing.assert_array_equal(dataset.labels, [0, 1, 1, 2])
    assert dataset[3].label == 2


def test_folder_layout_with_a_map(tmp_path):
    for name in ("dog/2.png", "big cat/0.png"):
        image_file(tmp_path / "images" / name)
    root = str(tmp_path / "images")
    good = write(tmp_path / "map.txt", "0 dog\n7 big cat\n")
    np.testing.assert_array_equal(ImageFolder(root, EVAL_OPS, str(good)).labels, [7, 0])
    for text, message in [("0 dog\n", "'big cat' has no line"), ("dog 0\n", 'map2.txt:1: expected "<id> <name>"')]:
        with pytest.raises(LabelFileError, match=message):
            ImageFolder(root, EVAL_OPS, str(write(tmp_path / "map2.txt", text)))
    with pytest.raises(FileNotFoundError, match="map3"):
        ImageFolder(root, EVAL_OPS, str(tmp_path / "map3.txt"))


def test_empty_folders_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a folder"):
        ImageFolder(str(tmp_path / "nowhere"), EVAL_OPS)
    with pytest.raises(LabelFileError, match="no class folder"):
        ImageFolder(str(tmp_path), EVAL_OPS)
    image_file(tmp_path / "cat" / "0.png")
    (tmp_path / "dog").mkdir()
    with pytest.raises(LabelFileError, match="dog' holds no image"):
        ImageFolder(str(tmp_path), EVAL_OPS)


def test_imagenets_names_come_with_the_package(tmp_path, monkeypatch):
    """Spot checks against the class indices of ILSVRC 2012 as publications show them."""
    names = read_class_id_map("imagenet1k")
    assert len(names) == 1000
    known = {0: "tench, Tinca tinca", 207: "golden retriever", 417: "balloon", 954: "banana", 985: "daisy"}
    assert {number: names[number] for number in known} == known
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet1k").write_text("0 cat\n1 dog\n")
    assert read_class_id_map("imagenet1k") == ["cat", "dog"]  # a file of that name is the user's own
