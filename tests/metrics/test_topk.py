"""TopkAcc against counts by hand and scikit-learn."""

import numpy as np
import paddle
import pytest
from sklearn.metrics import top_k_accuracy_score

from ppcls_ext.metrics import InvalidLogitsError, build_metrics

pytestmark = pytest.mark.compat


def build(topk=(1, 5), class_num=10):
    return build_metrics([{"TopkAcc": {"topk": list(topk)}}], class_num)


@pytest.fixture
def scores():
    rng = np.random.default_rng(1)
    return rng.normal(size=(103, 10)).astype(np.float32), rng.integers(0, 10, size=103)


def test_equals_scikit_learn(scores):
    logits, labels = scores
    metrics = build()
    for start in range(0, len(labels), 25):  # the last batch is ragged
        batch = slice(start, start + 25)
        metrics.update(paddle.to_tensor(logits[batch]), paddle.to_tensor(labels[batch]))
    expected = {f"top{k}": top_k_accuracy_score(labels, logits, k=k, labels=range(10)) for k in (1, 5)}
    assert metrics.compute() == expected


@pytest.mark.parametrize("processes", [2, 3])
def test_sums_of_processes_add_up_exactly(scores, processes):
    logits, labels = scores
    whole = build()
    whole.update(paddle.to_tensor(logits), paddle.to_tensor(labels))
    total = 0
    for rank in range(processes):
        part = build()
        part.update(paddle.to_tensor(logits[rank::processes]), paddle.to_tensor(labels[rank::processes]))
        total = total + part.state()
    merged = build()
    merged.load_state(total)
    assert merged.state().dtype == np.float64
    assert merged.compute() == whole.compute()


def test_state_holds_counts_and_reset_forgets():
    metrics = build(topk=(1, 2), class_num=3)
    metrics.update(paddle.to_tensor([[3.0, 2, 1], [3, 2, 1], [3, 2, 1]]), paddle.to_tensor([0, 1, 2]))
    assert metrics.state().tolist() == [3, 1, 2]
    assert metrics.compute() == {"top1": pytest.approx(1 / 3), "top2": pytest.approx(2 / 3)}
    metrics.reset()
    assert metrics.state().tolist() == [0, 0, 0]


def test_first_k_is_the_criterion():
    assert build(topk=(5, 1)).criterion == "top5"


@pytest.mark.parametrize("form", ["column", "mapping", "soft"])
def test_forms_of_input(scores, form):
    logits, labels = scores
    plain, other = build(), build()
    plain.update(paddle.to_tensor(logits), paddle.to_tensor(labels))
    if form == "column":
        other.update(paddle.to_tensor(logits), paddle.to_tensor(labels[:, None]))
    elif form == "mapping":
        other.update({"logits": paddle.to_tensor(logits)}, paddle.to_tensor(labels))
    else:
        soft = 0.6 * np.eye(10)[labels] + 0.4 * np.eye(10)[(labels + 1) % 10]
        other.update(paddle.to_tensor(logits), paddle.to_tensor(soft.astype(np.float32)))
    assert other.compute() == plain.compute()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_logits_are_an_error_and_not_counted(scores, value):
    logits, labels = scores
    logits = logits.copy()
    logits[[4, 9], 2] = value
    metrics = build()
    with pytest.raises(InvalidLogitsError, match="2 of 103 samples have NaN or infinite logits"):
        metrics.update(paddle.to_tensor(logits), paddle.to_tensor(labels))
    assert not metrics.state().any()


def test_accuracy_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no sample was counted"):
        build().compute()


def test_k_above_the_number_of_classes():
    """Defect 26: it is refused instead of reported as 1.0."""
    with pytest.raises(ValueError, match="k must be from 1 to the number of classes, 3, got 5"):
        build(topk=(1, 5), class_num=3)


@pytest.mark.parametrize("label", [-1, 10])
def test_label_outside_the_classes(label):
    with pytest.raises(ValueError, match=f"labels must be from 0 to 9, got {label}"):
        build().update(paddle.zeros([1, 10]), paddle.to_tensor([label]))


def test_logits_of_another_width():
    with pytest.raises(ValueError, match=r"logits must be \[N, 10\], got \[2, 9\]"):
        build().update(paddle.zeros([2, 9]), paddle.to_tensor([0, 1]))


@pytest.mark.parametrize(
    ("section", "error", "message"),
    [
        ([], ValueError, "list of metrics is empty"),
        ([{"TopkAc": {}}], KeyError, "unknown metric 'TopkAc'; supported: TopkAcc"),
        ([{"TopkAcc": {"topk": [1]}}, {"TopkAcc": {"topk": [1]}}], ValueError, "top1 is asked for more than once"),
    ],
    ids=["empty", "unknown", "repeated"],
)
def test_wrong_section(section, error, message):
    with pytest.raises(error, match=message):
        build_metrics(section, 10)
