"""``class_weights: balanced`` in a run: from the labels of any data set, and refused where it has no meaning."""

import shutil

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from ppcls_ext.config import ConfigError
from ppcls_ext.config.loading import load_config
from ppcls_ext.data.shards.writer import write_shards


def as_folder(runs, lines):
    folder = runs.folder / "classes"
    for name, label in lines:
        target = folder / str(label)
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(runs.digits / name, target)
    return {"name": "ImageFolder", "image_root": str(folder)}


def as_shards(runs, lines):
    del lines
    source = runs.config["DataLoader"]["Train"]["dataset"]
    root, labels, output = source["image_root"], source["cls_label_path"], runs.folder / "train"
    return {"name": "ShardDataset", "shards": write_shards(root, labels, output, samples=40, progress=False)}


@pytest.mark.parametrize("convert", [None, as_folder, as_shards])
def test_balanced_is_that_of_scikit_learn_for_every_data_set(runs, convert):
    section = runs.config["DataLoader"]["Train"]["dataset"]
    lines = [line.split() for line in open(section["cls_label_path"], encoding="utf-8").read().splitlines()]
    labels = [int(label) for _, label in lines]
    if convert is not None:
        operators = section["transform_ops"]
        runs.config["DataLoader"]["Train"]["dataset"] = {**convert(runs, lines), "transform_ops": operators}
    runs.config["Loss"]["Train"] = [{"CELoss": {"class_weights": "balanced"}}]
    trainer = runs.trainer()
    expected = compute_class_weight("balanced", classes=np.arange(10), y=labels)
    assert trainer.loss.losses[0].class_weights == pytest.approx(expected)
    assert "CELoss.class_weights: balanced: " in runs.log()


@pytest.mark.parametrize(
    "split, arguments, message",
    [
        ("Train", {"class_weights": [1.0, 2.0]}, "one weight for each of the 10 classes, got 2"),
        ("Train", {"class_weights": "balance"}, "expected 'balanced' or a list"),
        ("Eval", {"class_weights": "balanced"}, "a weighted mean depends on the batches"),
    ],
)
def test_mistakes_are_named_before_training(runs, split, arguments, message):
    runs.config["Loss"][split] = [{"CELoss": arguments}]
    with pytest.raises(ConfigError) as error:
        load_config(runs.write())
    assert message in str(error.value)
