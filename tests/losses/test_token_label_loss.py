"""The loss of token labelling against figures worked out by hand and against NumPy."""

import math

import numpy as np
import paddle
import pytest

from ppcls_ext.losses import CELoss, TokenLabelLoss, build_loss


def output(logits, tokens):
    return {"logits": paddle.to_tensor(logits), "token_logits": paddle.to_tensor(tokens)}


@pytest.mark.compat
def test_by_hand():
    """Softmax of (ln 3, 0) is (3/4, 1/4). The image is of class 1, one token of class 0, the other half of either."""
    logits = np.array([[math.log(3), 0.0]], np.float32)
    tokens = np.array([[[math.log(3), 0.0], [math.log(3), 0.0]]], np.float32)
    target = paddle.to_tensor([[[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]])
    of_image = math.log(4)
    of_tokens = (math.log(4 / 3) + 0.5 * math.log(4 / 3) + 0.5 * math.log(4)) / 2
    for cls_weight, dense_weight in ((1, 1), (1, 0.5), (0, 1), (2, 0)):
        found = TokenLabelLoss(cls_weight, dense_weight)(output(logits, tokens), target)
        assert float(found) == pytest.approx(cls_weight * of_image + dense_weight * of_tokens, rel=1e-6)


def numpy_loss(logits, tokens, target, dense_weight, epsilon):
    """In float64, by loops over images and tokens."""

    def entropy(scores, shares):
        shares = (1 - epsilon) * shares + epsilon / len(shares)
        return -sum(s * (x - math.log(np.exp(scores).sum())) for s, x in zip(shares, scores))

    total = 0.0
    for image, of_tokens, labels in zip(*(array.astype(np.float64) for array in (logits, tokens, target))):
        total += entropy(image, labels[0])
        total += dense_weight * sum(entropy(t, label) for t, label in zip(of_tokens, labels[1:])) / len(of_tokens)
    return total / len(logits)


@pytest.mark.compat
@pytest.mark.parametrize("epsilon", (None, 0.1))
def test_against_numpy_with_gradient(epsilon):
    rng = np.random.default_rng(0)
    logits, tokens = rng.normal(0, 3, (4, 6)).astype(np.float32), rng.normal(0, 3, (4, 9, 6)).astype(np.float32)
    target = rng.dirichlet(np.ones(6), (4, 10)).astype(np.float32)
    loss = build_loss([{"TokenLabelLoss": {"weight": 2.0, "dense_weight": 0.5, "epsilon": epsilon}}])
    given = output(logits, tokens)
    for tensor in given.values():
        tensor.stop_gradient = False
    report = loss(given, paddle.to_tensor(target))
    expected = 2 * numpy_loss(logits, tokens, target, 0.5, epsilon or 0)
    assert float(report["loss"]) == pytest.approx(expected, rel=1e-5)
    assert list(report) == ["TokenLabelLoss", "loss"]
    report["loss"].backward()
    # The gradient of a cross entropy is softmax minus target.
    smoothed = (1 - (epsilon or 0)) * target + (epsilon or 0) / 6
    softmax = np.exp(tokens) / np.exp(tokens).sum(axis=-1, keepdims=True)
    gradient = 2 * 0.5 * (softmax - smoothed[:, 1:]) / (4 * 9)
    np.testing.assert_allclose(given["token_logits"].grad.numpy(), gradient, atol=1e-6)


@pytest.mark.parametrize("labels", ([2, 0], [[2], [0]], [[0.0, 0.25, 0.75], [1.0, 0.0, 0.0]]))
def test_labels_of_images_alone_are_given_to_every_token(labels):
    rng = np.random.default_rng(0)
    given = output(rng.normal(size=(2, 3)).astype(np.float32), rng.normal(size=(2, 4, 3)).astype(np.float32))
    labels = paddle.to_tensor(labels)
    each = sum(CELoss()(given["token_logits"][:, i], labels) for i in range(4)) / 4
    expected = CELoss()(given["logits"], labels) + 0.5 * each
    assert float(TokenLabelLoss(dense_weight=0.5)(given, labels)) == pytest.approx(float(expected), rel=1e-6)


def test_it_is_computed_in_float32():
    """Half a thousand classes in float16 would add up to a loss that is off in the third digit."""
    rng = np.random.default_rng(0)
    logits, tokens = (rng.normal(0, 4, shape).astype(np.float16) for shape in ((2, 500), (2, 4, 500)))
    target = rng.dirichlet(np.ones(500), (2, 5)).astype(np.float32)
    found = TokenLabelLoss()(output(logits, tokens), paddle.to_tensor(target))
    assert found.dtype == paddle.float32
    assert float(found) == pytest.approx(numpy_loss(logits, tokens, target, 1.0, 0.0), rel=1e-5)


@pytest.mark.parametrize(
    "given, target, message",
    (
        (paddle.zeros([2, 3]), [0, 1], "set Arch.token_label: True"),
        ({"logits": paddle.zeros([2, 3])}, [0, 1], "set Arch.token_label: True"),
        (output(np.zeros((2, 3)), np.zeros((2, 49, 3))), np.zeros((2, 197, 3)), "token_label.size: 7"),
        (output(np.zeros((2, 3)), np.zeros((2, 6, 3))), np.zeros((2, 5, 3)), r"\[2, 1 \+ 6, 3\]"),
    ),
)
def test_shapes_that_do_not_fit(given, target, message):
    with pytest.raises(ValueError, match=message):
        TokenLabelLoss()(given, paddle.to_tensor(target))


@pytest.mark.parametrize(
    "arguments", ({"cls_weight": -1}, {"dense_weight": -0.5}, {"cls_weight": 0, "dense_weight": 0}, {"epsilon": 1.0})
)
def test_wrong_arguments(arguments):
    with pytest.raises(ValueError, match="TokenLabelLoss"):
        TokenLabelLoss(**arguments)
