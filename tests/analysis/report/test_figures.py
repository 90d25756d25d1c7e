"""Figures of a report: by hand, against scikit-learn, and by what they promise."""

import json

import numpy as np
import pytest
from sklearn.metrics import classification_report, log_loss, top_k_accuracy_score

from ppcls_ext.analysis.report.calibration import best_temperature, calibrate, expected_calibration_error, reliability
from ppcls_ext.analysis.report.comparison import compare
from ppcls_ext.analysis.report.errors import ReportError
from ppcls_ext.analysis.report.figures import compute_figures, real_accuracy
from ppcls_ext.analysis.report.scored import scored
from ppcls_ext.data.real_labels import RealLabels
from ppcls_ext.engine.predictions import LOGITS, PROBABILITIES, TOPK, Header, Predictions

pytestmark = pytest.mark.compat


def predictions(labels, scores, kind=LOGITS, names=None, class_num=None, ids=None, files=None):
    files = files or [f"{number}.jpg" for number in range(len(labels))]
    header = Header(kind, class_num or np.shape(scores)[1], names)
    return Predictions(files, np.asarray(labels), np.asarray(scores, np.float32), header, ids)


def random_predictions(samples=200, classes=8, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    logits = rng.normal(size=(samples, classes))
    logits[np.arange(samples), labels] += 1
    return labels, logits * scale


def test_classes_equal_scikit_learn():
    labels, logits = random_predictions()
    figures = compute_figures(scored(predictions(labels, logits), "out"))
    expected = classification_report(labels, logits.argmax(axis=1), output_dict=True)
    for row in figures.per_class:
        theirs = expected[str(row.class_id)]
        assert (row.precision, row.recall, row.f1, row.support) == (
            theirs["precision"],
            theirs["recall"],
            theirs["f1-score"],
            theirs["support"],
        )
    for average, values in figures.averages.items():
        assert values["f1"] == pytest.approx(expected[f"{average} avg"]["f1-score"])
    assert figures.top1 == pytest.approx(expected["accuracy"])
    assert figures.top5 == pytest.approx(top_k_accuracy_score(labels, logits, k=5))


def test_confusions_by_hand():
    labels = [0, 0, 0, 0, 1, 1, 2]
    predicted = [0, 1, 1, 2, 1, 0, 2]
    figures = compute_figures(scored(predictions(labels, np.eye(3)[predicted]), "out"))
    assert figures.matrix.tolist() == [[1, 2, 1], [1, 1, 0], [0, 0, 1]]
    pairs = [(pair.truth, pair.predicted, pair.count, pair.share) for pair in figures.confusions]
    assert pairs == [(0, 1, 2, 0.5), (1, 0, 1, 0.5), (0, 2, 1, 0.25)]
    assert figures.top5 is None  # of three classes it would be 1 whatever the model says


def test_the_best_classes_alone_are_enough_for_accuracy():
    labels, logits = random_predictions()
    ids = np.argsort(-logits, axis=1)[:, :5]
    whole = compute_figures(scored(predictions(labels, logits), "out"))
    best = predictions(labels, np.full((200, 5), 0.2), TOPK, class_num=8, ids=ids)
    part = compute_figures(scored(best, "out"))
    assert (part.top1, part.top5) == (whole.top1, whole.top5) and part.per_class == whole.per_class


# ---- parts of the classes, other labels ---------------------------------------------------------------------------


def test_among_a_part_of_the_classes_the_others_have_no_chance():
    """The best class of the first image does not count; the second image's own class does not."""
    logits = [[1, 9, 2, 0], [0, 9, 0, 0], [0, 0, 0, 5], [0, 0, 3, 9]]
    images = scored(predictions([2, 1, 3, 2], logits, names=["a", "b", "c", "d"]), "out", np.array([0, 2, 3]))
    assert images.left_out == 1 and images.predicted.tolist() == [2, 3, 3]
    assert images.confidence[0] == pytest.approx(np.exp(2) / (np.exp(1) + np.exp(2) + np.exp(0)), rel=1e-5)
    figures = compute_figures(images)
    assert [row.name for row in figures.per_class] == ["a", "c", "d"] and figures.top1 == pytest.approx(2 / 3)
    assert calibrate(images).temperature is not None


def test_reassessed_labels(tmp_path):
    path = tmp_path / "real.json"
    path.write_text(json.dumps([[0, 1], [], [2]]))
    files = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (3, 1, 2)]
    images = scored(predictions([2, 0, 1], np.eye(3)[[0, 1, 1]], files=files), "out")
    assert real_accuracy(images, RealLabels(path)) == {"top1": 0.5, "samples": 2, "left_out": 1}


