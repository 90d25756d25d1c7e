"""Class weights, focal loss and BCE against float64 NumPy, scikit-learn's values and Paddle's own functions."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppcls_ext.losses import BCEWithLogitsLoss, CELoss, FocalLoss, balanced_weights, build_loss

pytestmark = pytest.mark.compat
CLASSES = 5
WEIGHTS = [0.5, 2.0, 0.0, 1.0, 3.5]


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=3, size=(6, CLASSES)).astype(np.float32)
    soft = rng.dirichlet(np.ones(CLASSES), size=6).astype(np.float32)
    return logits, np.array([0, 1, 3, 4, 4, 1]), soft


def value(loss, logits, target):
    return float(loss(paddle.to_tensor(logits), paddle.to_tensor(target)))


def one_hot(target):
    return np.eye(CLASSES)[target] if target.ndim == 1 else target.astype(np.float64)


@pytest.mark.parametrize(
    "labels, expected",
    [
        # sklearn.utils.class_weight.compute_class_weight("balanced", classes=[0, 1, 2], y=labels), scikit-learn 1.5
        ([0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2], [1.0, 2.0, 2 / 3]),
        ([0, 1, 2], [1.0, 1.0, 1.0]),
        ([2, 2, 2, 0], [2.0, 0.0, 2 / 3]),  # class 1 does not occur; of classes [0, 2] scikit-learn says [2, 0.67]
    ],
)
def test_balanced_weights_are_those_of_scikit_learn(labels, expected):
    counts = np.bincount(labels, minlength=3)
    assert balanced_weights(counts) == pytest.approx(expected)
    assert balanced_weights(counts)[labels].mean() == pytest.approx(1)


@pytest.mark.parametrize("epsilon", [None, 0.1])
@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weighted_cross_entropy(batch, kind, epsilon, reduction):
    logits, hard, soft = batch
    target = one_hot(hard if kind == "hard" else soft)
    smooth = target if epsilon is None else (1 - epsilon) * target + epsilon / CLASSES
    of_samples = smooth @ np.array(WEIGHTS)
    total = (of_samples * -(smooth * log_softmax(logits)).sum(axis=1)).sum()
    expected = total / of_samples.sum() if reduction == "mean" else total
    loss = CELoss(reduction=reduction, epsilon=epsilon, class_weights=WEIGHTS)
    assert value(loss, logits, hard if kind == "hard" else soft) == pytest.approx(expected, rel=1e-5)


def test_equal_class_weights_change_nothing(batch):
    logits, hard, _ = batch
    for loss in (CELoss, FocalLoss):
        assert value(loss(class_weights=[7.0] * CLASSES), logits, hard) == pytest.approx(
            value(loss(), logits, hard), rel=1e-6
        )


def test_balanced_comes_from_the_counts(batch):
    logits, hard, _ = batch
    counts = np.array([4, 2, 0, 1, 1])
    built = build_loss([{"CELoss": {"class_weights": "balanced"}}], counts)
    expected = CELoss(class_weights=[8 / 16, 8 / 8, 0.0, 2.0, 2.0])
    assert float(built(paddle.to_tensor(logits), paddle.to_tensor(hard))["loss"]) == pytest.approx(
        value(expected, logits, hard), rel=1e-6
    )
    with pytest.raises(ValueError, match="balanced needs the labels of training"):
        build_loss([{"CELoss": {"class_weights": "balanced"}}])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal_loss_of_softmax(batch, gamma, kind, weights):
    logits, hard, soft = batch
    given = hard if kind == "hard" else soft
    target, log_p = one_hot(given), log_softmax(logits)
    losses = -(target * (1 - np.exp(log_p)) ** gamma * log_p).sum(axis=1)
    of_samples = target @ np.array(weights or [1.0] * CLASSES)
    expected = (losses * of_samples).sum() / of_samples.sum()
    assert value(FocalLoss(gamma=gamma, class_weights=weights), logits, given) == pytest.approx(expected, rel=1e-5)
    if gamma == 0:
        assert value(CELoss(class_weights=weights), logits, given) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("alpha", [0.25, 0.9])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_focal_loss_of_sigmoid_is_paddles(batch, alpha, gamma):
    logits, hard, _ = batch
    target = paddle.to_tensor(one_hot(hard), "float32")
    expected = F.sigmoid_focal_loss(paddle.to_tensor(logits), target, alpha=alpha, gamma=gamma, reduction="sum")
    loss = FocalLoss(gamma=gamma, alpha=alpha, activation="sigmoid")
    assert value(loss, logits, hard) == pytest.approx(float(expected) / len(hard), rel=1e-5)


def test_focal_loss_of_sigmoid_without_focus_is_bce(batch):
    """Also of mixed targets, which Paddle's function does not know."""
    logits, _, soft = batch
    assert value(FocalLoss(gamma=0.0, activation="sigmoid"), logits, soft) == pytest.approx(
        value(BCEWithLogitsLoss(sum_classes=True), logits, soft), rel=1e-6
    )


