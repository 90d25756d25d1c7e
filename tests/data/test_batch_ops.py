"""Mixup, CutMix and MixToken: images against labels, distributions, and the same batches for any number of workers."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from data_helpers import EVAL_OPS
from scipy import stats

from ppcls_ext.data import build_dataloader
from ppcls_ext.data.batch_ops import (
    CutmixOperator,
    MixToken,
    MixupCutmixHybrid,
    MixupOperator,
    build_batch_transforms,
    check_batch_transform_ops,
)
from ppcls_ext.data.collate import ArrayBatch
from ppcls_ext.losses import CELoss
from ppcls_ext.metrics import TopkAcc

CLASSES = 6
RECIPE = [
    {
        "OpSampler": {
            "MixupOperator": {"alpha": 0.8, "prob": 0.5},
            "CutmixOperator": {"alpha": 1.0, "prob": 0.5},
        }
    }
]


def batch_of(count=6, size=28):
    """Image i is constant i in its class's own channel and 0 elsewhere, so that a pixel tells where it comes from."""
    images = np.zeros((count, CLASSES, size, size), np.float32)
    images[np.arange(count), np.arange(count) % CLASSES] = 1
    return images, np.eye(CLASSES, dtype=np.float32)[np.arange(count) % CLASSES]


def mixed(operator, seed, count=6, size=28):
    return operator(*batch_of(count, size), np.random.default_rng(seed))


# ---------------------------------------------------------------- labels agree with images

OPERATORS = {
    "mixup": MixupOperator(0.8),
    "cutmix": CutmixOperator(1.0),
    "token": MixToken(1.0, 14),
    **{
        f"{mode}-{kind}": MixupCutmixHybrid(*alphas, mode=mode, label_smoothing=0)
        for mode in ("batch", "pair", "elem")
        for kind, alphas in {
            "mixup": (0.8, 0),
            "cutmix": (0, 1.0),
            "both": (0.8, 1.0),
            "minmax": (0, 0, [0.2, 0.8]),
        }.items()
    },
}


@pytest.mark.compat
@pytest.mark.parametrize("count", [1, 2, 5, 6])
@pytest.mark.parametrize("name", OPERATORS)
def test_labels_are_the_shares_of_the_images(name, count):
    """The mean of a channel is the share of its class, whatever was mixed, for even, odd and lone batches."""
    for seed in range(30):
        images, labels = mixed(OPERATORS[name], seed, count)
        assert images.dtype == labels.dtype == np.float32 and labels.shape == (count, CLASSES)
        np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(images.mean(axis=(2, 3)), labels, atol=1e-5)
        assert (labels >= 0).all() and (labels > 0).sum(axis=1).max() <= 2


@pytest.mark.parametrize("name", [name for name in OPERATORS if "mixup" in name])
def test_mixup_by_hand(name):
    for seed in range(10):
        images, labels = mixed(OPERATORS[name], seed)
        np.testing.assert_allclose(images, np.broadcast_to(labels[:, :, None, None], images.shape), atol=1e-6)


@pytest.mark.parametrize("name", [name for name in OPERATORS if "cutmix" in name or name in ("token", "batch-minmax")])
def test_cutmix_moves_one_box(name):
    for seed in range(20):
        for image, label in zip(*mixed(OPERATORS[name], seed)):
            assert set(np.unique(image)) <= {0, 1} and (image.sum(axis=0) == 1).all()
            boxes = 0
            for channel in image[label > 0]:
                rows, columns = np.nonzero(channel.any(axis=1))[0], np.nonzero(channel.any(axis=0))[0]
                boxes += channel.sum() == np.ptp(rows) * np.ptp(columns) + np.ptp(rows) + np.ptp(columns) + 1
            assert boxes >= 1


# ---------------------------------------------------------------- distributions


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0])
def test_share_of_mixup_follows_beta(alpha):
    """Image 0 keeps λ, unless it is its own partner."""
    shares = [labels[0, 0] for labels in (mixed(MixupOperator(alpha), seed, 6, 1)[1] for seed in range(3000))]
    drawn = [share for share in shares if share < 1]
    assert len(drawn) > 2000
    # A draw so near to 1 that float32 rounds it to 1 is missing; that cuts the top of the distribution off.
    beta = stats.beta(alpha, alpha)
    top = beta.cdf(max(drawn))
    assert stats.kstest(drawn, lambda x: beta.cdf(x) / top).pvalue > 1e-3


