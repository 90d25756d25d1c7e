"""The data sections of every configuration in the tree."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ppcls_ext.data import build_dataloader, build_transforms, check_transform_ops
from ppcls_ext.data.digits import prepare_digits

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
DIGITS = sorted((ROOT / "configs" / "quick_start").glob("*_digits.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_operators_are_right(path):
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    for mode in ("Train", "Eval"):
        assert check_transform_ops(config["DataLoader"][mode]["dataset"]["transform_ops"], from_bytes=True) == []
    transforms = config["Infer"]["transforms"]
    assert check_transform_ops(transforms, from_bytes=True) == []
    assert build_transforms(transforms).layout == "CHW"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return prepare_digits(tmp_path_factory.mktemp("data") / "digits", progress=False)


@pytest.mark.parametrize("path", DIGITS, ids=lambda path: path.stem)
def test_digits_come_in_the_models_size(path, digits):
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    for mode, samples in (("Train", 1437), ("Eval", 360)):
        section = config["DataLoader"][mode]
        for key in ("image_root", "cls_label_path"):
            assert section["dataset"][key].startswith("./dataset/digits/")
            section["dataset"][key] = section["dataset"][key].replace("./dataset/digits", str(digits))
        loader = build_dataloader(section, mode)
        assert len(loader.dataset) == samples
        batch = next(iter(loader.epoch(1)))
        assert batch.images.shape[1:] == config["Global"]["image_shape"]
        assert -1 <= float(batch.images.min()) and float(batch.images.max()) <= 1
