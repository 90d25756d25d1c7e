"""The predictor: what was evaluated is what is predicted, here and in PaddleClas's own predictor."""

import json
import os
import subprocess
import sys
import types

import cv2
import numpy as np
import paddle
import pytest

from ppcls_ext.config import load_config
from ppcls_ext.data.image_files import list_images
from ppcls_ext.engine.deploy.engines import paddle_engine
from ppcls_ext.engine.deploy.exporter import PIR_FLAG, export, uses_pir
from ppcls_ext.engine.deploy.inference_yml import InferenceConfigError
from ppcls_ext.engine.deploy.predictor import Predictor
from ppcls_ext.engine.evaluator import evaluate
from ppcls_ext.engine.infer import infer


def first(results: list) -> list:
    return [result["class_ids"][0] for result in results]


# ---- the same as evaluation ---------------------------------------------------------------------------------------


@pytest.mark.compat
def test_the_predictor_says_what_evaluation_says(exported):
    """All 360 images: the accuracy of evaluate, and the classes and scores of the dygraph model."""
    images = list_images(exported.digits / "val_list.txt")
    labels = [int(line.split()[1]) for line in (exported.digits / "val_list.txt").read_text().splitlines()]
    results = Predictor(exported.folder, batch_size=50, topk=10).predict(images)
    assert [result["file_name"] for result in results] == [str(path) for path in images]
    assert len(results) == 360
    accuracy = np.mean(np.array(first(results)) == labels)
    assert accuracy > 0.4  # it has learned something, so the comparison below means something
    assert evaluate(load_config(exported.config, mode="eval"))["top1"] == pytest.approx(accuracy, abs=1e-9)

    overrides = [f"Infer.infer_imgs={exported.digits / 'val_list.txt'}", "Infer.PostProcess.topk=10"]
    dygraph = infer(load_config(exported.config, overrides, mode="infer"))
    assert first(dygraph) == first(results)
    by_class = [
        np.array([[dict(zip(r["class_ids"], r["scores"]))[c] for c in range(10)] for r in rs])
        for rs in (dygraph, results)
    ]
    np.testing.assert_allclose(by_class[0], by_class[1], rtol=0, atol=1.1e-5)  # scores are rounded to 1e-5
    names = "zero one two three four five six seven eight nine".split()
    assert all(result["label_names"] == [names[i] for i in result["class_ids"]] for result in results)


WHEEL = """\
import zlib  # Paddle 2.6 brings its own zlib, which crashes Python's when that is loaded later
import json, sys
import paddle
if paddle.__version__.startswith("2.6"):
    # With 2.6.2 PaddleClas 2.6.0 opens a model in a way that came with 3.0 (PaddleClas#3338); with 2.5 it does not.
    paddle.__version__ = "2.5.2"
from paddleclas import PaddleClas
model_dir, images, labels, output = sys.argv[1:]
model = PaddleClas(inference_model_dir=model_dir, use_gpu=False, batch_size=64, topk=3, cpu_num_threads=1,
                   resize_short=16, crop_size=16, class_id_map_file=labels,
                   override=["PreProcess.transform_ops.2.NormalizeImage.mean=[0.5, 0.5, 0.5]",
                             "PreProcess.transform_ops.2.NormalizeImage.std=[0.5, 0.5, 0.5]"])
results = [result for batch in model.predict(images) for result in batch]
json.dump(results, open(output, "w"))
"""


@pytest.mark.slow
@pytest.mark.compat
def test_the_predictor_of_paddleclas_says_the_same(exported, tmp_path):
    """The wheel reads the legacy format, given the preprocessing by hand: it does not read inference.yml."""
    pytest.importorskip("paddleclas", reason="PaddleClas is not installed")
    (tmp_path / "images").mkdir()
    for path in list_images(exported.digits / "val_list.txt"):
        (tmp_path / "images" / path.name).symlink_to(path)
    (tmp_path / "wheel.py").write_text(WHEEL)
    arguments = [exported.folder, tmp_path / "images", exported.digits / "label_list.txt", tmp_path / "results.json"]
    environment = {**os.environ, PIR_FLAG: "0"}
    subprocess.run(
        [sys.executable, str(tmp_path / "wheel.py"), *map(str, arguments)], env=environment, check=True, timeout=300
    )
    theirs = json.loads((tmp_path / "results.json").read_text())
    ours = Predictor(exported.folder, batch_size=64).predict(list_images(tmp_path / "images"))
    assert [result["filename"] for result in theirs] == [result["file_name"] for result in ours]
    assert len(theirs) == 360
    assert first(theirs) == first(ours)
    assert [result["label_names"][0] for result in theirs] == [result["label_names"][0] for result in ours]
    np.testing.assert_allclose(
        [result["scores"] for result in theirs], [result["scores"] for result in ours], rtol=0, atol=3e-5
    )
    labels = {path.split("/")[-1]: label for path, label in read_pairs(exported.digits / "val_list.txt")}
    accuracy = np.mean([result["class_ids"][0] == labels[os.path.basename(result["filename"])] for result in theirs])
    assert evaluate(load_config(exported.config, mode="eval"))["top1"] == pytest.approx(accuracy, abs=1e-9)


