"""ReaL's labels and parts of the classes, in files like the published ones."""

import json

import numpy as np
import pytest
from PIL import Image

from ppcls_ext.data import LabelFileError, build_dataset
from ppcls_ext.data.class_subset import read_class_subset
from ppcls_ext.data.label_names import read_class_id_map
from ppcls_ext.data.real_labels import RealLabels, find_real_labels

pytestmark = pytest.mark.compat


def image(number: int) -> str:
    return f"val/n01440764/ILSVRC2012_val_{number:08d}.JPEG"


@pytest.fixture
def real(tmp_path):
    path = tmp_path / "real.json"
    path.write_text(json.dumps([[0], [1, 2], [], [3]]))
    return path


def test_a_prediction_is_right_if_it_is_in_the_set_and_empty_sets_do_not_count(real):
    """As the published example computes it."""
    predictions = np.array([0, 2, 5, 1])
    labels = json.loads(real.read_text())
    expected = np.mean([one in labels[i] for i, one in enumerate(predictions) if labels[i]])
    right, counts = RealLabels(real).score([image(number) for number in (1, 2, 3, 4)], predictions)
    assert counts.tolist() == [True, True, False, True]
    assert right[counts].mean() == expected == pytest.approx(2 / 3)


def test_images_are_told_by_their_number_not_their_order(real):
    right, _ = RealLabels(real).score([image(4), image(1)], np.array([3, 0]))
    assert right.all()


def test_the_file_is_found_beside_the_images(real, tmp_path):
    assert len(find_real_labels("real", [tmp_path / "elsewhere", tmp_path])) == 4
    assert len(find_real_labels(str(real), [])) == 4
    with pytest.raises(FileNotFoundError, match="no real.json there.*github.com/google-research/reassessed-imagenet"):
        find_real_labels("real", [tmp_path / "elsewhere"])


@pytest.mark.parametrize(
    "content, message",
    [
        ("[[0], [1", "is no JSON file"),
        ('{"0": [1]}', "expected a list of lists"),
        ("[[true]]", "expected a list of lists"),
    ],
)
def test_another_file(tmp_path, content, message):
    path = tmp_path / "real.json"
    path.write_text(content)
    with pytest.raises(LabelFileError, match=message):
        RealLabels(path)


@pytest.mark.parametrize("name, message", [("cat.jpg", "by the names ILSVRC2012_val"), (image(5), "the images 1 to 4")])
def test_another_image(real, name, message):
    with pytest.raises(LabelFileError, match=message):
        RealLabels(real).classes_of(name)


# ---- parts of the classes -----------------------------------------------------------------------------------------


def test_word_net_ids_of_imagenet():
    """1000 of them, in the order of their names, as ILSVRC 2012 numbers its classes."""
    wnids = read_class_id_map("imagenet1k_wnids")
    assert len(wnids) == len(set(wnids)) == 1000 and wnids == sorted(wnids)
    names = read_class_id_map("imagenet1k")
    known = {
        "n01440764": "tench",
        "n02123045": "tabby",
        "n03902125": "pay-phone",
        "n13133613": "ear",
        "n15075141": "toilet",
    }
    assert all(names[wnids.index(wnid)].startswith(name) for wnid, name in known.items())


def test_classes_by_word_net_id_id_or_name(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("n01443537 goldfish\n7\n\nn01440764\n")
    assert read_class_subset(path, 1000).tolist() == [0, 1, 7]
    path.write_text("dog\ncat\n")
    assert read_class_subset(path, 3, ["cat", "dog", "cow"]).tolist() == [0, 1]


def test_a_folder_of_class_folders(tmp_path):
    """As the archives of ImageNet-A and -R unpack."""
    for name in ("n01498041", "n01531178", ".cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "README.txt").write_text("200 classes")
    assert read_class_subset(tmp_path, 1000).tolist() == [6, 11]


def test_classes_that_are_called_by_numbers(tmp_path):
    """The name counts: folders 0, 1, 10, 2 sorted as text are the classes 0, 1, 2, 3."""
    path = tmp_path / "classes.txt"
    path.write_text("10\n2\n")
    assert read_class_subset(path, 4, sorted(["0", "1", "2", "10"])).tolist() == [2, 3]


@pytest.mark.parametrize(
    "content, message",
    [
        ("cat\ncaw\n", "classes.txt:2: 'caw' is none of the 3 classes of the model; did you mean c"),
        ("0\ncat\n", "classes.txt:2: class 0 .'cat'. is there twice"),
        ("cat\n", "names 1 classes; expected two or more"),
        ("cat\n3\n", "classes.txt:2: '3' is none"),
    ],
)
def test_classes_that_are_not_there(tmp_path, content, message):
    path = tmp_path / "classes.txt"
    path.write_text(content)
    with pytest.raises(LabelFileError, match=message):
        read_class_subset(path, 3, ["cat", "dog", "cow"])


@pytest.mark.parametrize(
    "folders, numbers, ids",
    [
        (["n01531178", "n01498041"], "imagenet1k_wnids", [6, 11]),  # as in ImageNet-A, -R, -Sketch and -C
        (["0", "1", "10", "2"], "seq.txt", [0, 1, 10, 2]),  # as in ImageNet-V2, whose names do not sort as numbers
    ],
)
def test_folders_of_the_robustness_sets(tmp_path, monkeypatch, folders, numbers, ids):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seq.txt").write_text("".join(f"{number}\n" for number in range(1000)))
    for folder in folders:
        (tmp_path / "images" / folder).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "images" / folder / "0.jpg")
    section = {"name": "ImageFolder", "image_root": "images", "class_id_map_file": numbers}
    dataset = build_dataset({**section, "transform_ops": [{"DecodeImage": {}}]}, "Eval")
    assert dataset.labels.tolist() == ids
