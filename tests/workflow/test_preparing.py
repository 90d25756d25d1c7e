"""From a user's folder, list or CSV file to lists, and what is refused."""

import csv
import json
import os
import shutil
from collections import Counter

import numpy as np
import pytest
from own_images import CLASSES, pixels_of, write_images
from PIL import Image
from sklearn.utils.class_weight import compute_class_weight

from ppcls_ext import cli
from ppcls_ext.data import ImageNetDataset
from ppcls_ext.data.errors import LabelFileError, PreparationError
from ppcls_ext.data.label_list import read_label_list
from ppcls_ext.data.label_names import read_class_id_map
from ppcls_ext.data.preparation.splitting import split
from ppcls_ext.data.preparation.writing import open_dataset
from ppcls_ext.workflow.preparing import PrepareOptions, prepare_dataset

ERRORS = (PreparationError, LabelFileError, FileNotFoundError)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("data") / "我的 图片", count=10)


@pytest.fixture
def folder(images, tmp_path):
    return shutil.copytree(images, tmp_path / "photos")


def prepare(source, output, **options):
    return prepare_dataset(source, output, PrepareOptions(progress=False, **options))


def names(dataset, part) -> list:
    """Return the paths of a part as PaddleClas reads them: the line split at the delimiter."""
    lines = dataset.list_of(part).read_text(encoding="utf-8").splitlines()
    return [line.split(dataset.delimiter or " ")[0] for line in lines]


# ---- what comes out --------------------------------------------------------------------------------------------


def test_every_image_is_in_one_list_under_its_class(images, tmp_path):
    dataset = prepare(images, tmp_path / "out", val=0.2, test=0.1)
    assert read_class_id_map(tmp_path / "out" / "label_list.txt") == list(CLASSES)
    found = {}
    for part, per_class in (("train", 7), ("val", 2), ("test", 1)):
        data = ImageNetDataset(
            str(dataset.image_root), str(dataset.list_of(part)), [{"DecodeImage": None}], delimiter=dataset.delimiter
        )
        assert Counter(data.labels.tolist()) == dict.fromkeys(range(3), per_class)
        assert data.missing_files() == []
        found.update({os.path.normpath(path): label for path, label in zip(data.paths, data.labels)})
        assert len(names(dataset, part)) == 3 * per_class and all(
            os.path.isfile(images / n) for n in names(dataset, part)
        )
    assert found == {str(path): CLASSES.index(path.parent.name) for path in images.glob("*/*")}
    assert open_dataset(tmp_path / "out") == dataset


