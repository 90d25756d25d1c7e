"""Twenty steps of training by the trainer, and by timm in PyTorch: the same losses.

The losses were written by ``tests/golden/make_trajectory.py``.
"""

from pathlib import Path

import compare
import cv2
import numpy as np
import pytest
import rule

EPOCHS, BATCHES, BATCH, CLASSES = 5, 4, 8, 10
MODELS = {
    "Sequencer2D_S": {
        "depths": [1, 1, 1, 1],
        "embed_dims": [48, 96, 96, 96],
        "hidden_sizes": [12, 24, 24, 24],
        "img_size": 56,
    },
    "SwinTransformer_tiny_patch4_window7_224": {
        "depths": [2, 2],
        "embed_dim": 48,
        "num_heads": [3, 6],
        "window_size": 4,
        "drop_path_rate": 0.0,
        "img_size": 64,
    },
    "ViT_base_patch16_224": {
        "depths": [1, 1, 1, 1],
        "embed_dim": 96,
        "num_heads": 3,
        "patch_size": 8,
        "img_size": 32,
    },
}


def write_images(folder: Path, size: int) -> Path:
    """Write the images that both sides train on, in order, and their list."""
    lines = []
    for index, image in enumerate(rule.photographs(BATCHES * BATCH, size)):
        cv2.imwrite(str(folder / f"{index}.png"), image[:, :, ::-1])
        lines.append(f"{index}.png {index % CLASSES}\n")
    path = folder / "train.txt"
    path.write_text("".join(lines))
    return path


@pytest.mark.compat
@pytest.mark.parametrize("name", MODELS)
def test_losses_are_those_of_the_reference_at_every_step(runs, name):
    """AdamW, warm-up, cosine, label smoothing, clipping, exemptions from decay; for ViT layer-wise decay too."""
    label_list = write_images(runs.folder, MODELS[name]["img_size"])
    runs.config["Arch"] = {"name": f"ppcls_ext.{name}", "class_num": CLASSES, **MODELS[name]}
    runs.config["Global"].update(epochs=EPOCHS, eval_during_train=False, save_interval=0)
    runs.config["Optimizer"] = {
        "name": "AdamW",
        "weight_decay": 0.05,
        "one_dim_param_no_weight_decay": True,
        "clip_global_norm": 1.0,
        "lr": {"name": "Cosine", "learning_rate": 1e-3, "warmup_epoch": 1.25, "warmup_start_lr": 1e-5},
    }
    if name.startswith("ViT"):
        runs.config["Optimizer"]["layerwise_decay"] = 0.75
    train = runs.config["DataLoader"]["Train"]
    decode, *_, normalize = train["dataset"]["transform_ops"]
    train["dataset"].update(
        image_root=str(runs.folder), cls_label_path=str(label_list), transform_ops=[decode, normalize]
    )
    train["sampler"].update(batch_size=BATCH, shuffle=False)
    trainer = runs.trainer()
    compare.fill(trainer.model)
    losses = []
    step = trainer._step

    def recording(*arguments):
        pending = step(*arguments)
        losses.append(float(pending.losses["loss"]))
        return pending

    trainer._step = recording
    trainer.run()
    expected = np.load(Path(compare.__file__).parent / "trajectories.npz")[name]
    assert len(expected) == EPOCHS * BATCHES and expected[-BATCHES:].mean() < expected[:BATCHES].mean() - 0.3
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