def test_two_models_by_reassessed_labels(tmp_path):
    """Of three images with labels, the first model has two right, the second one; the fourth does not count."""
    path = tmp_path / "real.json"
    path.write_text(json.dumps([[0, 1], [2], [], [1]]))
    files = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 5)]
    first, second = (predictions([0, 2, 0, 1], np.eye(3)[best], files=files) for best in ([1, 2, 0, 0], [0, 1, 1, 0]))
    found = compare(first, second, RealLabels(path))
    assert (found.samples, found.accuracy) == (3, (pytest.approx(2 / 3), pytest.approx(1 / 3)))
    assert found.agreement == pytest.approx(1 / 3) and found.mcnemar.only_first == 1


# ---- calibration --------------------------------------------------------------------------------------------------


def test_calibration_by_hand():
    """Two bins of four: |0.9 - 0.5| of two images, |0.6 - 1| of one; a confidence on a border belongs below."""
    bins = reliability(np.array([0.9, 0.9, 0.6, 0.25]), np.array([True, False, True, True]), bins=4)
    assert [(item.samples, item.accuracy) for item in bins] == [(1, 1.0), (0, None), (1, 1.0), (2, 0.5)]
    assert expected_calibration_error(bins) == pytest.approx((2 * 0.4 + 0.4 + 0.75) / 4)


def test_probabilities_that_are_true_are_calibrated():
    """Labels drawn from the predicted distribution: the error tends to 0, and the best temperature to 1."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40_000, 4)) * 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (probabilities.cumsum(axis=1) < rng.random((40_000, 1))).sum(axis=1).clip(0, 3)
    found = calibrate(scored(predictions(labels, logits), "out"))
    assert found.ece < 0.01 and found.temperature == pytest.approx(1, abs=0.03)
    sharper = calibrate(scored(predictions(labels, 2.5 * logits), "out"))
    assert sharper.temperature == pytest.approx(2.5, abs=0.08)
    assert sharper.ece > 0.05 and sharper.ece_at_temperature < 0.01


def test_cross_entropy_equals_scikit_learn():
    labels, logits = random_predictions()
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for kind, scores in ((LOGITS, logits), (PROBABILITIES, probabilities)):
        found = calibrate(scored(predictions(labels, scores, kind), "out"))
        assert found.nll == pytest.approx(log_loss(labels, probabilities), rel=1e-5)
        # The least cross entropy: no temperature nearby is better.
        for factor in (0.97, 1.03):
            tempered = probabilities ** (1 / (found.temperature * factor))
            assert found.nll_at_temperature < log_loss(labels, tempered / tempered.sum(axis=1, keepdims=True))


def test_a_model_that_is_always_right_has_no_best_temperature():
    assert best_temperature(np.eye(3) * 4, np.arange(3)) is None


# ---- what cannot be scored ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels, classes, message",
    [
        ([0, -1, -1], None, "the labels of 2 of 3 images are not known, such as 1.jpg"),
        ([1, 1, 1], None, "all 3 images are of one class, 1; expected images of two classes"),
        ([1, 1, 1], [0, 2], "none of the 3 images is of one of the 2 classes that count"),
    ],
)
def test_labels_that_cannot_be_scored(labels, classes, message):
    with pytest.raises(ReportError, match=f"out.csv: {message}"):
        scored(predictions(labels, np.eye(3)), "out.csv", None if classes is None else np.array(classes))


def test_the_best_classes_alone_cannot_be_scored_among_a_part():
    best = predictions([0, 1], [[0.9], [0.8]], TOPK, class_num=3, ids=np.array([[0], [1]]))
    with pytest.raises(ReportError, match="leave --save_topk out"):
        scored(best, "out.csv", np.array([0, 1]))
