"""Test-time augmentation against its views one by one."""

import copy

import numpy as np
import paddle
import pytest

from ppcls_ext import cli
from ppcls_ext.config.loading import load_config
from ppcls_ext.data import build_dataloader
from ppcls_ext.engine.evaluator import EvaluationOptions, evaluate
from ppcls_ext.engine.model import load_trained
from ppcls_ext.engine.predictions import read_predictions
from ppcls_ext.engine.tta import KINDS, TestTimeAugmentation, UndefinedViewError


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.fixture
def crops(trained):
    """The trained model, its images enlarged and cropped; the convolution takes any size."""
    runs = copy.deepcopy(trained)
    operators = runs.config["DataLoader"]["Eval"]["dataset"]["transform_ops"]
    operators[1]["ResizeImage"] = {"resize_short": 20}
    return runs


def expected(cfg, kind):
    """Return the mean probabilities, with views cut and mirrored by NumPy."""
    section = copy.deepcopy(cfg.section("DataLoader.Eval"))
    operators = section["dataset"]["transform_ops"]
    section["dataset"]["transform_ops"] = [item for item in operators if "CropImage" not in item]
    images = np.concatenate([batch.images.numpy() for batch in build_dataloader(section, "Eval").epoch(0)])
    corners = [(2, 2)] if kind == "hflip" else [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
    views = [images[:, :, top : top + 16, left : left + 16] for top, left in corners]
    views += [view[..., ::-1].copy() for view in views] if kind in ("hflip", "ten_crop") else []
    model = load_trained(cfg, "used")
    with paddle.no_grad():
        return np.mean([softmax(model(paddle.to_tensor(view)).numpy().astype(np.float64)) for view in views], axis=0)


@pytest.mark.compat
@pytest.mark.parametrize("kind", ["hflip", "five_crop", "ten_crop"])
def test_probabilities_are_the_mean_over_the_views(crops, kind, tmp_path):
    path = tmp_path / "predictions.npz"
    cfg = load_config(crops.write(), [f"Global.output_dir={tmp_path}"], mode="eval")
    result = evaluate(cfg, options=EvaluationOptions(save_predictions=path, tta=kind))
    probabilities = expected(cfg, kind)
    found = read_predictions(path)
    np.testing.assert_allclose(softmax(found.scores.astype(np.float64)), probabilities, rtol=1e-3, atol=1e-6)
    labels = found.labels
    assert result["top1"] == pytest.approx((probabilities.argmax(axis=1) == labels).mean())
    assert result["CELoss"] == pytest.approx(-np.log(probabilities[np.arange(len(labels)), labels]).mean(), rel=1e-3)


def test_views_that_are_not_defined_are_refused_by_name(runs, capsys):
    """The small configuration ends with ResizeImage, so nothing is cropped."""
    options = ["-c", str(runs.write()), "--random_weights"]
    assert cli.main(["eval", *options, "--tta", "five_crop"]) == 2
    assert "--tta five_crop moves the crop of CropImage" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["eval", *options, "--tta", "ten_crops"])
    assert "ten_crop" in capsys.readouterr().err
    assert list(KINDS) == ["hflip", "five_crop", "ten_crop", "multi_scale"]


class AnySize(paddle.nn.Layer):
    stage_strides = [4]

    def __init__(self):
        super().__init__()
        self.sizes = []

    def check_resolution(self, height, width):
        if width > 32:
            raise ValueError(f"takes up to 32 pixels, got {width}")

    def forward(self, x):
        self.sizes.append(tuple(x.shape[2:]))
        return x.mean(axis=[2, 3]) * len(self.sizes)


def test_sizes_are_multiples_of_the_stride():
    model, images = AnySize(), paddle.rand([2, 3, 28, 14])
    found = TestTimeAugmentation("multi_scale").scores(model, [images])
    assert model.sizes == [(28, 14), (24, 12), (32, 16)]
    assert paddle.exp(found).sum(axis=1).numpy() == pytest.approx(1, abs=1e-6)
    with pytest.raises(UndefinedViewError, match=r"8x8 \(width x height\) has no three of them"):
        TestTimeAugmentation("multi_scale").scores(model, [paddle.rand([1, 3, 8, 8])])
    with pytest.raises(UndefinedViewError, match="multi_scale: takes up to 32 pixels"):
        TestTimeAugmentation("multi_scale").scores(model, [paddle.rand([1, 3, 56, 56])])
