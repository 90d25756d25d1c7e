"""A small real data set, and runs on it."""

from pathlib import Path

import pytest
import yaml

from ppcls_ext.config import load_config
from ppcls_ext.data.digits import prepare_digits
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.logger import start_logging
from ppcls_ext.engine.train.trainer import Trainer

TRAIN_IMAGES, EVAL_IMAGES = 96, 43  # 43: no batch size but 1 divides it

DECODE = {"DecodeImage": {"to_rgb": True, "channel_first": False}}
NORMALIZE = {"NormalizeImage": {"scale": "1.0/255.0", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "order": ""}}


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """The first images of the digits: 96 to train on, 43 to evaluate on."""
    folder = prepare_digits(tmp_path_factory.mktemp("data") / "digits", progress=False)
    for name, count in (("train", TRAIN_IMAGES), ("val", EVAL_IMAGES)):
        lines = (folder / f"{name}_list.txt").read_text().splitlines()[:count]
        (folder / f"{name}_small.txt").write_text("\n".join(lines) + "\n")
    return folder


def small_config(digits: Path, output_dir: Path) -> dict:
    """A config that trains in a second: three batches of 32 an epoch, no randomness in the model."""

    def loader(name, operators, batch_size, shuffle):
        return {
            "dataset": {
                "name": "ImageNetDataset",
                "image_root": str(digits),
                "cls_label_path": str(digits / f"{name}_small.txt"),
                "transform_ops": operators,
            },
            "sampler": {
                "name": "DistributedBatchSampler",
                "batch_size": batch_size,
                "shuffle": shuffle,
                "drop_last": False,
            },
            "loader": {"num_workers": 0, "use_shared_memory": True},
        }

    crop = {"RandCropImage": {"size": 16, "scale": [0.7, 1.0]}}
    return {
        "Global": {
            "output_dir": str(output_dir),
            "device": "cpu",
            "epochs": 2,
            "seed": 7,
            "print_batch_step": 1,
            "save_interval": 1,
            "image_shape": [3, 16, 16],
        },
        "Arch": {
            "name": "Sequencer2D_S",
            "class_num": 10,
            "depths": [1, 1],
            "patch_sizes": [4, 1],
            "embed_dims": [16, 16],
            "hidden_sizes": [4, 4],
            "mlp_ratios": [2.0, 2.0],
        },
        "Loss": {"Train": [{"CELoss": {"weight": 1.0, "epsilon": 0.1}}], "Eval": [{"CELoss": {"weight": 1.0}}]},
        "Optimizer": {
            "name": "AdamW",
            "weight_decay": 0.05,
            "one_dim_param_no_weight_decay": True,
            "lr": {"name": "Cosine", "learning_rate": 0.003, "warmup_epoch": 1, "warmup_start_lr": 1e-5},
        },
        "DataLoader": {
            "Train": loader("train", [DECODE, crop, NORMALIZE], 32, True),
            "Eval": loader("val", [DECODE, {"ResizeImage": {"size": 16}}, NORMALIZE], 16, False),
        },
        "Metric": {"Train": [{"TopkAcc": {"topk": [1, 5]}}], "Eval": [{"TopkAcc": {"topk": [1, 5]}}]},
    }


class Runs:
    """Writes configs and runs them in this process.

    Attributes:
        digits: folder of the data.
        output_dir: folder of the runs' output.
        config: the config as a dict, to be changed before :meth:`write` or :meth:`train`.
    """

    def __init__(self, digits: Path, folder: Path):
        self.digits, self.folder = digits, folder
        self.output_dir = folder / "output"
        self.config = small_config(digits, self.output_dir)

    def write(self) -> Path:
        """Write the config as a YAML file."""
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(self.config, sort_keys=False))
        return path

    def trainer(self, *overrides: str) -> Trainer:
        """Build a trainer."""
        session = Session("cpu")
        start_logging(True, self.output_dir / "train.log")
        return Trainer(load_config(self.write(), overrides), session)

    def train(self, *overrides: str) -> tuple[Trainer, dict]:
        """Train to the end; return the trainer and its summary."""
        trainer = self.trainer(*overrides)
        return trainer, trainer.run()

    def train_until(self, epoch: int, iteration: int) -> Trainer:
        """Train as if killed before ``iteration`` of ``epoch``; return the trainer."""
        trainer = self.trainer()
        step = trainer._step

        def dying(*place_and_batch):
            if place_and_batch[:2] == (epoch, iteration):
                raise KeyboardInterrupt
            return step(*place_and_batch)

        trainer._step = dying
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
        return trainer

    def log(self) -> str:
        """Return train.log."""
        return (self.output_dir / "train.log").read_text()


@pytest.fixture(scope="session")
def new_runs(digits):
    """Make runs in a folder that a fixture of a wider scope has made."""
    return lambda folder: Runs(digits, folder)


@pytest.fixture
def runs(digits, tmp_path) -> Runs:
    """A fresh folder of runs."""
    return Runs(digits, tmp_path)


@pytest.fixture(scope="session")
def trained(digits, tmp_path_factory) -> Runs:
    """Four epochs over all digits, prepared for evaluation as PaddleClas's own predictor prepares images.

    Its weights are ``output_dir/best_model``. Do not change the config; take a deep copy.
    """
    runs = Runs(digits, tmp_path_factory.mktemp("trained"))
    prepare = [DECODE, {"ResizeImage": {"resize_short": 16}}, {"CropImage": {"size": 16}}, NORMALIZE]
    for split, name in (("Train", "train"), ("Eval", "val")):
        runs.config["DataLoader"][split]["dataset"]["cls_label_path"] = str(digits / f"{name}_list.txt")
        runs.config["DataLoader"][split]["dataset"]["transform_ops"] = prepare
    runs.config["Global"].update(epochs=4, eval_interval=4)
    runs.config["Optimizer"]["lr"] = {"name": "Constant", "learning_rate": 0.01}
    runs.config["Infer"] = {
        "batch_size": 32,
        "transforms": [*prepare, {"ToCHWImage": None}],
        "PostProcess": {"name": "Topk", "topk": 3, "class_id_map_file": str(digits / "label_list.txt")},
    }
    trainer, _ = runs.train()
    trainer.cfg.save(runs.output_dir / "config.yaml")  # as ppcls_ext.engine.train.trainer.train does
    runs.config["Global"]["pretrained_model"] = str(runs.output_dir / "best_model")
    return runs