def test_area_and_place_of_cutmix():
    """With λ ~ Beta(1, 1) the sides are √(1 - λ) of the image's; a box about the centre is not cut off."""
    sides, tops = [], []
    for seed in range(4000):
        image = mixed(CutmixOperator(1.0), seed, 2, 400)[0][0, 1]
        rows = np.nonzero(image.any(axis=1))[0]
        if len(rows) and 0 < rows.min() and rows.max() < 399:
            sides.append(len(rows) / 400)
            tops.append(rows.mean() / 400)
        if len(sides) == 150:
            break
    # P(side <= s) is proportional to the integral of 2 s (1 - s) among boxes that lie inside along the rows.
    assert stats.kstest(sides, lambda s: 3 * s**2 - 2 * s**3).pvalue > 1e-3
    assert abs(np.mean(tops) - 0.5) < 0.05


def test_mixup_partners_are_a_permutation():
    partners = set()
    for seed in range(200):
        images, _ = mixed(MixupOperator(1.0), seed, 6, 1)
        np.testing.assert_allclose(images.sum(axis=0).ravel(), 1, atol=1e-5)  # each image is a partner once
        partners.add(tuple(images[0].ravel() > 0))
    assert len(partners) == 6


def test_op_sampler_keeps_its_probabilities():
    ops = [
        {"OpSampler": {"MixupOperator": {"alpha": 1.0, "prob": 0.5}, "CutmixOperator": {"alpha": 1.0, "prob": "0.2"}}}
    ]
    transforms = build_batch_transforms(ops, CLASSES, seed=3)
    images = np.zeros((16, 1, 8, 8), np.float32)
    images[:, 0] = np.arange(1, 17)[:, None, None]
    kinds = []
    for number in range(2000):
        result = transforms(ArrayBatch(images.copy(), np.arange(16) % CLASSES, np.arange(16), []), 0, number)
        if np.array_equal(result.images, images):
            kinds.append("none")
        else:
            kinds.append("mixup" if all(len(np.unique(image)) == 1 for image in result.images) else "cutmix")
    shares = {kind: kinds.count(kind) / 2000 for kind in set(kinds)}
    # With a side below 2 of 8 pixels the box is empty: λ > 15/16, one in 16 of CutMix's draws.
    assert shares["mixup"] == pytest.approx(0.5, abs=0.05)
    assert shares["cutmix"] == pytest.approx(0.2 * 15 / 16, abs=0.04)
    assert shares["none"] == pytest.approx(0.3 + 0.2 / 16, abs=0.04)


def test_hybrid_switches_and_smooths():
    def kinds(**arguments):
        results = [mixed(MixupCutmixHybrid(0.8, 1.0, label_smoothing=0, **arguments), seed, 2) for seed in range(800)]
        changed = [image[0] for image, labels in results if 0 < labels[0, 0] < 1]
        return len(changed) / 800, np.mean([set(np.unique(image)) <= {0, 1} for image in changed])

    for mode in ("batch", "pair", "elem"):
        share, cut = kinds(mode=mode, prob=0.6, switch_prob=0.25)
        assert share == pytest.approx(0.6, abs=0.06) and cut == pytest.approx(0.25, abs=0.07)
    _, labels = mixed(MixupCutmixHybrid(0.8, prob=0, label_smoothing=0.3), 0)
    np.testing.assert_allclose(labels, np.eye(6) * 0.7 + 0.05, atol=1e-6)


def test_pairs_share_their_draw():
    for seed in range(20):
        _, labels = mixed(MixupCutmixHybrid(0.8, 1.0, mode="pair", label_smoothing=0), seed, 6)
        np.testing.assert_allclose(labels.diagonal(), labels.diagonal()[::-1], atol=1e-6)
        assert len(np.unique(labels.diagonal())) <= 3
    elements = [mixed(MixupCutmixHybrid(0.8, mode="elem"), seed, 6)[1].diagonal() for seed in range(20)]
    assert np.mean([len(np.unique(each)) for each in elements]) > 5


# ---------------------------------------------------------------- MixToken


