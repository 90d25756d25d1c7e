"""What eval does beyond the configuration: saved predictions, other labels, parts of the classes, ImageNet-C."""

import copy
import csv
import json
import shutil

import numpy as np
import paddle
import pytest
import yaml

from ppcls_ext import cli
from ppcls_ext.config import load_config
from ppcls_ext.data import LabelFileError, build_dataloader
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.evaluator import EvaluationOptions, evaluate
from ppcls_ext.engine.imagenet_c import evaluate_imagenet_c
from ppcls_ext.engine.model import load_trained
from ppcls_ext.engine.predictions import PredictionsFileError, read_predictions
from ppcls_ext.metrics.corruption import ALEXNET_ERRORS, SEVERITIES

pytestmark = [pytest.mark.compat, pytest.mark.slow]
COUNT = 43


@pytest.fixture(scope="module")
def prepared(trained, tmp_path_factory):
    """A trained model's configuration over 43 images that are named as ImageNet's validation images are."""
    folder = tmp_path_factory.mktemp("options")
    config = copy.deepcopy(trained.config)
    lines = (trained.digits / "val_small.txt").read_text().split()
    images = folder / "val"
    images.mkdir()
    names = [f"ILSVRC2012_val_{number:08d}.png" for number in range(1, COUNT + 1)]
    for name, source in zip(names, lines[::2]):
        shutil.copyfile(trained.digits / source, images / name)
    (folder / "list.txt").write_text("".join(f"{name} {label}\n" for name, label in zip(names, lines[1::2])))
    config["DataLoader"]["Eval"]["dataset"].update(image_root=str(images), cls_label_path=str(folder / "list.txt"))
    config["Metric"]["Eval"] = [{"TopkAcc": {"topk": [1, 3]}}]
    config["Global"]["output_dir"] = str(folder / "output")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def load(prepared, *overrides):
    return load_config(prepared, overrides, mode="eval")


@pytest.fixture(scope="module")
def logits(prepared):
    """What the model says of each image, asked without the engine."""
    cfg = load(prepared)
    model = load_trained(cfg, "evaluated")
    batches = build_dataloader(cfg.section("DataLoader.Eval"), "Eval").epoch(0)
    with paddle.no_grad():
        return np.concatenate([model(batch.images).numpy() for batch in batches])


@pytest.fixture(scope="module")
def labels(prepared):
    return np.loadtxt(prepared.parent / "list.txt", usecols=1, dtype=int)


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".parquet"])
def test_saved_predictions_are_the_models(prepared, logits, labels, tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="pyarrow, the extra `parquet`, is not installed")
    path = tmp_path / f"out{suffix}"
    result = evaluate(load(prepared), options=EvaluationOptions(save_predictions=path))
    found = read_predictions(path)
    assert [file.rpartition("/")[2] for file in found.files] == [
        f"ILSVRC2012_val_{number:08d}.png" for number in range(1, COUNT + 1)
    ]
    np.testing.assert_allclose(found.scores, logits, atol=1e-5)
    assert found.labels.tolist() == labels.tolist()
    assert (found.ranked(1)[:, 0] == labels).mean() == pytest.approx(result["top1"])
    if suffix != ".csv":
        assert found.header.class_names[:2] == ["zero", "one"]
        assert found.header.source["model"] == "Sequencer2D_S"


def test_the_best_classes_alone(prepared, logits, tmp_path):
    path = tmp_path / "out.npz"
    evaluate(load(prepared), options=EvaluationOptions(save_predictions=path, save_topk=2))
    assert read_predictions(path).class_ids.tolist() == np.argsort(-logits, axis=1)[:, :2].tolist()


def test_a_model_that_returns_nan_has_no_file(prepared, tmp_path, monkeypatch):
    cfg = load(prepared)
    model = load_trained(cfg, "evaluated")
    monkeypatch.setattr(type(model), "forward", lambda self, x: paddle.full([len(x), 10], float("nan")))
    path = tmp_path / "out.csv"
    with pytest.raises(PredictionsFileError, match="ILSVRC2012_val_00000001.png are NaN or infinite"):
        evaluate(cfg, options=EvaluationOptions(save_predictions=path))
    assert not path.exists()


def test_reassessed_labels(prepared, logits, labels):
    """The runner-up of every image counts as well; each fifth image has no label."""
    second = np.argsort(-logits, axis=1)[:, 1]
    real = [[] if row % 5 == 0 else [int(labels[row]), int(second[row])] for row in range(COUNT)]
    (prepared.parent / "val" / "real.json").write_text(json.dumps(real))
    best = logits.argmax(axis=1)
    expected = np.mean([best[row] in real[row] for row in range(COUNT) if real[row]])
    result = evaluate(load(prepared), options=EvaluationOptions(labels="real"))
    assert result["real_top1"] == pytest.approx(expected)
    assert result["top1"] == pytest.approx((best == labels).mean())


def test_a_part_of_the_classes(prepared, logits, labels, tmp_path, caplog):
    """The others have no chance, and their images are left out."""
    classes = tmp_path / "classes.txt"
    classes.write_text("3\n5\n8\n9\n")
    rows = np.isin(labels, [3, 5, 8, 9])
    masked = np.full_like(logits, -np.inf)
    masked[:, [3, 5, 8, 9]] = logits[:, [3, 5, 8, 9]]
    kept, right = masked[rows], labels[rows]
    log_probabilities = kept - np.log(np.exp(kept).sum(axis=1, keepdims=True))
    result = evaluate(load(prepared), options=EvaluationOptions(classes=classes))
    assert result["top1"] == pytest.approx((kept.argmax(axis=1) == right).mean())
    assert result["CELoss"] == pytest.approx(-log_probabilities[np.arange(len(right)), right].mean(), rel=1e-5)
    classes.write_text("3\n5\n")
    with pytest.raises(ValueError, match="2 classes count; expected Metric.Eval.TopkAcc.topk up to 2, got 3"):
        evaluate(load(prepared), options=EvaluationOptions(classes=classes))


