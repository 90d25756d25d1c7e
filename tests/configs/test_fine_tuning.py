"""A fine-tuning recipe starts from what the recipe before it leaves: other sizes, windows and classifiers fit."""

import numpy as np
import pytest
import yaml
from recipe_files import CONFIGS, read, reduce

from ppcls_ext.config import load_config
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.logger import start_logging
from ppcls_ext.engine.train.trainer import Trainer
from ppcls_ext.utils.state_dict import state_arrays

BY_NAME = {path.stem: path for path in CONFIGS if "ImageNet" in path.parts}
CHAINS = [name for name, path in BY_NAME.items() if read(path)["Global"]["pretrained_model"]]


def trainer(config, folder):
    folder.mkdir()
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return Trainer(load_config(path), Session("cpu"))


def test_every_recipe_that_is_started_from_is_there():
    for name in CHAINS:
        prefix = read(BY_NAME[name])["Global"]["pretrained_model"]
        earlier = prefix.split("/")[2]
        assert prefix == f"{read(BY_NAME[earlier])['Global']['output_dir']}/best_model"
    assert len(CHAINS) >= 18


@pytest.mark.parametrize(
    "name",
    [
        "Sequencer2D_L_392",
        "DilateFormer_Base_384",
        pytest.param("SwinTransformer_base_patch4_window12_384", marks=pytest.mark.compat),
        "SwinTransformer_large_patch4_window7_224",
        "ViT_base_patch16_384",
    ],
)
def test_weights_carry_over(name, images, tmp_path):
    start_logging(is_main=False)
    config = read(BY_NAME[name])
    earlier = read(BY_NAME[config["Global"]["pretrained_model"].split("/")[2]])
    classes = earlier["Arch"]["class_num"]
    earlier = reduce(earlier, images, tmp_path / "output")
    earlier["Arch"]["class_num"] = 3 if classes == 1000 else 7
    first = trainer(earlier, tmp_path / "first")
    first._save("best_model")
    later = reduce(config, images, tmp_path / "later")
    later["Global"]["pretrained_model"] = str(tmp_path / "output" / "best_model")
    if name.startswith("ViT"):
        later["Arch"]["img_size"] = 48  # 3 x 3 patches instead of 14 x 14
    second = trainer(later, tmp_path / "second")
    before, after = state_arrays(first.model), state_arrays(second.model)
    changed = {
        key for key in after if before[key].shape != after[key].shape or not np.array_equal(before[key], after[key])
    }
    allowed = ("relative_position", "pos_embed", *(("head",) if classes != 1000 else ()))
    assert [key for key in changed if not any(part in key for part in allowed)] == []