def test_mix_token_moves_whole_cells_with_their_labels():
    count, grid = 4, 7
    for seed in range(30):
        images, labels = batch_of(count)
        maps = np.repeat(labels[:, None], 1 + grid * grid, axis=1)
        images, maps = MixToken(1.0, grid)(images, maps, np.random.default_rng(seed))
        cells = images.reshape(count, CLASSES, grid, 4, grid, 4)
        assert np.array_equal(cells.max(axis=(3, 5)), cells.min(axis=(3, 5)))  # no cell is torn
        tokens = cells.max(axis=(3, 5)).transpose(0, 2, 3, 1).reshape(count, grid * grid, CLASSES)
        np.testing.assert_array_equal(maps[:, 1:], tokens)
        np.testing.assert_allclose(maps[:, 0], tokens.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize(
    ("operator", "shape", "message"),
    [
        (MixToken(grid=5), (2, CLASSES), "grid 5 does not divide images of 28x28"),
        (MixToken(grid=7), (2, 50 + 1, CLASSES), r"\[n, 50, class_num\]"),
        (CutmixOperator(), (2, 50, CLASSES), "MixToken mixes label maps"),
        (MixupCutmixHybrid(), (2, 50, CLASSES), "MixToken mixes label maps"),
    ],
    ids=["grid", "tokens", "cutmix", "hybrid"],
)
def test_shapes_that_do_not_fit(operator, shape, message):
    with pytest.raises(ValueError, match=message):
        operator(batch_of(2)[0], np.zeros(shape, np.float32), np.random.default_rng(0))


# ---------------------------------------------------------------- the loader


def arrays(loader, epoch, start=0):
    return [(b.images.numpy().tobytes(), b.labels.numpy().tobytes()) for b in loader.epoch(epoch, start_batch=start)]


def with_ops(image_set, batch_ops, **options):
    section = image_set.section(**options)
    section["dataset"]["batch_transform_ops"] = batch_ops
    return section


@pytest.mark.compat
@pytest.mark.parametrize(
    "ops", [RECIPE, [{"MixupCutmixHybrid": {"mode": "elem", "cutmix_alpha": 1.0}}]], ids=["op", "elem"]
)
def test_same_batches_for_any_number_of_workers(image_set, ops):
    """Seed, rank, epoch and batch decide; a resumed epoch goes on as it would have."""
    expected = {}
    for workers in (0, 1, 3):
        loader = build_dataloader(with_ops(image_set, ops, workers=workers), "Train", seed=3, class_num=3)
        for epoch in (1, 2):
            found = arrays(loader, epoch)
            assert found == expected.setdefault(epoch, found)
        assert arrays(loader, 2, start=4) == expected[2][4:]
        loader.close()
    assert not set(expected[1]) & set(expected[2])
    other = build_dataloader(with_ops(image_set, ops), "Train", seed=4, class_num=3)
    assert not set(arrays(other, 1)) & set(expected[1])


def test_ranks_draw_differently(image_set):
    shares = []
    for rank in (0, 1):
        section = with_ops(image_set, [{"MixupOperator": {"alpha": 1.0}}], batch_size=3)
        loader = build_dataloader(section, "Train", seed=3, rank=rank, world_size=2, class_num=3)
        shares.append(
            {round(float(x), 5) for batch in loader.epoch(1) for x in batch.labels.numpy().ravel()} - {0.0, 1.0}
        )
    assert shares[0] and shares[1] and not shares[0] & shares[1]


def test_labels_are_soft_whether_mixed_or_not_and_bad_images_are_left_out(image_set):
    image_set.path(5).write_bytes(b"")
    loader = build_dataloader(with_ops(image_set, RECIPE), "Train", seed=1, class_num=3)
    batches = list(loader.epoch(1))
    assert sum(len(batch.bad) for batch in batches) == 1
    for batch in batches:
        assert batch.labels.dtype == paddle.float32 and batch.labels.shape == [len(batch), 3]
        np.testing.assert_allclose(batch.labels.numpy().sum(axis=1), 1, atol=1e-6)


def test_batch_without_any_good_image(image_set):
    for index in range(4):
        image_set.path(index).write_bytes(b"")
    loader = build_dataloader(with_ops(image_set, RECIPE, shuffle=False), "Train", class_num=3)
    assert next(loader.epoch(1)).labels.shape == [0, 3]


@pytest.mark.compat
@pytest.mark.parametrize("epsilon", [None, 0.1])
def test_loss_of_mixed_labels_by_hand(epsilon):
    """Defect 27: no second softmax; smoothing once."""
    _, labels = mixed(MixupOperator(0.8), 1)
    logits = np.random.default_rng(0).normal(size=(6, CLASSES)).astype(np.float32)
    smooth = epsilon or 0
    target = labels * (1 - smooth) + smooth / CLASSES
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss = CELoss(epsilon=epsilon)(paddle.to_tensor(logits), paddle.to_tensor(labels))
    assert float(loss) == pytest.approx(-(target * log_softmax).sum(axis=1).mean(), rel=1e-5)
    metric = TopkAcc(topk=[1], class_num=CLASSES)
    metric.update(paddle.to_tensor(labels), paddle.to_tensor(labels))
    assert metric.compute() == {"top1": 1.0}


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("ops", "key", "message"),
    [
        ([{"MixUpOperator": None}], "0.MixUpOperator", "did you mean 'MixupOperator'"),
        ([{"FmixOperator": None}], "0.FmixOperator", "does not support"),
        ([{"MixupOperator": {"alhpa": 1}}], "0.MixupOperator.alhpa", "did you mean 'alpha'"),
        ([{"MixupOperator": {"alpha": 0}}], "0.MixupOperator", "alpha: expected a number above 0"),
        ([{"CutmixOperator": {"alpha": -1}}], "0.CutmixOperator", "alpha"),
        ([{"CutmixOperator": {"class_num": 3}}], "0.CutmixOperator.class_num", "no argument"),
        ([{"MixToken": {"grid": 0}}], "0.MixToken", "grid"),
        ([{"MixupCutmixHybrid": {"mode": "item"}}], "0.MixupCutmixHybrid", "mode"),
        ([{"MixupCutmixHybrid": {"mixup_alpha": 0}}], "0.MixupCutmixHybrid", "all are off"),
        ([{"MixupCutmixHybrid": {"cutmix_minmax": [0.8, 0.2]}}], "0.MixupCutmixHybrid", "cutmix_minmax"),
        ([{"MixupCutmixHybrid": {"num_classes": 4}}], "0.MixupCutmixHybrid", "expected Arch.class_num, 6"),
        ([{"MixupCutmixHybrid": {"label_smoothing": 1}}], "0.MixupCutmixHybrid", "label_smoothing"),
        ([{"OpSampler": None}], "0.OpSampler", "at least one"),
        ([{"OpSampler": {"MixupOperator": {"alpha": 1}}}], "0.OpSampler.MixupOperator.prob", "missing"),
        ([{"OpSampler": {"MixupOperator": {"prob": 2}}}], "0.OpSampler.MixupOperator.prob", "probability"),
        ([{"OpSampler": {"MixupOperator": {"prob": 0.5, "a": 1}}}], "0.OpSampler.MixupOperator.a", "no argument"),
        ([{"OpSampler": {"MixOperator": {"prob": 0.5}}}], "0.OpSampler.MixOperator", "MixupOperator"),
        ([{"OpSampler": {"OpSampler": {"prob": 0.5}}}], "0.OpSampler.OpSampler", "cannot hold another"),
        (
            [{"OpSampler": {"MixupOperator": {"prob": 0.6}, "CutmixOperator": {"prob": 0.6}}}],
            "0.OpSampler",
            "at most 1 in all, got 1.2",
        ),
        (["MixupOperator"], "0", "expected one"),
        ({"MixupOperator": None}, "", "expected a list"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_mistakes_are_found_before_any_data(ops, key, message):
    (problem,) = check_batch_transform_ops(ops, CLASSES)
    assert problem.key == key and message in problem.message and str(problem).startswith("batch_transform_ops")
    with pytest.raises(ValueError, match="batch_transform_ops"):
        build_batch_transforms(ops, CLASSES)


def test_the_loader_refuses_what_cannot_be(image_set):
    with pytest.raises(ValueError, match="needs class_num"):
        build_dataloader(with_ops(image_set, RECIPE), "Train")
    with pytest.raises(ValueError, match="batch_transform_ops: mixed images and labels cannot be evaluated"):
        build_dataloader(with_ops(image_set, RECIPE, ops=EVAL_OPS), "Eval", class_num=3)
    with pytest.raises(ValueError, match="label 2, but class_num 2 allows 0 to 1"):
        list(build_dataloader(with_ops(image_set, RECIPE), "Train", class_num=2).epoch(1))
