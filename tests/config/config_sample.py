"""A small valid configuration with its data, for the tests of the configuration."""

import copy
from pathlib import Path

import cv2
import numpy as np
import yaml

from ppcls_ext.config import ConfigError, load_config

TEXT = """\
Global:
  output_dir: {root}/output
  device: cpu
  epochs: 4
  print_batch_step: 2
  image_shape: [3, 32, 32]

Arch:
  name: ppcls_ext.Sequencer2D_S
  class_num: 3

AMP:
  use_amp: False
  scale_loss: 128.0
  level: O1

EMA:
  decay: 0.99

Loss:
  Train:
    - CELoss:
        weight: 1.0
        epsilon: 0.1
  Eval:
    - CELoss:
        weight: 1.0

Optimizer:
  name: AdamW
  weight_decay: 0.05
  one_dim_param_no_weight_decay: True
  lr:
    name: Cosine
    learning_rate: 1e-3
    warmup_epoch: 1
    eta_min: 1e-6

DataLoader:
  Train:
    dataset:
      name: ImageNetDataset
      image_root: {root}
      cls_label_path: {root}/list.txt
      transform_ops:
        - DecodeImage:
            to_rgb: True
        - RandCropImage:
            size: 32
        - NormalizeImage:
            scale: 1.0/255.0
            order: ''
    sampler:
      name: DistributedBatchSampler
      batch_size: 2
      shuffle: True
    loader:
      num_workers: 0
      use_shared_memory: True
  Eval:
    dataset:
      name: ImageNetDataset
      image_root: {root}
      cls_label_path: {root}/list.txt
      transform_ops:
        - DecodeImage:
            to_rgb: True
        - ResizeImage:
            size: 32
        - NormalizeImage:
            order: ''
    sampler:
      batch_size: 2

Metric:
  Train:
    - TopkAcc:
        topk: [1]
  Eval:
    - TopkAcc:
        topk: [1, 2]

Infer:
  infer_imgs: {root}/0.png
  batch_size: 2
  transforms:
    - DecodeImage:
        to_rgb: True
    - ResizeImage:
        size: 32
    - NormalizeImage:
        order: ''
    - ToCHWImage:
  PostProcess:
    name: Topk
    topk: 2
"""


class Sample:
    """The configuration in ``folder``, with three images of three classes beside it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.path = folder / "sample.yaml"
        for index in range(3):
            cv2.imwrite(str(folder / f"{index}.png"), np.full((32, 32, 3), 60 * index, np.uint8))
        self.write_list([0, 1, 2])
        self.path.write_text(TEXT.format(root=folder), encoding="utf-8")

    def write_list(self, labels) -> None:
        lines = [f"{index}.png {label}" for index, label in enumerate(labels)]
        (self.folder / "list.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def edit(self, change) -> None:
        """Write the YAML again after ``change(data)``; comments and lines are those of PyYAML's own layout."""
        data = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        data = copy.deepcopy(change(data) or data)
        self.path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")

    def replace(self, old: str, new: str) -> None:
        text = self.path.read_text(encoding="utf-8")
        assert text.count(old) >= 1, old
        self.path.write_text(text.replace(old, new, 1), encoding="utf-8")

    def load(self, *overrides, mode="train"):
        return load_config(self.path, overrides, mode)

    def problems(self, *overrides, mode="train") -> list:
        """Return the problems that the configuration has, as text; none if it is valid."""
        try:
            self.load(*overrides, mode=mode)
        except ConfigError as error:
            return [str(problem) for problem in error.problems]
        return []

    def problem(self, *overrides, mode="train") -> str:
        """Return the only problem."""
        found = self.problems(*overrides, mode=mode)
        assert len(found) == 1, found
        return found[0]
