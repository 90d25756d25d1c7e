"""Compare data pipelines of ImageNet training: images per second of one core.

    python benchmarks/data_pipeline.py --torch-python <Python with PyTorch and torchvision>

The images are 500×375 JPEG files cut out of the two photographs that scikit-learn carries, of about 110 KB on average
like ImageNet's. Each pipeline reads a file, decodes it, takes a random part of it to 224×224, mirrors it by chance,
normalises it, and puts 64 images into one float32 batch, channels first. Each runs in a process of its own, on one
core and with one thread; they take turns, round by round. Their processor seconds are compared within a round, and the
median over the rounds counts, so that a busy machine slows all of them down. What a pipeline gives is checked first:
the package against PaddleClas's algorithm must be equal, bit for bit.

- opencv: the algorithm of PaddleClas's operators, one by one (OpenCV decodes, BGR to RGB, crop, resize, flip,
  normalise with NumPy, transpose, stack).
- torchvision: RandomResizedCrop, RandomHorizontalFlip, ToTensor, Normalize on Pillow images, default_collate.
- ours: ``ppcls_ext.data`` as a worker process runs it; "-plain" without simplejpeg, "-pil" with Pillow's bilinear
  filter, which averages as torchvision's does, "-bytes" with ``loader.normalize_on_device``, so that a batch is uint8.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SIZE, BATCH = 224, 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: (quality, chroma subsampling of Pillow: 0 is 4:4:4, 2 is 4:2:0) of every second file; ImageNet has both.
ENCODINGS = ((96, 0), (97, 2))


def write_images(folder: Path, count: int) -> list[Path]:
    """Write ``count`` different JPEG files of 500×375 and a label list."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    paths = []
    for index in range(count):
        photograph = photographs[index % len(photographs)]
        width = int(rng.integers(500, 569))  # of the 640 columns; 3/4 of it of the 427 rows
        height = width * 3 // 4
        left = int(rng.integers(0, photograph.width - width + 1))
        top = int(rng.integers(0, photograph.height - height + 1))
        part = photograph.crop((left, top, left + width, top + height)).resize((500, 375), Image.Resampling.LANCZOS)
        quality, subsampling = ENCODINGS[index // len(photographs) % len(ENCODINGS)]
        paths.append(folder / f"{index:04d}.jpg")
        part.save(paths[-1], "JPEG", quality=quality, subsampling=subsampling)
    (folder / "list.txt").write_text("".join(f"{path.name} {i % 1000}\n" for i, path in enumerate(paths)))
    return paths


# ---- the pipelines: each returns a function from the number of a batch to the batch --------------------------------


def ours(folder: Path, plain: bool = False, backend: str = "cv2", as_bytes: bool = False):
    """The package."""
    sys.path.insert(0, str(ROOT))
    import ppcls_ext  # noqa: F401 - sets the number of threads
    from ppcls_ext.data import build_dataloader
    from ppcls_ext.data.collate import load_batch
    from ppcls_ext.data.preprocess import jpeg
    from ppcls_ext.data.workers import _use_one_thread

    if plain:
        jpeg.simplejpeg = None
    elif jpeg.simplejpeg is None:
        raise SystemExit("simplejpeg is not installed: pip install simplejpeg")
    _use_one_thread()
    loader = build_dataloader(
        {
            "dataset": {
                "name": "ImageNetDataset",
                "image_root": str(folder),
                "cls_label_path": str(folder / "list.txt"),
                "transform_ops": [
                    {"DecodeImage": {"backend": backend}},
                    {"RandCropImage": {"size": SIZE, "backend": backend}},
                    {"RandFlipImage": {"flip_code": 1}},
                    {"NormalizeImage": {"scale": "1.0/255.0", "mean": list(MEAN), "std": list(STD), "order": ""}},
                ],
            },
            "sampler": {"batch_size": BATCH, "shuffle": True},
            "loader": {"normalize_on_device": as_bytes},
        },
        "Train",
    )

    def batch(number: int):
        epoch, position = divmod(number, len(loader))
        draws = loader.sampler.batches(epoch)[position]
        return load_batch(loader.dataset, draws, epoch, position, normalize=not as_bytes).images

    return batch


def opencv(folder: Path):
    """The algorithm of PaddleClas's operators; what they draw is the package's, so that the batches must be equal."""
    sys.path.insert(0, str(ROOT))
    import ppcls_ext  # noqa: F401 isort: skip - sets the number of threads
    import cv2
    import numpy as np

    from ppcls_ext.data.preprocess import RandCropImage
    from ppcls_ext.data.sampler import EpochSampler

    cv2.setNumThreads(0)
    paths = sorted(folder.glob("*.jpg"))
    sampler, box = EpochSampler(len(paths), BATCH, shuffle=True), RandCropImage(SIZE).box
    mean = np.array(MEAN, np.float32).reshape(1, 1, 3)
    std = np.array(STD, np.float32).reshape(1, 1, 3)
    scale = np.float32(1.0 / 255.0)

    def image(epoch: int, index: int):
        rng = np.random.default_rng([0, epoch, index])
        pixels = cv2.imdecode(np.frombuffer(paths[index].read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        left, top, width, height = box(*pixels.shape[:2], rng)
        pixels = cv2.resize(pixels[top : top + height, left : left + width], (SIZE, SIZE))
        if rng.integers(2):
            pixels = cv2.flip(pixels, 1)
        return ((pixels.astype(np.float32) * scale - mean) / std).transpose(2, 0, 1)

    def batch(number: int):
        epoch, position = divmod(number, len(sampler))
        images = [image(epoch, int(index)) for index in sampler.batches(epoch)[position]]
        return np.stack(images, out=np.empty((len(images), 3, SIZE, SIZE), np.float32))

    return batch


def torchvision(folder: Path):
    """The usual recipe of PyTorch's examples."""
    import torch

    for name in ("nms", "qnms"):  # torchvision wants its compiled operators declared, which it does not need here
        library = torch.library.Library("torchvision", "FRAGMENT")
        try:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        except RuntimeError:
            pass  # they are there
        LIBRARIES.append(library)
    from PIL import Image
    from torch.utils.data import default_collate
    from torchvision import transforms

    torch.set_num_threads(1)
    paths = sorted(folder.glob("*.jpg"))
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )

    def batch(number: int):
        torch.manual_seed(number)
        chosen = random.Random(number).choices(paths, k=BATCH)
        return default_collate([transform(Image.open(io.BytesIO(path.read_bytes())).convert("RGB")) for path in chosen])

    return batch


LIBRARIES: list = []  # keeps PyTorch's declarations alive
PIPELINES = {
    "opencv": opencv,
    "torchvision": torchvision,
    "ours": ours,
    "ours-plain": lambda folder: ours(folder, plain=True),
    "ours-pil": lambda folder: ours(folder, backend="pil"),
    "ours-bytes": lambda folder: ours(folder, as_bytes=True),
}


# ---- the processes -------------------------------------------------------------------------------------------------


def serve(name: str, folder: Path, core: int) -> None:
    """Run one pipeline: each line of standard input is a number of batches, answered by their processor seconds."""
    os.sched_setaffinity(0, {core})
    batch = PIPELINES[name](folder)
    first = batch(0)
    Path(folder, f"{name}.batch").write_bytes(memoryview(first.numpy() if name == "torchvision" else first))
    print("ready", *first.shape, flush=True)
    done = 0
    for line in sys.stdin:
        start = time.process_time()
        for _ in range(int(line)):
            done += 1
            batch(done)
        print(time.process_time() - start, flush=True)


class Child:
    """A process that serves one pipeline."""

    def __init__(self, python: str, name: str, folder: Path, core: int):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [python, __file__, "--serve", name, "--folder", str(folder), "--core", str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.name, self.seconds = name, []
        while not (line := self._line()).startswith("ready"):
            pass
        self.shape = tuple(int(number) for number in line.split()[1:])

    def _line(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with exit code {self.process.wait()}")
        return line

    def run(self, batches: int) -> float:
        """Return the processor seconds of a round."""
        print(batches, file=self.process.stdin, flush=True)
        return float(self._line())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def normalised(batch: bytes) -> bytes:
    """Return what the device makes of a batch of bytes."""
    import numpy as np

    images = np.frombuffer(batch, np.uint8).reshape(BATCH, 3, SIZE, SIZE).astype(np.float32)
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    return ((images * np.float32(1.0 / 255.0) - mean) / std).tobytes()


def compare(folder: Path, names: list[str], arguments: argparse.Namespace) -> None:
    paths = write_images(folder, arguments.images)
    sizes = [path.stat().st_size for path in paths]
    print(
        f"{len(paths)} files of {statistics.mean(sizes) / 1000:.0f} KB on average ({min(sizes)} to {max(sizes)} bytes)"
    )
    children = []
    try:
        for name in names:
            python = arguments.torch_python if name == "torchvision" else sys.executable
            children.append(Child(python, name, folder, arguments.core))
            if children[-1].shape != (BATCH, 3, SIZE, SIZE):
                raise SystemExit(f"{name} gives {children[-1].shape}")
        reference = (folder / "opencv.batch").read_bytes()
        for name in ("ours", "ours-plain", "ours-bytes"):
            batch = (folder / f"{name}.batch").read_bytes()
            if (normalised(batch) if name == "ours-bytes" else batch) != reference:
                raise SystemExit(f"{name} is not equal to PaddleClas's algorithm")
        for turn in range(arguments.rounds + 1):
            for child in children:
                seconds = child.run(arguments.batches)
                if turn:  # the first turn warms up
                    child.seconds.append(seconds)
    finally:
        for child in children:
            child.close()
    times = {child.name: child.seconds for child in children}
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    baseline = min((name for name in ("opencv", "torchvision") if name in times), key=medians.get)
    print(f"\n| pipeline | images per processor second | times {baseline} (least to most) |\n|---|---|---|")
    for name, seconds in times.items():
        ratios = sorted(theirs / own for theirs, own in zip(times[baseline], seconds))
        speed = BATCH * arguments.batches / statistics.median(seconds)
        print(f"| {name} | {speed:.0f} | {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |")


def compare_decoders(folder: Path, arguments: argparse.Namespace) -> None:
    """Print the processor time of ways to decode, of which the package takes the exact ones alone."""
    import cv2
    import numpy as np
    import simplejpeg
    from PIL import Image

    os.sched_setaffinity(0, {arguments.core})
    cv2.setNumThreads(0)
    files = [path.read_bytes() for path in write_images(folder, 64)]
    decoders = {
        "OpenCV": lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1],
        "Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")),
        "simplejpeg": simplejpeg.decode_jpeg,
        "simplejpeg, fast transform and upsampling": lambda data: simplejpeg.decode_jpeg(
            data, fastdct=True, fastupsample=True
        ),
        "simplejpeg, 7/8 of the size": lambda data: simplejpeg.decode_jpeg(data, min_height=300),
        "simplejpeg, 1/2 of the size": lambda data: simplejpeg.decode_jpeg(data, min_height=180),
    }
    exact = decoders["OpenCV"](files[0])
    times: dict[str, list] = {name: [] for name in decoders}
    for turn in range(arguments.rounds + 1):
        for name, decode in decoders.items():
            start = time.process_time()
            for data in files:
                decode(data)
            if turn:  # the first turn warms up
                times[name].append(time.process_time() - start)
    print("| decoder | equal to OpenCV's | time, in that of simplejpeg (least to most) |\n|---|---|---|")
    for name, seconds in times.items():
        ratios = sorted(own / base for own, base in zip(seconds, times["simplejpeg"]))
        equal = "yes" if np.array_equal(decoders[name](files[0]), exact) else "no"
        print(f"| {name} | {equal} | {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", help="interpreter for torchvision; without it, torchvision is left out")
    parser.add_argument("--images", type=int, default=512, help="number of files (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="turns that count (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=4, help="batches of 64 a turn (default: %(default)s)")
    parser.add_argument("--core", type=int, default=0, help="the core that all run on (default: %(default)s)")
    parser.add_argument("--decoders", action="store_true", help="compare decoders alone instead")
    parser.add_argument("--serve", choices=PIPELINES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.folder, arguments.core)
        return
    names = [name for name in PIPELINES if name != "torchvision" or arguments.torch_python]
    with tempfile.TemporaryDirectory() as folder:
        if arguments.decoders:
            compare_decoders(Path(folder), arguments)
        else:
            compare(Path(folder), names, arguments)


if __name__ == "__main__":
    main()