def test_folders_of_classes(prepared, labels, tmp_path):
    """As ImageNet-A, -R, -V2 and -Sketch unpack: class folders, numbered by a file, some classes without any."""
    names = ["n09", "n01", "n02", "n03", "n04", "n05", "n06", "n07", "n08", "n00"]  # not in the order of the names
    (tmp_path / "ids.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(names)))
    files = sorted((prepared.parent / "val").glob("*.png"))
    for file, label in zip(files, labels):
        if label < 4:
            (tmp_path / "a" / names[label]).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, tmp_path / "a" / names[label] / file.name)
    dataset = f"{{name: ImageFolder, image_root: {tmp_path / 'a'}, class_id_map_file: {tmp_path / 'ids.txt'}}}"
    operators = yaml.safe_load(prepared.read_text())["DataLoader"]["Eval"]["dataset"]["transform_ops"]
    cfg = load(
        prepared,
        f"DataLoader.Eval.dataset={dataset}",
        f"DataLoader.Eval.dataset.transform_ops={json.dumps(operators)}",
    )
    (tmp_path / "list.txt").write_text("".join(f"{f.name} {n}\n" for f, n in zip(files, labels) if n < 4))
    as_list = load(prepared, f"DataLoader.Eval.dataset.cls_label_path={tmp_path / 'list.txt'}")
    options = EvaluationOptions(classes=tmp_path / "a")
    folders = evaluate(cfg, options=options)
    (tmp_path / "classes.txt").write_text("0\n1\n2\n3\n")
    assert folders == pytest.approx(evaluate(as_list, options=EvaluationOptions(classes=tmp_path / "classes.txt")))


def test_imagenet_c(prepared, logits, labels, tmp_path):
    """Laid out as the archives unpack, in folders of their own and without; two images each."""
    names = [f"n{number:02d}" for number in range(10)]
    (tmp_path / "ids.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(names)))
    best = logits.argmax(axis=1)
    right, wrong = int(np.flatnonzero(best == labels)[0]), int(np.flatnonzero(best != labels)[0])
    files = sorted((prepared.parent / "val").glob("*.png"))
    for name in ALEXNET_ERRORS:
        root = tmp_path / "c" / ("noise" if name.endswith("_noise") else "") / name
        for severity in SEVERITIES:
            # The worst severity alone has an image that is taken for another class.
            for number, row in enumerate((right, wrong if severity == 5 else right)):
                folder = root / str(severity) / names[labels[row]]
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(files[row], folder / f"{number}.png")
    cfg = load(
        prepared,
        f"DataLoader.Eval.dataset.class_id_map_file={tmp_path / 'ids.txt'}",
        "DataLoader.Eval.dataset.name=ImageFolder",
        f"DataLoader.Eval.dataset.image_root={tmp_path / 'c' / 'fog' / '1'}",
        "DataLoader.Eval.dataset.cls_label_path=null",
        f"Global.output_dir={tmp_path / 'output'}",
    )
    found = evaluate_imagenet_c(cfg, tmp_path / "c")
    assert found.errors == dict.fromkeys(ALEXNET_ERRORS, pytest.approx(0.1))
    assert found.mce == pytest.approx(np.mean([0.1 / error for error in ALEXNET_ERRORS.values()]))
    assert json.loads((tmp_path / "output" / "imagenet_c.json").read_text())["mce"] == found.mce
    with (tmp_path / "output" / "imagenet_c.csv").open(encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["corruption"] for row in rows] == list(ALEXNET_ERRORS)
    assert {(row["error_1"], row["error_5"], row["mean_error"]) for row in rows} == {
        ("0.000000", "0.500000", "0.100000")
    }
    shutil.rmtree(tmp_path / "c" / "snow" / "4")
    with pytest.raises(FileNotFoundError, match="snow/4 is not there; mCE needs 15 corruptions"):
        evaluate_imagenet_c(cfg, tmp_path / "c")


def test_no_image_of_a_class_that_counts(prepared, tmp_path):
    (tmp_path / "list.txt").write_text("ILSVRC2012_val_00000001.png 1\n")
    (tmp_path / "classes.txt").write_text("3\n5\n8\n")
    cfg = load(prepared, f"DataLoader.Eval.dataset.cls_label_path={tmp_path / 'list.txt'}")
    with pytest.raises(LabelFileError, match="none of the 1 images is of one of the 3 classes that count"):
        evaluate(cfg, options=EvaluationOptions(classes=tmp_path / "classes.txt"))


@pytest.mark.parametrize(
    "words, message",
    [
        (["--save_predictions", "out.json"], "--save_predictions: out.json: expected a name that ends in .parquet"),
        (["--save-topk", "3"], "--save_topk needs --save_predictions"),
        (["--imagenet_c", "c", "--labels", "real"], "does not go with --labels"),
    ],
)
def test_options_that_cannot_be(capsys, prepared, words, message):
    assert cli.main(["eval", "-c", str(prepared), *words]) == 2
    assert message in capsys.readouterr().err


# ---- rows of several processes ------------------------------------------------------------------------------------


def test_rows_of_one_process_are_all_rows():
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(Session("cpu").gather_rows(rows), rows)
