"""Precision, recall, F1, their table and the confusion matrix against scikit-learn and counts by hand."""

import numpy as np
import paddle
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, precision_recall_fscore_support

from ppcls_ext.metrics import InvalidLogitsError, build_metrics

pytestmark = pytest.mark.compat

CLASSES = 6
SECTION = [
    {"Precision": {"average": ["macro", "weighted", "micro"]}},
    {"Recall": {"average": "macro"}},
    {"F1": None},
    {"PerClass": None},
    {"ConfusionMatrix": None},
]


@pytest.fixture
def scores():
    """Class 4 is never a label, class 5 neither a label nor a prediction."""
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(90, CLASSES)).astype(np.float32)
    logits[:, 5] = -9
    return logits, rng.integers(0, 4, size=90)


def counted(logits, labels, section=SECTION, classes=CLASSES):
    metrics = build_metrics(section, classes)
    for start in range(0, len(labels), 40):  # the last batch is ragged
        batch = slice(start, start + 40)
        metrics.update(paddle.to_tensor(logits[batch]), paddle.to_tensor(labels[batch]))
    return metrics


def test_averages_equal_scikit_learn(scores):
    logits, labels = scores
    predicted = logits.argmax(axis=1)
    found = counted(logits, labels).compute()
    for average in ("macro", "weighted", "micro"):
        precision, *_ = precision_recall_fscore_support(labels, predicted, average=average, zero_division=0)
        assert found[f"precision_{average}"] == pytest.approx(precision, abs=1e-12)
    _, recall, f1, _ = precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)
    assert (found["recall_macro"], found["f1_macro"]) == (pytest.approx(recall), pytest.approx(f1))
    assert found["precision_micro"] == pytest.approx((labels == predicted).mean())
    with pytest.warns(UserWarning, match="not in y_true"):
        assert found["mean_class_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))


def test_tables_equal_scikit_learn(scores):
    logits, labels = scores
    predicted = logits.argmax(axis=1)
    tables = counted(logits, labels).tables(["a", "b", "c", "d", "e", "f"])
    header, *rows = tables["per_class"]
    assert header == ["class_id", "class_name", "precision", "recall", "f1", "support"]
    assert [row[:2] for row in rows] == [[0, "a"], [1, "b"], [2, "c"], [3, "d"], [4, "e"], [5, "f"]]
    expected = precision_recall_fscore_support(labels, predicted, labels=range(CLASSES), zero_division=0)
    np.testing.assert_allclose(np.array([row[2:] for row in rows], float).T, np.array(expected), atol=5e-7)
    header, *rows = tables["confusion_matrix"]
    assert header == ["label", "a", "b", "c", "d", "e", "f"]
    assert [row[1:] for row in rows] == confusion_matrix(labels, predicted, labels=range(CLASSES)).tolist()


def test_by_hand():
    """Two of three images of class 0 are found, and one of class 1 is taken for it."""
    logits = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], np.float32)
    found = counted(logits, np.array([0, 0, 0, 1]), [{"Precision": {}}, {"Recall": {}}, {"F1": {}}], 2).compute()
    assert found == {
        "precision_macro": pytest.approx((2 / 3 + 0) / 2),
        "recall_macro": pytest.approx((2 / 3 + 0) / 2),
        "f1_macro": pytest.approx((2 / 3 + 0) / 2),
    }


def test_sums_of_processes_add_up_exactly(scores):
    logits, labels = scores
    total = sum(counted(logits[rank::3], labels[rank::3]).state() for rank in range(3))
    merged = build_metrics(SECTION, CLASSES)
    merged.load_state(total)
    whole = counted(logits, labels)
    assert merged.compute() == whole.compute() and merged.tables() == whole.tables()


def test_soft_labels_count_as_their_dominant_class(scores):
    logits, labels = scores
    soft = (0.6 * np.eye(CLASSES)[labels] + 0.4 * np.eye(CLASSES)[(labels + 1) % CLASSES]).astype(np.float32)
    assert counted(logits, soft).compute() == counted(logits, labels).compute()


def test_the_first_figure_is_the_criterion():
    assert (
        build_metrics([{"ConfusionMatrix": {}}, {"F1": {"average": ["weighted", "macro"]}}], 3).criterion
        == "f1_weighted"
    )
    assert build_metrics([{"ConfusionMatrix": {}}], 3).criterion is None


@pytest.mark.parametrize("name", ["Recall", "PerClass", "ConfusionMatrix"])
def test_what_cannot_be_counted(name):
    metrics = build_metrics([{name: {}}], 3)
    with pytest.raises(ValueError, match=f"{name}: no sample was counted"):
        metrics.compute()
    with pytest.raises(InvalidLogitsError, match=f"{name}: 1 of 2 samples"):
        metrics.update(paddle.to_tensor([[np.nan, 0, 0], [0, 0, 1.0]]), paddle.to_tensor([0, 1]))
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got 3"):
        metrics.update(paddle.zeros([1, 3]), paddle.to_tensor([3]))
    assert not metrics.state().any()


def test_an_unknown_average():
    with pytest.raises(ValueError, match="F1: average must be one or more of macro, weighted, micro, got 'median'"):
        build_metrics([{"F1": {"average": "median"}}], 3)
