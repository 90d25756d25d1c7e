"""A file of predictions: what is written is what is read, in every format, and damage has a name."""

import os
import sys

import numpy as np
import pytest

from ppcls_ext.engine.predictions import (
    LOGITS,
    PROBABILITIES,
    UNKNOWN,
    Header,
    PredictionsFileError,
    PredictionsWriter,
    check_suffix,
    read_predictions,
)

pytestmark = pytest.mark.compat

NAMES = ["猫", "dog, the", "cow"]
FILES = ["a/猫 1.jpg", 'b"2".jpg', "c,3.jpg", "d.jpg", "e.jpg"]
LABELS = np.array([0, 1, 2, UNKNOWN, 1])
SCORES = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32) * 1e3


@pytest.fixture(params=[".csv", ".npz", ".parquet"])
def path(request, tmp_path):
    if request.param == ".parquet":
        pytest.importorskip("pyarrow", reason="pyarrow, the extra `parquet`, is not installed")
    return tmp_path / f"out{request.param}"


def write(path, kind=LOGITS, scores=SCORES, topk=None, names=NAMES, files=FILES, labels=LABELS):
    writer = PredictionsWriter(path, Header(kind, 3, names, {"model": "ResNet"}), topk)
    writer.add(files[:2], labels[:2], scores[:2])  # as batches come
    writer.add(files[2:], labels[2:], scores[2:])
    writer.finish()
    return read_predictions(path)


def softmax(scores):
    from scipy.special import softmax

    return softmax(scores.astype(np.float64), axis=1)


def test_what_is_written_is_read(path):
    found = write(path)
    assert found.files == FILES and found.labels.tolist() == LABELS.tolist()
    np.testing.assert_array_equal(found.scores, SCORES)  # all digits of float32
    assert (found.header.kind, found.header.class_num) == (LOGITS, 3)
    if path.suffix != ".csv":
        assert found.header.class_names == NAMES and found.header.source == {"model": "ResNet"}
    assert found.ranked(1)[:, 0].tolist() == SCORES.argmax(axis=1).tolist()
    assert os.listdir(path.parent) == [path.name]


def test_the_best_classes_alone(path):
    found = write(path, scores=SCORES / 1e3, topk=2)
    probabilities = softmax(SCORES / 1e3)
    assert found.class_ids.tolist() == np.argsort(-probabilities, axis=1)[:, :2].tolist()
    np.testing.assert_allclose(found.scores, np.sort(probabilities, axis=1)[:, :0:-1], rtol=1e-6)
    np.testing.assert_allclose(found.confidence(), probabilities.max(axis=1), rtol=1e-6)
    with pytest.raises(PredictionsFileError, match="the best classes alone"):
        found.log_probabilities()
    with pytest.raises(PredictionsFileError, match="the 3 best classes are asked for, and the file holds 2"):
        found.ranked(3)


def test_logits_and_their_probabilities_mean_the_same(path):
    scores = SCORES / 1e3
    logits = write(path, scores=scores)
    probabilities = write(path, PROBABILITIES, softmax(scores).astype(np.float32))
    assert probabilities.header.kind == PROBABILITIES
    for found in (logits, probabilities):
        np.testing.assert_allclose(found.log_probabilities(), np.log(softmax(scores)), atol=2e-6)
        np.testing.assert_allclose(found.confidence(), softmax(scores).max(axis=1), atol=1e-6)


def test_a_probability_that_float32_has_as_zero(path):
    found = write(path, PROBABILITIES, np.array([[1, 0, 0]] * 5, np.float32))
    assert np.isfinite(found.log_probabilities()).all()


