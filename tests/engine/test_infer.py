"""Inference with the dygraph model, and the names of classes."""

import copy
import json
import types

import cv2
import numpy as np
import paddle
import pytest
import yaml

from ppcls_ext.config import load_config
from ppcls_ext.data.errors import LabelFileError
from ppcls_ext.data.image_files import list_images
from ppcls_ext.data.label_names import read_class_id_map
from ppcls_ext.engine.deploy.postprocess import Topk, softmax
from ppcls_ext.engine.infer import infer
from ppcls_ext.engine.model import build_model
from ppcls_ext.weights.errors import MissingWeightsError, WeightMismatchError


@pytest.fixture
def run(trained, tmp_path):
    """``run(**Infer)`` infers; ``run.path`` is the config."""
    config = copy.deepcopy(trained.config)
    config["Global"]["output_dir"] = str(tmp_path / "output")

    def load(**section):
        config["Infer"].update(section)
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        return load_config(path, mode="infer")

    return types.SimpleNamespace(
        load=load, infer=lambda **section: infer(load(**section)), digits=trained.digits, config=config
    )


@pytest.mark.compat
def test_scores_are_the_softmax_of_the_logits(run):
    """Against the preprocessing by hand: one softmax, not two."""
    image = list_images(run.digits / "val_list.txt")[0]
    run.config["Infer"]["PostProcess"]["topk"] = 10
    result = run.infer(infer_imgs=str(image))[0]
    pixels = cv2.resize(cv2.imread(str(image))[:, :, ::-1], (16, 16), interpolation=cv2.INTER_LINEAR)
    batch = ((pixels / 255.0 - 0.5) / 0.5).astype(np.float32).transpose(2, 0, 1)[None]
    model = build_model(run.load(infer_imgs=str(image)))
    model.eval()
    with paddle.no_grad():
        logits = model(paddle.to_tensor(batch)).numpy()[0].astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum()
    assert result["class_ids"] == np.argsort(-logits).tolist()
    np.testing.assert_allclose(result["scores"], np.sort(expected)[::-1], atol=6e-6)


@pytest.mark.compat
def test_a_folder_a_list_and_a_file_agree(run):
    folder = run.infer(infer_imgs=str(run.digits / "images"))
    assert len(folder) == 1797
    assert [r["file_name"] for r in folder] == sorted(r["file_name"] for r in folder)
    listed = run.infer(infer_imgs=str(run.digits), infer_list=str(run.digits / "val_small.txt"))
    assert len(listed) == 43
    by_name = {r["file_name"]: r["class_ids"] for r in folder}
    assert all(by_name[r["file_name"]] == r["class_ids"] for r in listed)
    single = run.infer(infer_imgs=listed[5]["file_name"], infer_list=None)
    assert [r["class_ids"] for r in single] == [listed[5]["class_ids"]]


@pytest.mark.parametrize("name", ["out.json", "out"])
def test_results_are_saved_as_json(run, tmp_path, name):
    results = run.infer(infer_imgs=str(run.digits / "val_small.txt"), save_dir=str(tmp_path / "deep" / name))
    assert json.loads((tmp_path / "deep" / "out.json").read_text()) == results
    assert set(results[0]) == {"class_ids", "scores", "label_names", "file_name"}


def test_a_name_that_is_not_json_is_refused(run):
    with pytest.raises(ValueError, match="Infer.save_dir is 'out.txt'; expected a name that ends in .json"):
        run.infer(infer_imgs=str(run.digits / "val_small.txt"), save_dir="out.txt")


@pytest.mark.compat
def test_a_broken_last_image_neither_stops_nor_loses_the_others(run, tmp_path):
    """Defect 41: with a batch of 4 and 6 images the last two would be lost."""
    lines = (run.digits / "val_small.txt").read_text().splitlines()[:5]
    (tmp_path / "broken.png").write_bytes(b"no image")
    names = [str(run.digits / line.split()[0]) for line in lines] + [str(tmp_path / "broken.png")]
    (tmp_path / "list.txt").write_text("\n".join(names))
    results = run.infer(infer_imgs=str(tmp_path / "list.txt"), batch_size=4)
    assert [bool(r["class_ids"]) for r in results] == [True] * 5 + [False]
    assert results[-1]["file_name"].endswith("broken.png") and results[-1]["error"]
    log = (tmp_path / "output" / "infer.log").read_text()
    assert "ERROR" in log and "broken.png was not read" in log


