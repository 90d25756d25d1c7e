"""Draw docs/figures/explain_patches.png: three small networks find a patch of a flower in pictures of China.

    python docs/figures/explain_patches.py output/patches        # two minutes on two cores

The pictures are made of the two photographs that scikit-learn ships; training and evaluation see different parts.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from ppcls_ext import cli  # noqa: E402  # a plain clone is not installed

SIDE, PATCH, EPOCHS = 64, 20, 12
WIDTH = 1300  # of the picture
NORMALIZE = "{NormalizeImage: {scale: 1.0/255.0, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], order: ''}}"
DECODE = "{DecodeImage: {to_rgb: True, channel_first: False}}"
CROP = f"{{RandCropImage: {{size: {SIDE}, scale: [0.8, 1.0]}}}}"
TRAIN = f"[{DECODE}, {CROP}, {{RandFlipImage: {{flip_code: 1}}}}, {NORMALIZE}]"
EVAL = f"[{DECODE}, {{ResizeImage: {{resize_short: {SIDE}}}}}, {{CropImage: {{size: {SIDE}}}}}, {NORMALIZE}]"
NETWORKS = {
    "ResNet": [],
    "Sequencer2D": [f"Arch.img_size={SIDE}", "Arch.patch_sizes=[4,2]"],
    "ViT": [f"Arch.img_size={SIDE}", "Arch.patch_size=8"],
}


def make_pictures() -> None:
    """Write crops of China with a patch of the flower (class 1), or of China again (class 0), at a random place."""
    china, flower = map(Image.fromarray, load_sample_images().images)
    rng = np.random.default_rng(0)

    def crop(image, size, low, high):
        side = int(rng.integers(size, 2 * size))
        left, top = int(rng.integers(low, high - side)), int(rng.integers(0, image.height - side))
        return image.crop((left, top, left + side, top + side)).resize((size, size))

    Path("images").mkdir(exist_ok=True)
    for split, count, (low, high) in (("train", 600, (0, 420)), ("val", 60, (420, 640))):
        lines = []
        for label, (name, source, columns) in enumerate(
            (("china", china, (low, high)), ("flower", flower, (200, 460)))
        ):
            for number in range(count):
                picture = crop(china, SIDE, low, high)
                left, top = rng.integers(0, SIDE - PATCH, 2)
                picture.paste(crop(source, PATCH, *columns), (int(left), int(top)))
                path = f"images/{split}_{name}_{number}.png"
                picture.save(path)
                lines.append(f"{path} {label}\n")
        Path(f"{split}_list.txt").write_text("".join(lines))
    Path("label_list.txt").write_text("0 china\n1 flower\n")


def train(name: str, overrides: list) -> None:
    """Train a network of the quick start on the pictures."""
    recipe = str(ROOT / "configs" / "quick_start" / f"{name}_digits.yaml")
    metric = "[{TopkAcc: {topk: [1]}}]"
    options = ["Arch.class_num=2", f"Global.epochs={EPOCHS}", f"Global.output_dir={name}", "Global.overwrite=True"]
    options += [f"Global.image_shape=[3,{SIDE},{SIDE}]", f"Metric.Train={metric}", f"Metric.Eval={metric}"]
    options += [
        "Infer.PostProcess.class_id_map_file=label_list.txt",
        "Infer.PostProcess.topk=2",
        f"Infer.transforms={EVAL}",
    ]
    for split, part, operators in (("Train", "train", TRAIN), ("Eval", "val", EVAL)):
        section = f"DataLoader.{split}.dataset"
        options += [f"{section}.image_root=.", f"{section}.cls_label_path={part}_list.txt"]
        options += [f"{section}.transform_ops={operators}"]
    if cli.main(["train", "-c", recipe, "-o", *options, *overrides]):
        raise SystemExit(f"{name} was not trained")


def main() -> None:
    """Make, train, explain; write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="for pictures and runs")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    make_pictures()
    for name, overrides in NETWORKS.items():
        train(name, overrides)
    methods = ["gradcam", "integrated_gradients", "smoothgrad", "rollout", "occlusion", "lime"]
    words = [*NETWORKS, "--infer_imgs", "images/val_flower_1.png", "--faithfulness", "--output", "explained"]
    if cli.main(["explain", *words, "--method", *methods]):
        raise SystemExit("nothing was explained")
    with Image.open("explained/grid.png") as grid:
        small = grid.convert("RGB").resize((WIDTH, round(grid.height * WIDTH / grid.width)), Image.Resampling.LANCZOS)
        # 256 colours, chosen for the pale ones too.
        pale = small.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        pale.save(ROOT / "docs" / "figures" / "explain_patches.png", optimize=True)


if __name__ == "__main__":
    main()