@pytest.mark.parametrize("epsilon", [None, 0.1])
@pytest.mark.parametrize("threshold", [None, 0.2])
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_binary_cross_entropy(batch, kind, threshold, epsilon):
    if epsilon and threshold is not None:
        with pytest.raises(ValueError, match="target_threshold undoes the smoothing"):
            BCEWithLogitsLoss(epsilon=epsilon, target_threshold=threshold)
        return
    logits, hard, soft = batch
    given = hard if kind == "hard" else soft
    target = one_hot(given)
    target = (1 - (epsilon or 0)) * target + (epsilon or 0) / CLASSES
    target = target if threshold is None else (target > threshold).astype(np.float64)
    p = sigmoid(logits)
    pos_weight = np.array([1.0, 2.0, 3.0, 4.0, 0.5])
    expected = -(pos_weight * target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    loss = BCEWithLogitsLoss(epsilon=epsilon, target_threshold=threshold, pos_weight=pos_weight.tolist())
    assert value(loss, logits, given) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        CELoss(class_weights=WEIGHTS),
        *(FocalLoss(gamma=gamma) for gamma in (0.5, 1.0, 2.0)),
        *(FocalLoss(gamma=gamma, alpha=0.25, activation="sigmoid") for gamma in (0.5, 2.0)),
        BCEWithLogitsLoss(epsilon=0.1),
    ],
)
@pytest.mark.parametrize("size", [0.0, 20.0, 65504.0])
def test_gradients_are_finite_over_the_range_of_float16(loss, size):
    """Of samples that are as right, and as wrong, as logits of float16 can say."""
    logits = paddle.to_tensor(np.array([[size, -size, 0, 0, 0], [-size, size, 0, 0, 0]], np.float32))
    logits.stop_gradient = False
    found = loss(logits, paddle.to_tensor([0, 0]))
    found.backward()
    assert np.isfinite(float(found)) and np.isfinite(logits.grad.numpy()).all()


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: CELoss(class_weights=[1.0, -1.0]), "numbers of at least 0"),
        (lambda: CELoss(class_weights=[0.0, 0.0]), "every class weight is 0"),
        (lambda: CELoss(class_weights=[1.0])(paddle.zeros([1, 2]), paddle.to_tensor([0])), "each of the 2 classes"),
        (lambda: FocalLoss(alpha=0.25), "weigh classes by class_weights"),
        (lambda: FocalLoss(activation="sigmoid", class_weights=[1.0]), "sigmoid has alpha"),
        (lambda: FocalLoss(gamma=-1.0), "gamma must be at least 0"),
        (lambda: BCEWithLogitsLoss(pos_weight=0.0), "pos_weight must be above 0"),
        (lambda: BCEWithLogitsLoss(pos_weight=[1.0])(paddle.zeros([1, 2]), paddle.to_tensor([0])), "2 classes"),
    ],
)
def test_wrong_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
