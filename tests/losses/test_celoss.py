"""CELoss against float64 NumPy."""

import numpy as np
import paddle
import pytest

from ppcls_ext.losses import CELoss, build_loss

pytestmark = pytest.mark.compat


def log_softmax(logits):
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def reference(logits, target, epsilon=0.0):
    """Cross entropy per sample; an integer target becomes one-hot."""
    classes = logits.shape[1]
    if target.ndim == 1:
        target = np.eye(classes)[target]
    smooth = (1 - epsilon) * target.astype(np.float64) + epsilon / classes
    return -(smooth * log_softmax(logits)).sum(axis=1)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=4, size=(6, 5)).astype(np.float32)
    soft = rng.dirichlet(np.ones(5), size=6).astype(np.float32)
    return logits, rng.integers(0, 5, size=6), soft


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("epsilon", [None, 0.1])
@pytest.mark.parametrize("target", ["indices", "column of indices", "soft"])
def test_value(batch, target, epsilon, reduction):
    """Defect 27: soft targets are taken as they are, with and without epsilon."""
    logits, hard, soft = batch
    given = {"indices": hard, "column of indices": hard[:, None], "soft": soft}[target]
    loss = CELoss(reduction=reduction, epsilon=epsilon)(paddle.to_tensor(logits), paddle.to_tensor(given))
    expected = reference(logits, soft if target == "soft" else hard, epsilon or 0.0)
    assert float(loss) == pytest.approx(getattr(expected, reduction)(), rel=1e-5)


def test_confident_correct_soft_batch_has_a_small_loss():
    """Defect 27: a second softmax over the target makes this 3.39."""
    logits = np.full((4, 100), -4, np.float32)
    logits[:, 7] = 8
    target = np.zeros((4, 100), np.float32)
    target[:, 7] = 1
    assert float(CELoss()(paddle.to_tensor(logits), paddle.to_tensor(target))) < 1e-3


def test_one_class_and_an_index_is_not_a_soft_target():
    loss = CELoss()(paddle.to_tensor([[3.0], [-2.0]]), paddle.to_tensor([[0], [0]]))
    assert float(loss) == 0.0


@pytest.mark.parametrize("scale", [1, 100], ids=["moderate", "beyond the bound of Paddle's loss on a CPU"])
def test_gradient(batch, scale):
    logits, _, soft = batch
    logits = logits * scale
    tensor = paddle.to_tensor(logits, stop_gradient=False)
    CELoss(epsilon=0.1)(tensor, paddle.to_tensor(soft)).backward()
    expected = (np.exp(log_softmax(logits)) - (0.9 * soft + 0.1 / 5)) / len(logits)
    np.testing.assert_allclose(tensor.grad.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_logits_are_computed_in_float32(batch, dtype):
    logits, hard, _ = batch
    half = paddle.to_tensor(logits * 4).astype(dtype)
    loss = CELoss()(half, paddle.to_tensor(hard))
    assert loss.dtype == paddle.float32
    expected = reference(half.astype("float32").numpy(), hard).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"reduction": "none"}, "reduction must be one of mean, sum"), ({"epsilon": 1.0}, r"epsilon must be in \[0, 1\)")],
    ids=["reduction", "epsilon"],
)
def test_wrong_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        CELoss(**arguments)


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        ((2, 3, 4), np.zeros(2, np.int64), r"logits must be \[N, C\], got \[2, 3, 4\]"),
        ((2, 3), np.zeros((2, 4), np.float32), r"soft target must be \[2, 3\].*got \[2, 4\]"),
        ((2, 3), np.zeros((2, 3), np.int64), r"integer target must be \[2\] or \[2, 1\], got \[2, 3\]"),
    ],
    ids=["logits", "soft target", "integer target"],
)
def test_wrong_shape(logits, target, message):
    with pytest.raises(ValueError, match=message):
        CELoss()(paddle.zeros(logits), paddle.to_tensor(target))


# ---- several losses --------------------------------------------------------------------------------------------


def test_weight_of_a_single_loss(batch):
    """Defect 28: the weight counts for one loss too."""
    logits, hard, _ = batch
    report = build_loss([{"CELoss": {"weight": 0.25}}])(paddle.to_tensor(logits), paddle.to_tensor(hard))
    assert list(report) == ["CELoss", "loss"]
    assert float(report["loss"]) == pytest.approx(0.25 * reference(logits, hard).mean(), rel=1e-5)


def test_two_losses_of_one_name_both_count(batch):
    logits, hard, _ = batch
    loss = build_loss([{"CELoss": {"weight": 0.5}}, {"CELoss": {"weight": 2.0, "epsilon": 0.1}}])
    report = loss({"logits": paddle.to_tensor(logits)}, paddle.to_tensor(hard))
    first, second = 0.5 * reference(logits, hard).mean(), 2 * reference(logits, hard, 0.1).mean()
    assert loss.names == ["CELoss", "CELoss_2"]
    assert [float(value) for value in report.values()] == pytest.approx([first, second, first + second], rel=1e-5)


@pytest.mark.parametrize(
    ("section", "error", "message"),
    [
        ([], ValueError, "list of losses is empty"),
        ([{"CELos": {}}], KeyError, "unknown loss 'CELos'; supported: CELoss"),
        ([{"CELoss": {}, "other": {}}], ValueError, "each entry must be one mapping"),
        ([{"CELoss": {"weight": 0.0}}, {"CELoss": {"weight": 0}}], ValueError, "every weight is 0"),
    ],
    ids=["empty", "unknown", "two keys", "no weight"],
)
def test_wrong_section(section, error, message):
    with pytest.raises(error, match=message):
        build_loss(section)