def test_what_was_done_before_a_failure_is_kept_beside_the_earlier_file(path):
    write(path)
    writer = PredictionsWriter(path, Header(LOGITS, 3))
    writer.add(["new.jpg"], np.array([1]), SCORES[:1])
    writer.abandon()
    assert len(read_predictions(path)) == 5
    kept = path.with_name("kept" + path.suffix)
    os.replace(f"{path}.part", kept)
    assert read_predictions(kept).files == ["new.jpg"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_not_written(path, value):
    scores = SCORES.copy()
    scores[3, 1] = value
    with pytest.raises(PredictionsFileError, match="the model's scores of d.jpg are NaN or infinite"):
        write(path, scores=scores)
    assert not path.exists()


def test_nothing_to_write(path):
    with pytest.raises(PredictionsFileError, match="there is no prediction to write"):
        PredictionsWriter(path, Header(LOGITS, 3)).finish()
    assert os.listdir(path.parent) == []


def test_a_file_that_is_cut_off(path):
    write(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(PredictionsFileError, match="out"):
        read_predictions(path)


def test_a_file_of_something_else(path):
    path.write_bytes(b"name;age\nAda;36\n" * 9)
    with pytest.raises(PredictionsFileError, match="out"):
        read_predictions(path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"files": [*FILES[:4], FILES[0]]}, "holds a/猫 1.jpg more than once"),
        ({"labels": np.array([0, 1, 2, 3, 1])}, "the label of d.jpg is 3; expected 0 to 2"),
        ({"names": NAMES[:2]}, "names 2 of 3 classes"),
    ],
    ids=["twice", "label", "names"],
)
def test_content_that_cannot_be(tmp_path, change, message):
    with pytest.raises(PredictionsFileError, match=message):
        write(tmp_path / "out.npz", **change)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"logits": np.zeros(5)}, "is damaged: 5 images, 3 classes, labels .5., scores .5."),
        ({"logits": np.zeros((5, 4))}, "is damaged"),
        ({"labels": np.zeros(4, int)}, "is damaged"),
        (
            {"header": '{"version": 2, "kind": "logits", "class_num": 3, "class_names": null, "source": {}}'},
            "version 2",
        ),
        ({"header": '{"version": 1, "kind": "odds", "class_num": 3, "class_names": null, "source": {}}'}, "odds"),
        (
            {"header": '{"version": 1, "kind": "logits", "class_num": 3, "class_names": [1], "source": {}}'},
            "class_names",
        ),
        ({"header": "[]"}, "its header is damaged"),
    ],
    ids=["flat", "wide", "short", "later", "kind", "names", "list"],
)
def test_arrays_that_cannot_be(tmp_path, change, message):
    path = tmp_path / "out.npz"
    write(path)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(path, **{**arrays, **change})
    with pytest.raises(PredictionsFileError, match=message):
        read_predictions(path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("file,label,logit_0,logit_1\na,0,1,nan\n", "1 of 1 images have NaN or infinite scores, the first is a"),
        ("file,label,logit_0,logit_1\na,0,1\n", "out.csv:2: expected 4 columns, got 3"),
        ("file,label,logit_0,logit_1\na,zero,1,2\n", "invalid literal"),
        ("file,label,logit_1,logit_0\na,0,1,2\n", "expected the columns file, label, logit_0"),
        ("file,label,logit_0,logit_1\n", "holds no image"),
        ("", "expected the columns"),
        ("file,label,class_1,score_1\na,0,-1,0.5\n", "holds class ids that are not from 0 to 0"),
    ],
)
def test_lines_that_cannot_be(tmp_path, text, message):
    path = tmp_path / "out.csv"
    path.write_text(text)
    with pytest.raises(PredictionsFileError, match=message):
        read_predictions(path)


def test_a_line_without_label_has_none(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("file,label,logit_0,logit_1\na,,1,2\n")
    assert read_predictions(path).labels.tolist() == [UNKNOWN]


def test_names_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(PredictionsFileError, match="expected a name that ends in .parquet, .npz, .csv"):
        check_suffix("out.json")
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(PredictionsFileError, match="is a folder"):
        PredictionsWriter(tmp_path / "out.csv", Header(LOGITS, 3))
    with pytest.raises(ValueError, match="topk is 4; expected 1 to the number of classes, 3"):
        PredictionsWriter(tmp_path / "out.npz", Header(LOGITS, 3), topk=4)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(PredictionsFileError, match=r'pip install "ppcls_ext\[parquet\]"'):
        check_suffix("out.parquet")