def test_random_weights_are_used_on_demand_alone(run, tmp_path):
    run.config["Global"].update(pretrained_model=None)
    cfg = run.load(infer_imgs=str(run.digits / "val_small.txt"))
    with pytest.raises(MissingWeightsError, match=r"random ones would be used: .*; --random-weights goes on without"):
        infer(cfg)
    infer(cfg, random_weights=True)
    assert "random weights are used" in (tmp_path / "output" / "infer.log").read_text()
    run.config["Global"].update(checkpoints="output/latest")
    with pytest.raises(MissingWeightsError, match=r"Global.checkpoints .* give Global.pretrained_model=output/latest"):
        infer(run.load(infer_imgs=str(run.digits / "val_small.txt")))


def test_weights_of_another_class_count_are_refused(run):
    """The classifier would be random; training with such weights is what fine-tuning is."""
    run.config["Arch"]["class_num"] = 7
    run.config["Infer"]["PostProcess"] = {"topk": 1}
    with pytest.raises(WeightMismatchError, match="different number of classes than Arch.class_num, 7"):
        run.infer(infer_imgs=str(run.digits / "val_small.txt"))


def test_published_weights_of_another_class_count_are_refused(run, monkeypatch):
    """The same for ``pretrained: True``, where the backbone's factory loads them."""
    path = run.config["Global"].pop("pretrained_model") + ".pdparams"
    monkeypatch.setattr("ppcls_ext.weights.resolver.fetch", lambda *_: path)
    run.config["Arch"].update(pretrained=True, class_num=7)
    run.config["Infer"]["PostProcess"] = {"topk": 1}
    with pytest.raises(WeightMismatchError, match=r"published file of Sequencer2D_S has a different(.|\n)*\[16, 10\]"):
        run.infer(infer_imgs=str(run.digits / "val_small.txt"))


# ---- names of classes ---------------------------------------------------------------------------------------------


def test_a_label_file_in_any_order(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("1 great white shark, man-eater\n\n0 tench\n2  hammerhead \n")
    assert read_class_id_map(path) == ["tench", "great white shark, man-eater", "hammerhead"]
    path.write_text("0,金鱼\n1,鲨鱼\n", encoding="gbk")
    assert read_class_id_map(path, delimiter=",") == ["金鱼", "鲨鱼"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("0 a\nb\n", r':2: expected "<id> <name>", got \'b\''),
        ("0 a\n1\n", r":2: expected"),
        ("a 0\n", r":1: expected"),
        ("0 a\n0 b\n", ":2: class id 0 is there twice"),
        ("0 a\n3 b\n", "no name for class id 1, 2"),
        ("1 a\n2 b\n", "no name for class id 0; ids start at 0"),
        ("\n", "holds no label"),
    ],
)
def test_a_bad_label_file_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "labels.txt"
    path.write_text(text)
    with pytest.raises(LabelFileError, match=f"labels.txt.*{message}"):
        read_class_id_map(path)


def test_topk_orders_by_score_then_by_class():
    topk = Topk(3, ["a", "b", "c", "d"])
    result = topk(np.array([[0.1, 0.4, 0.1, 0.4]]), ["x.png"])[0]
    assert result == {
        "class_ids": [1, 3, 0],
        "scores": [0.4, 0.4, 0.1],
        "label_names": ["b", "d", "a"],
        "file_name": "x.png",
    }
    assert len(Topk(9, ["a", "b"])(np.array([[0.5, 0.5]]), ["x"])[0]["class_ids"]) == 2


def test_a_prediction_of_nan_is_an_error():
    with pytest.raises(ValueError, match="not finite for b.png"):
        Topk(1, ["a", "b"])(np.array([[0.5, 0.5], [np.nan, 0.5]]), ["a.png", "b.png"])


def test_softmax_of_large_logits():
    np.testing.assert_allclose(softmax(np.array([[1e4, 1e4, -1e4]], np.float32)), [[0.5, 0.5, 0.0]])