def test_what_is_no_data_is_counted_and_named(folder, tmp_path):
    first, second = folder / CLASSES[0], folder / CLASSES[1]
    for name in ("Thumbs.db", ".DS_Store", "notes.txt", "phone.HEIC"):
        (first / name).write_bytes(b"x")
    (first / ".hidden").mkdir()
    shutil.copy(first / "图 00.png", first / ".hidden" / "a.png")
    for name in (".ipynb_checkpoints", "__MACOSX"):
        (folder / name).mkdir()
        shutil.copy(first / "图 00.png", folder / name / "a.png")
    (first / "page.jpg").write_text("<html>")
    whole = (second / "图 01.jpg").read_bytes()
    (second / "half.jpg").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(pixels_of(CLASSES[1], 3)[:8]).convert("L").save(second / "small.png")
    (second / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (second / "linked.png").symlink_to(folder / CLASSES[2] / "图 00.png")
    Image.new("RGB", (50, 50), "red").save(folder / "loose.png")
    report = prepare(folder, tmp_path / "out").report
    assert {os.path.basename(item["file"]): item["reason"] for item in report["left_out"]}.keys() == {
        *("page.jpg", "half.jpg", "gone.jpg")
    }
    assert report["ignored"] == {"hidden_images": 2, "system_files": 3}
    assert report["unsupported"] == [f"{CLASSES[0]}/phone.HEIC"]
    assert report["other_files"] == [f"{CLASSES[0]}/notes.txt"] and report["without_class"] == ["loose.png"]
    assert [item["file"] for item in report["tiny"]["files"]] == [f"{CLASSES[1]}/small.png"]
    assert report["modes"] == {"RGB": 31, "L": 1} and report["found"] == 35 and report["images"] == 32
    (copies,) = report["copies"]
    assert copies["conflict"] and set(copies["classes"]) == {CLASSES[1], CLASSES[2]}
    page = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    for name in ("page.jpg", "half.jpg", "gone.jpg", "phone.HEIC", "notes.txt", "loose.png", "small.png", "linked.png"):
        assert name in page


def test_weights_and_imbalance_are_scikit_learns(folder, tmp_path):
    for number in range(8):
        os.remove(next((folder / CLASSES[2]).glob(f"图 0{number}.*")))
    dataset = prepare(folder, tmp_path / "out")
    labels = read_label_list(dataset.list_of("train"))[1]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose([row["weight"] for row in dataset.report["classes"]], expected)
    assert dataset.report["imbalance"] == 8 and any("8.0 times" in text for text in dataset.report["warnings"])


def test_copies_stay_in_one_part_or_leave(folder, tmp_path):
    """The same pixels in another lossless format and under another name are the same image."""
    for path in list((folder / CLASSES[0]).glob("*.png")):
        Image.open(path).save(path.with_name(f"copy of {path.stem}.bmp"))
    parts = {}
    for seed in range(4):
        dataset = prepare(folder, tmp_path / f"keep{seed}", seed=seed)
        parts = {name: part for part in ("train", "val") for name in names(dataset, part)}
        for name in parts:
            if name.endswith(".bmp"):
                assert parts[name] == parts[name.replace("copy of ", "").replace(".bmp", ".png")]
        assert len(dataset.report["copies"]) == 5
    dataset = prepare(folder, tmp_path / "drop", duplicates="drop")
    assert dataset.report["images"] == 30 and len(dataset.report["left_out"]) == 5


def test_the_parts_of_the_data_are_kept_and_what_they_share_is_refused(folder, tmp_path):
    for name in CLASSES:
        for place, path in enumerate(sorted((folder / name).iterdir())):
            target = tmp_path / "split" / ("train" if place < 7 else "valid") / name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    dataset = prepare(tmp_path / "split", tmp_path / "out")
    assert dataset.report["parts"] == {"train": 21, "val": 9, "test": 0}
    assert all(name.startswith("valid/") for name in names(dataset, "val"))
    with pytest.raises(PreparationError, match="has its own val part"):
        prepare(tmp_path / "split", tmp_path / "out2", val=0.5)
    shutil.copy(tmp_path / "split/valid" / CLASSES[0] / "图 09.jpg", tmp_path / "split/train" / CLASSES[0] / "seen.jpg")
    with pytest.raises(PreparationError, match=r"seen.jpg \(train\) = .*图 09.jpg \(val\)"):
        prepare(tmp_path / "split", tmp_path / "out2")
    dataset = prepare(tmp_path / "split", tmp_path / "out2", duplicates="drop")
    assert dataset.report["parts"] == {"train": 21, "val": 9, "test": 0}
    (tmp_path / "split/valid" / "red flowers").mkdir()
    with pytest.raises(PreparationError, match="red flowers .did you mean red flower"):
        prepare(tmp_path / "split", tmp_path / "out3")


def test_a_csv_file_gives_names_groups_and_parts(images, tmp_path):
    rows = [(path.relative_to(images).as_posix(), path.parent.name, f"g{path.stem[-1]}") for path in images.glob("*/*")]
    with (tmp_path / "images.csv").open("w", encoding="gbk", newline="") as stream:
        csv.writer(stream).writerows([("path", "Label", "group"), *rows])
    dataset = prepare(tmp_path / "images.csv", tmp_path / "out", image_root=images, val=0.3)
    groups = {part: {name.rpartition(".")[0][-1] for name in names(dataset, part)} for part in ("train", "val")}
    assert not groups["train"] & groups["val"] and dataset.report["parts"] == {"train": 21, "val": 9, "test": 0}
    assert dataset.class_names == sorted(CLASSES)


def test_lists_of_paddleclas_are_read_as_they_are(images, tmp_path):
    dataset = prepare(images, tmp_path / "first")
    for file in ("train_list.txt", "val_list.txt", "label_list.txt"):
        shutil.copy(tmp_path / "first" / file, tmp_path / file)
    again = prepare(tmp_path, tmp_path.parent / f"{tmp_path.name}_out", image_root=images)
    assert again.class_names == dataset.class_names
    for part in ("train", "val"):
        assert again.list_of(part).read_text(encoding="utf-8") == dataset.list_of(part).read_text(encoding="utf-8")


# ---- splitting -------------------------------------------------------------------------------------------------


def test_each_class_gives_its_share_and_a_new_class_moves_nothing():
    labels = [0] * 50 + [1] * 10 + [2] * 2 + [3]
    parts = np.array(split(labels, None, 0.2, 0.1, seed=3))
    found = {label: Counter(parts[np.array(labels) == label]) for label in set(labels)}
    assert found == {
        0: {"train": 35, "val": 10, "test": 5},
        1: {"train": 7, "val": 2, "test": 1},
        2: {"train": 1, "val": 1},
        3: {"train": 1},
    }
    assert split(labels + [4] * 9, None, 0.2, 0.1, seed=3)[: len(labels)] == parts.tolist()
    assert split(labels, None, 0.2, 0.1, seed=4) != parts.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_together_and_shares_are_near(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 60, 600)
    labels = (groups + rng.integers(0, 2, 600)) % 4
    parts = np.array(split(labels, groups.tolist(), 0.2, 0.1, seed))
    for group in set(groups):
        assert len(set(parts[groups == group])) == 1
    for part, share in (("train", 0.7), ("val", 0.2), ("test", 0.1)):
        for label in range(4):
            assert abs(np.mean(parts[labels == label] == part) - share) < 0.08


def test_groups_within_a_class_are_given_whole():
    labels = [0] * 20 + [1] * 9 + [2] * 4
    groups = [*range(18), 17, 17, *[20] * 3, *[21] * 3, *[22] * 3, 30, 31, 32, 33]
    parts = np.array(split(labels, groups, 0.2, 0, seed=1))
    assert Counter(parts[:20])["val"] in (3, 4)  # the three of group 17 may not fit
    assert len(set(parts[17:20])) == 1
    assert Counter(parts[20:29]) == {"train": 6, "val": 3}  # a fifth is two, the smallest group three
    assert Counter(parts[29:]) == {"train": 3, "val": 1}


def test_a_group_that_holds_a_whole_class_is_trained():
    labels = [0] * 6 + [1] * 6
    groups = [0] * 6 + [1, 1, 2, 2, 3, 3]
    parts = split(labels, groups, 0.3, 0, 0)
    assert set(parts[:6]) == {"train"} and Counter(parts[6:]) == {"train": 4, "val": 2}
    with pytest.raises(PreparationError, match="cannot be divided"):
        split(labels, [0] * 6 + [1] * 6, 0.3, 0, 0)


# ---- what is refused -------------------------------------------------------------------------------------------


def one_class(folder, root):
    shutil.rmtree(folder / CLASSES[1])
    shutil.rmtree(folder / CLASSES[2])
    return folder


def empty_class(folder, root):
    (folder / "tulip").mkdir()
    (folder / "tulip" / "a.heic").write_bytes(b"x")
    return folder


def only_unreadable(folder, root):
    (folder / "tulip").mkdir()
    (folder / "tulip" / "a.jpg").write_bytes(b"no image")
    return folder


def other_case(folder, root):
    os.rename(folder / CLASSES[2], folder / "Red Flower")
    return folder


def trailing_blank(folder, root):
    os.rename(folder / CLASSES[2], folder / "red flower ")
    return folder


def listed(text):
    def write(folder, root):
        files = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*"))
        (root / "list.txt").write_text(text.format(*files), encoding="utf-8")
        shutil.copytree(folder, root, dirs_exist_ok=True)
        return root / "list.txt"

    return write


def table(text):
    def write(folder, root):
        (root / "t.csv").write_text(text, encoding="utf-8")
        return root / "t.csv"

    return write


@pytest.mark.parametrize(
    "make, words",
    [
        (one_class, ("one class only, 'red flower'", "add a folder")),
        (empty_class, ("tulip' holds no image", "delete it", "a.heic: convert")),
        (only_unreadable, ("the class 'tulip' has no image that can be used (tulip/a.jpg: no known image format",)),
        (other_case, ("'Red Flower' and 'red flower' differ only by case", "merge them")),
        (trailing_blank, ("'red flower' and 'red flower '",)),
        (listed("{0} 0\ngone.jpg 1\n"), ("1 of 2 images are not there", "list.txt:2: gone.jpg", "--image_root")),
        (listed("{0} 0\n\n{9} 3\n{19} 1\n"), ("not contiguous", "class 2", "--relabel")),
        (listed("{0} 1\n{9} 2\n"), ("not contiguous", "class 0", "--relabel")),
        (listed("{0} 0\n{1} -1\n"), ("list.txt:2", "negative")),
        (listed("{0} 0\n{1} 1\n{0} 1\n"), ("list.txt:1", "list.txt:3", "delete one line")),
        (listed("{0} cat\n"), ("list.txt:1", "<int>")),
        (table("file,label\na.jpg,b\n"), ("t.csv:1: unknown column 'file'",)),
        (table("path,labels\na.jpg,b\n"), ("t.csv:1: unknown column 'labels'", "did you mean label?")),
        (table("path,label,split\na.jpg,b,trein\n"), ("t.csv:2", "did you mean train")),
        (table("path,label\na,b.jpg,c\n"), ("t.csv:2: 3 cells", "quotes")),
        (table("path,label\na.jpg,\n"), ("t.csv:2: the cell label is empty",)),
    ],
)
def test_bad_data_is_named_with_what_to_do(folder, tmp_path, make, words):
    root = tmp_path / "root"
    root.mkdir()
    source = make(folder, root)
    with pytest.raises(ERRORS) as caught:
        prepare(source, tmp_path / "out")
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_class_with_one_image_is_trained_and_told(folder, tmp_path):
    (folder / "lonely").mkdir()
    shutil.copy(folder / CLASSES[0] / "图 00.png", folder / "lonely" / "only.png")
    (folder / CLASSES[0] / "图 00.png").unlink()
    dataset = prepare(folder, tmp_path / "out")
    assert "lonely/only.png" in names(dataset, "train")
    assert any("single image" in text and "lonely" in text for text in dataset.report["warnings"])


def test_ids_are_numbered_anew_on_demand(folder, tmp_path):
    files = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*"))
    lines = [f"{file} {(1, 5, 9)[CLASSES.index(file.split('/')[0])]}\n" for file in files]
    (folder / "my.txt").write_text("".join(lines), encoding="utf-8")
    dataset = prepare(folder / "my.txt", tmp_path / "out", relabel=True)
    assert dataset.class_names == ["1", "5", "9"]
    assert set(read_label_list(dataset.list_of("train"))[1]) == {0, 1, 2}


def test_nothing_is_overwritten_unasked(images, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["prepare", str(images), "--output", "out", "--quiet"]
    assert cli.main(command) == 0
    out, _ = capsys.readouterr()
    assert CLASSES[1] in out and "█" in out and "finetune --data" in out
    before = (tmp_path / "out" / "train_list.txt").read_bytes()
    assert cli.main([*command, "--seed", "1"]) == 2
    assert "--overwrite" in capsys.readouterr().err and (tmp_path / "out" / "train_list.txt").read_bytes() == before
    assert cli.main([*command, "--seed", "1", "--overwrite", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 1
    assert (tmp_path / "out" / "train_list.txt").read_bytes() != before
    assert cli.main(["prepare", str(images), "--output", str(images / "out")]) == 2
    assert "outside" in capsys.readouterr().err
    assert cli.main(["prepare", "nowhere"]) == 2


def test_names_that_lists_can_hardly_carry(folder, tmp_path):
    """A blank at the beginning of a path stays; a line break is refused by name."""
    os.rename(folder / CLASSES[0], folder / " red")
    dataset = prepare(folder, tmp_path / "out")
    data = ImageNetDataset(str(dataset.image_root), str(dataset.list_of("train")), [{"DecodeImage": None}])
    assert data.missing_files() == [] and dataset.class_names[0] == "red"
    os.rename(folder / " red" / "图 00.png", folder / " red" / "a\nb.png")
    with pytest.raises(PreparationError, match=r"a\\nb.png.*line break"):
        prepare(folder, tmp_path / "out2")
