"""TprAtFpr against the loop over thresholds that defines it, and scikit-learn's ROC curve."""

import numpy as np
import paddle
import pytest
from sklearn.metrics import roc_curve

from ppcls_ext.metrics import InvalidLogitsError, TprAtFpr, build_metrics

pytestmark = pytest.mark.compat


def by_definition(scores, positive, max_fpr):
    """Try every threshold, as PaddleClas does; return the rate and its threshold."""
    best = (0.0, 1.0)
    for index in range(10_000):
        threshold = np.float32(index / 10_000)
        tpr = np.mean(scores[positive] > threshold) if positive.any() else 0.0
        fpr = np.mean(scores[~positive] > threshold) if (~positive).any() else 0.0
        if fpr <= max_fpr and tpr > best[0]:
            best = (tpr, index / 10_000)
    return best


def batch(samples, separation, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, samples)
    logits = rng.normal(size=(samples, 2)).astype(np.float32)
    logits[:, 1] += separation * (labels - 0.5)
    return logits, labels


def scores_of(logits):
    return paddle.nn.functional.softmax(paddle.to_tensor(logits)).numpy()[:, 1]


@pytest.mark.parametrize("max_fpr", [0.0, 0.001, 0.05, 1.0])
def test_equals_its_definition_and_the_roc_curve(max_fpr):
    logits, labels = batch(400, 3.0)
    metrics = build_metrics([{"TprAtFpr": {"max_fpr": max_fpr}}], 2)
    for start in range(0, 400, 90):
        metrics.update(paddle.to_tensor(logits[start : start + 90]), paddle.to_tensor(labels[start : start + 90]))
    result = metrics.compute()
    scores = scores_of(logits)
    assert (result["tpr_at_fpr"], result["threshold"]) == by_definition(scores, labels == 1, max_fpr)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    exact = tpr[fpr <= max_fpr].max()
    assert exact - 0.02 <= result["tpr_at_fpr"] <= exact and result["fpr"] <= max_fpr
    assert metrics.criterion == "tpr_at_fpr"


def test_default_is_paddleclas():
    assert TprAtFpr().max_fpr == 1 / 1000


@pytest.mark.parametrize(("label", "expected"), [(0, 0.0), (1, 1.0)], ids=["negatives alone", "positives alone"])
def test_one_kind_of_samples(label, expected):
    metric = TprAtFpr()
    metric.update(paddle.to_tensor([[0.0, 1.0], [0.0, 2.0]]), paddle.to_tensor([label, label]))
    assert metric.compute()["tpr_at_fpr"] == expected


def test_more_classes_and_soft_labels():
    """Every class but 0 is positive; the score is class 1's probability."""
    logits = np.array([[0, 4, 0], [0, 0, 0], [4, 0, 0]], "float32")
    hard, soft = TprAtFpr(0.0, 3), TprAtFpr(0.0, 3)
    hard.update(paddle.to_tensor(logits), paddle.to_tensor([[2], [1], [0]]))
    soft.update(paddle.to_tensor(logits), paddle.to_tensor(np.eye(3, dtype="float32")[[2, 1, 0]]))
    assert hard.compute() == soft.compute() and hard.compute()["tpr_at_fpr"] == 1.0


def test_states_of_processes_add_up():
    logits, labels = batch(200, 2.0)
    whole, parts = TprAtFpr(0.01), [TprAtFpr(0.01) for _ in range(2)]
    whole.update(paddle.to_tensor(logits), paddle.to_tensor(labels))
    for rank, part in enumerate(parts):
        part.update(paddle.to_tensor(logits[rank::2]), paddle.to_tensor(labels[rank::2]))
    merged = TprAtFpr(0.01)
    merged.load_state(parts[0].state() + parts[1].state())
    assert merged.compute() == whole.compute()
    with pytest.raises(ValueError, match="the state must have shape"):
        merged.load_state(np.zeros(3))


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"max_fpr must be in \[0, 1\], got 2"):
        TprAtFpr(2)
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        build_metrics([{"TprAtFpr": {}}], 1)
    metric = TprAtFpr()
    with pytest.raises(ValueError, match="no sample was counted"):
        metric.compute()
    with pytest.raises(InvalidLogitsError, match="1 of 2 samples"):
        metric.update(paddle.to_tensor([[0.0, 1.0], [0.0, float("nan")]]), paddle.to_tensor([0, 1]))
    with pytest.raises(ValueError, match="labels must be from 0 to 1, got 2"):
        metric.update(paddle.to_tensor([[0.0, 1.0]]), paddle.to_tensor([2]))
