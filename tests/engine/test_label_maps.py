"""Label maps that a teacher makes, and those of the official code."""

import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest

from ppcls_ext import cli
from ppcls_ext.config import load_config
from ppcls_ext.data import build_dataset
from ppcls_ext.data.label_list import read_label_list
from ppcls_ext.data.token_label import read_label_map
from ppcls_ext.engine.label_maps import NoLabelMapError, convert_label_maps, make_label_maps
from ppcls_ext.engine.model import load_trained

GOLDEN = Path(__file__).parents[1] / "golden" / "torch"
ARCHS = {
    "DilateFormer": {"depths": [1, 1], "embed_dim": 12, "num_heads": [3, 3], "dilate_attention": [True, False]},
    "ResNet": {"depths": [1, 1], "planes": [8, 16]},
    "VisionTransformer": {"depths": [1], "embed_dim": 12, "num_heads": 3, "patch_size": 4},
}


def teacher(runs, name, **arguments):
    runs.config["Arch"] = {"name": name, "class_num": 10, **ARCHS.get(name, {}), **arguments}
    if name != "ResNet":
        runs.config["Arch"]["img_size"] = 16
    return runs.write()


@pytest.mark.compat
def test_a_teachers_map_holds_its_scores_of_each_place(runs, tmp_path):
    """The mean of a linear classifier's scores over all places is its score of the pooled features: the model's own."""
    path = teacher(runs, "DilateFormer")
    assert (
        cli.main(
            ["make-label-maps", "-c", str(path), "--output", str(tmp_path / "maps"), "--top", "10", "--random-weights"]
        )
        == 0
    )
    names, _ = read_label_list(runs.digits / "val_small.txt")
    cfg = load_config(path, mode="eval")
    paddle.seed(0)
    assert make_label_maps(cfg, tmp_path / "again", k=10, random_weights=True) == len(names)
    paddle.seed(0)
    model = load_trained(cfg, "used", random_weights=True)
    dataset = build_dataset(cfg.section("DataLoader.Eval.dataset"), "Eval")
    for index in (0, 7, 42):
        found = read_label_map((tmp_path / "again" / names[index]).with_suffix(".npz"))
        assert found.scores.shape == (10, 2, 2)
        mean = np.zeros(10)
        np.add.at(mean, found.classes.ravel(), found.scores.ravel() / 4)
        expected = model(paddle.to_tensor(dataset[index].image[None])).numpy()[0]
        np.testing.assert_allclose(mean, expected, atol=2e-3)  # the scores are kept in float16


@pytest.mark.parametrize("name, cells", (("ResNet", 2), ("VisionTransformer", 4)))
def test_other_families_can_teach(runs, tmp_path, name, cells):
    cfg = load_config(teacher(runs, name), mode="eval")
    make_label_maps(cfg, tmp_path / "maps", k=3, random_weights=True)
    names, _ = read_label_list(runs.digits / "val_small.txt")
    assert read_label_map((tmp_path / "maps" / names[3]).with_suffix(".npz")).scores.shape == (3, cells, cells)


def test_a_model_with_tokens_teaches_by_their_classifier(runs, tmp_path):
    cfg = load_config(teacher(runs, "DilateFormer", token_label=True), mode="eval")
    paddle.seed(0)
    make_label_maps(cfg, tmp_path / "maps", k=1, random_weights=True)
    paddle.seed(0)
    model = load_trained(cfg, "used", random_weights=True)
    image = build_dataset(cfg.section("DataLoader.Eval.dataset"), "Eval")[0].image
    expected = model.aux_head(model.forward_features(paddle.to_tensor(image[None]))).numpy()[0]
    names, _ = read_label_list(runs.digits / "val_small.txt")
    found = read_label_map((tmp_path / "maps" / names[0]).with_suffix(".npz"))
    np.testing.assert_array_equal(found.classes[0], expected.argmax(axis=-1))
    np.testing.assert_allclose(found.scores[0], expected.max(axis=-1), atol=2e-3)


def test_a_part_of_an_image_is_refused(runs, tmp_path):
    operators = runs.config["DataLoader"]["Eval"]["dataset"]["transform_ops"]
    operators[1:2] = [{"ResizeImage": {"resize_short": 20}}, {"CropImage": {"size": 16}}]
    with pytest.raises(NoLabelMapError, match="show a part of each image"):
        make_label_maps(load_config(teacher(runs, "DilateFormer"), mode="eval"), tmp_path / "maps", random_weights=True)


def test_a_model_of_paddleclas_is_refused(runs, tmp_path):
    runs.config["Arch"] = {"name": "PPLCNet_x0_25", "class_num": 10}
    with pytest.raises(NoLabelMapError, match="PPLCNet_x0_25 is no backbone of ppcls_ext"):
        make_label_maps(load_config(runs.write(), mode="eval"), tmp_path / "maps", random_weights=True)


# ---------------------------------------------------------------- the official code's


@pytest.mark.parametrize("kind", ("zip", "legacy"))
def test_maps_of_the_official_code(tmp_path, kind):
    """A file that PyTorch wrote, with scores and classes laid out as the official code does."""
    (tmp_path / "pt" / "n01440764").mkdir(parents=True)
    shutil.copy(GOLDEN / f"label_map.{kind}.pth", tmp_path / "pt" / "n01440764" / "a.pt")
    assert cli.main(["convert-label-maps", "--src", str(tmp_path / "pt"), "--dst", str(tmp_path / "maps")]) == 0
    found = read_label_map(tmp_path / "maps" / "n01440764" / "a.npz")
    row, column, rank = np.meshgrid(np.arange(3), np.arange(4), np.arange(5), indexing="ij")
    number = (row * 4 + column) * 5 + rank
    np.testing.assert_array_equal(found.scores.transpose(1, 2, 0), number * 7 % 61 / 4)
    np.testing.assert_array_equal(found.classes.transpose(1, 2, 0), number * 13 % 1000)
    assert convert_label_maps(tmp_path / "pt", tmp_path / "maps") == 0


def test_no_map_of_the_official_code(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no .pt file"):
        convert_label_maps(tmp_path, tmp_path / "maps")
    (tmp_path / "x.pt").write_bytes(b"PK no tensor")
    with pytest.raises(ValueError, match="x.pt is damaged"):
        convert_label_maps(tmp_path, tmp_path / "maps")