def read_pairs(path) -> list:
    return [(line.split()[0], int(line.split()[1])) for line in path.read_text().splitlines()]


@pytest.mark.compat
def test_the_default_format_gives_what_the_legacy_format_gives(exported, tmp_path):
    overrides = [f"Global.save_inference_dir={tmp_path}"]
    folder = export(load_config(exported.config, overrides, mode="export"), onednn=False)
    assert (folder / "inference.json").exists() == uses_pir()
    images = list_images(exported.digits / "val_small.txt")
    for ours, theirs in zip(Predictor(folder).predict(images), Predictor(exported.folder).predict(images)):
        assert ours["class_ids"] == theirs["class_ids"]
        np.testing.assert_allclose(ours["scores"], theirs["scores"], rtol=0, atol=1.1e-5)


# ---- images -------------------------------------------------------------------------------------------------------


@pytest.mark.compat
def test_arrays_and_files_and_batches_agree(exported):
    images = list_images(exported.digits / "val_small.txt")[:7]
    arrays = [cv2.imread(str(path))[:, :, ::-1] for path in images]  # RGB
    from_files = Predictor(exported.folder, batch_size=3).predict(images)
    from_arrays = Predictor(exported.folder, batch_size=7).predict(arrays)
    one_by_one = [Predictor(exported.folder).predict(str(images[0]))[0]]
    assert [r["class_ids"] for r in from_files] == [r["class_ids"] for r in from_arrays]
    assert [r["file_name"] for r in from_arrays] == [f"array {i}" for i in range(7)]
    assert one_by_one[0] == from_files[0]


@pytest.mark.compat
@pytest.mark.parametrize("position", ["first", "middle", "last"])
def test_an_unreadable_image_is_named_and_the_others_are_done(exported, tmp_path, position):
    """Defect 41: PaddleClas keeps stale items in the batch, and loses the tail if the last image fails."""
    images = list_images(exported.digits / "val_small.txt")[:7]
    alone = Predictor(exported.folder).predict(images)
    broken = tmp_path / "broken.png"
    broken.write_bytes(images[0].read_bytes()[:60])
    at = {"first": 0, "middle": 4, "last": 7}[position]
    results = Predictor(exported.folder, batch_size=3).predict([*images[:at], broken, *images[at:]])
    failure = results.pop(at)
    assert failure["file_name"] == str(broken) and failure["error"] and failure["class_ids"] == []
    assert [r["class_ids"] for r in results] == [r["class_ids"] for r in alone]
    assert [r["file_name"] for r in results] == [str(path) for path in images]


def test_a_missing_image_is_named(exported, tmp_path):
    result = Predictor(exported.folder).predict(tmp_path / "gone.png")[0]
    assert result["error"] == "No such file or directory"


def test_images_of_several_sizes_are_batched_by_size(editable, exported):
    """Without a crop, a dynamic graph takes each image at its own shape."""
    editable.content["PreProcess"]["transform_ops"] = editable.content["PreProcess"]["transform_ops"][2:]
    editable.write()
    images = [np.full((h, w, 3), 90, np.uint8) for h, w in ((16, 16), (16, 16), (24, 16), (16, 24), (16, 24))]
    results = Predictor(editable.folder, batch_size=4).predict(images)
    assert results[0]["scores"] == results[1]["scores"] and results[3]["scores"] == results[4]["scores"]
    assert len(results) == 5


def test_an_image_smaller_than_the_crop_is_named(editable):
    del editable.content["PreProcess"]["transform_ops"][0]
    editable.write()
    results = Predictor(editable.folder).predict([np.zeros((4, 16, 3), np.uint8), np.zeros((16, 16, 3), np.uint8)])
    assert "the image is 16x4 (width x height), smaller than the crop 16x16" in results[0]["error"]
    assert results[1]["class_ids"]


@pytest.fixture
def gallery(tmp_path):
    for name in ("b.PNG", "a.jpeg", "sub/c.Webp", "d e.tif", "sub/f.bmp", "notes.md", "z.JPG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "list.txt").write_text("b.PNG\n\nd e.tif 3\nsub/c.Webp\t1\nd e.tif\ngone.png 2\n")
    return tmp_path


def names(paths, folder) -> list:
    return [str(path.relative_to(folder)) for path in paths]


def test_a_folder_is_read_sorted_and_in_any_case(gallery):
    expected = ["a.jpeg", "b.PNG", "d e.tif", "sub/c.Webp", "sub/f.bmp", "z.JPG"]
    assert names(list_images(gallery), gallery) == expected


def test_a_list_holds_paths_with_or_without_class_ids(gallery):
    expected = ["b.PNG", "d e.tif", "sub/c.Webp", "d e.tif", "gone.png"]
    assert names(list_images(gallery / "list.txt"), gallery) == expected
    assert names(list_images(gallery, gallery / "list.txt"), gallery) == expected


@pytest.mark.parametrize(
    "source, error, message",
    [
        ("gone", FileNotFoundError, "no such image, folder or list: .*gone"),
        ("notes.md", ValueError, "notes.md is neither an image .* nor a list .* nor a folder"),
        ("empty", ValueError, "no image in the folder .*empty: looked for \\*.jpg"),
        ("blank.txt", ValueError, "the list .*blank.txt holds no image"),
    ],
)
def test_what_is_no_source_of_images_is_refused(gallery, source, error, message):
    (gallery / "empty").mkdir()
    (gallery / "blank.txt").write_text("\n\n")
    with pytest.raises(error, match=message):
        list_images(gallery / source)


# ---- what the predictor needs -------------------------------------------------------------------------------------


@pytest.mark.compat
@pytest.mark.parametrize("gone", ["inference.pdmodel", "inference.pdiparams", "inference.yml"])
def test_a_missing_file_is_named(editable, gone):
    (editable.folder / gone).unlink()
    with pytest.raises(FileNotFoundError, match=gone):
        Predictor(editable.folder)


@pytest.mark.parametrize(
    "path, message",
    [
        (["PreProcess"], "has no PreProcess; expected PreProcess.transform_ops"),
        (["PreProcess", "transform_ops"], "has no PreProcess.transform_ops"),
        (["PostProcess", "Topk", "label_list"], "has no PostProcess.Topk.label_list"),
        (["PostProcess", "Topk", "topk"], "has no PostProcess.Topk.topk"),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, list) else "",
)
def test_nothing_is_filled_in_from_defaults(editable, path, message):
    section = editable.content
    for key in path[:-1]:
        section = section[key]
    del section[path[-1]]
    editable.write()
    with pytest.raises(InferenceConfigError, match=message):
        Predictor(editable.folder)


def test_an_inference_yml_of_paddleclas_is_enough(editable, exported):
    """PaddleClas writes no section Export; its readers decode to RGB and take the output as probabilities."""
    expected = Predictor(exported.folder).predict(list_images(exported.digits / "val_small.txt"))
    del editable.content["Export"]
    editable.write()
    assert Predictor(editable.folder).predict(list_images(exported.digits / "val_small.txt")) == expected


def test_another_number_of_labels_is_an_error(editable):
    editable.content["PostProcess"]["Topk"]["label_list"].pop()
    editable.write()
    with pytest.raises(ValueError, match=r"scores of shape \[1, 10\] do not fit the 9 labels"):
        Predictor(editable.folder).predict(np.zeros((16, 16, 3), np.uint8))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"device": "cuda"}, "device is 'cuda'; expected cpu, gpu or gpu:<number>"),
        ({"device": "cpu:1"}, "device is 'cpu:1'"),
        ({"batch_size": 0}, "batch_size is 0; expected 1 to 65,536"),
        ({"threads": -1}, "threads is -1"),
        ({"threads": 10**9}, "threads is 1000000000; expected 1 to 1,024"),
        ({"workers": 10**9}, "workers is 1000000000; expected 0 to 1,024"),
        ({"topk": 0}, "topk is 0"),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_bad_arguments(exported, arguments, message):
    with pytest.raises(ValueError, match=message):
        Predictor(exported.folder, **arguments)


@pytest.mark.skipif(paddle.device.is_compiled_with_cuda(), reason="this Paddle has CUDA")
def test_a_device_that_is_not_there(exported):
    with pytest.raises(ValueError, match="device is 'gpu:0', but this build of Paddle .* has no CUDA; use cpu"):
        Predictor(exported.folder, device="gpu:0")


def test_a_graph_of_paddle_3_on_paddle_2(editable, monkeypatch):
    (editable.folder / "inference.json").write_text("{}")
    monkeypatch.setattr(paddle_engine, "inference", types.SimpleNamespace(Config=object))
    with pytest.raises(
        RuntimeError, match="a graph of Paddle 3, which Paddle .* cannot read; export it with `--format legacy`"
    ):
        Predictor(editable.folder, verify=False)
