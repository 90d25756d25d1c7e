"""The rules of fine-tuning, one function each; docs/en/own_data.md and docs/zh_CN/own_data.md list them.

Each takes facts and returns a value with the reason that stands beside it in the YAML file. The numbers are this
project's own, of the order that is usual for each optimizer; they are a start, not a search.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Optional

from ppcls_ext.config.finetuning.facts import DataFacts, MachineFacts, NetworkFacts, Wishes

#: Bytes of training memory per number that a layer puts out. Measured in float32 on a CPU: ResNet18 3.2, ViT-S/16 3.8,
#: Swin-T 5.4, Sequencer2D-S 8.0.
BYTES_PER_ACTIVATION = 8
#: Weights, their gradients and two moments, in float32.
BYTES_PER_PARAMETER = 16
#: Share of the free memory that a batch may take.
MEMORY_SHARE = 0.5
LARGEST_BATCH = {"cpu": 32, "gpu": 128}
SMALLEST_BATCH = 8
#: So many steps an epoch are wanted at least.
STEPS_PER_EPOCH = 6
#: Optimizer steps that a run aims at, and the bounds of its epochs, from published weights and from random ones.
STEPS = {True: 2000, False: 6000}
EPOCHS = {True: (10, 60), False: (30, 200)}
#: Training images from which a stronger augmentation begins.
MEDIUM, LARGE = 2000, 20_000
#: Steps of a run from which the weights are averaged.
EMA_STEPS = 3000
SMALLEST_SIDE = 32


class Choice(NamedTuple):
    """A value, and why it is that."""

    value: Any
    why: str


class Optimization(NamedTuple):
    """An optimizer, with the learning rate for batches of ``base`` images."""

    name: str
    learning_rate: float
    base: int
    weight_decay: float


#: By whether the network has layer normalisation, and whether it starts from published weights.
OPTIMIZATION = {
    (False, True): Optimization("Momentum", 0.01, 64, 1e-4),
    (False, False): Optimization("Momentum", 0.05, 64, 1e-4),
    (True, True): Optimization("AdamW", 4e-4, 64, 0.05),
    (True, False): Optimization("AdamW", 1e-3, 64, 0.05),
}
LAYER_DECAY = 0.75


def image_size(data: DataFacts, network: NetworkFacts, wishes: Wishes) -> Choice:
    """Return height and width: those of the weights, or without weights, of the images, if they are smaller."""
    if wishes.img_size is not None:
        return Choice(wishes.img_size, "as asked for with --img_size")
    if wishes.pretrained:
        return Choice(network.size, "the size of the published weights")
    side = max(SMALLEST_SIDE, math.ceil(data.short_side / network.multiple) * network.multiple)
    side = max(network.multiple, math.ceil(side / network.multiple) * network.multiple)
    if side >= network.size:
        return Choice(network.size, "the network's own size")
    return Choice(
        side, f"the images' median shorter side, {data.short_side:g}, up to the next multiple of {network.multiple}"
    )


def batch_size(data: DataFacts, network: NetworkFacts, machine: MachineFacts, wishes: Wishes, size: int) -> Choice:
    """Return the images per batch: a power of 2 that memory holds and that leaves enough steps in an epoch."""
    if wishes.batch_size is not None:
        return Choice(wishes.batch_size, "as asked for with --batch_size")
    by_data = max(SMALLEST_BATCH, data.train // STEPS_PER_EPOCH)
    limits = {
        f"the most that is taken on a {machine.device.upper()}": LARGEST_BATCH[machine.device],
        f"at least {STEPS_PER_EPOCH} steps an epoch with {data.train:,} training images": by_data,
    }
    by_memory = images_in_memory(network, machine, size)
    if by_memory is not None:
        limits[f"half of the free memory holds about {max(by_memory, 1):,} images of {size}x{size}"] = by_memory
    why, limit = min(limits.items(), key=lambda item: item[1])
    return Choice(min(2 ** max(int(math.log2(max(limit, 1))), 0), data.train), why)


def images_in_memory(network: NetworkFacts, machine: MachineFacts, size: int) -> Optional[int]:
    """Return how many images of ``size`` the memory share holds in training; None where memory is not known."""
    if machine.free_bytes is None:
        return None
    rest = machine.free_bytes * MEMORY_SHARE - network.parameters * BYTES_PER_PARAMETER
    per_image = network.activations * (size / network.size) ** 2 * BYTES_PER_ACTIVATION
    return int(rest // per_image)


def optimization(network: NetworkFacts, wishes: Wishes) -> Choice:
    """Return optimizer, learning rate and weight decay."""
    kind = f"networks {'with' if network.layer_norm else 'without'} layer normalisation"
    start = "from trained weights" if wishes.pretrained else "from random weights"
    return Choice(OPTIMIZATION[network.layer_norm, bool(wishes.pretrained)], f"for {kind}, {start}")


def layer_decay(network: NetworkFacts, wishes: Wishes, optimizer: str) -> Optional[Choice]:
    """Return the ratio of learning rates of neighbouring layers; None where it does not apply."""
    if optimizer != "AdamW" or not wishes.pretrained or not network.layer_groups:
        return None
    return Choice(LAYER_DECAY, "trained layers move less, the nearer to the input; the classifier is new")


def epochs(data: DataFacts, wishes: Wishes, batch: int) -> Choice:
    """Return the number of epochs, by the number of steps that a run aims at."""
    if wishes.epochs is not None:
        return Choice(wishes.epochs, "as asked for with --epochs")
    steps = steps_per_epoch(data, batch)
    trained = bool(wishes.pretrained)
    fewest, most = EPOCHS[trained]
    aim = STEPS[trained]
    value = min(max(round(aim / steps), fewest), most)
    return Choice(value, f"{steps:,} steps an epoch; a run aims at {aim:,} steps in {fewest} to {most} epochs")


def steps_per_epoch(data: DataFacts, batch: int) -> int:
    """Return the batches of an epoch; an incomplete one at the end is left out."""
    return max(data.train // batch, 1)


def warmup(length: int, trained: bool) -> Choice:
    """Return the epochs of warm-up."""
    share = 0.1 if trained else 0.05
    return Choice(round(max(length * share, 0.1), 1), f"{share:.0%} of the run")


def average(steps: int) -> Optional[Choice]:
    """Return the decay of the moving average of the weights; None for a short run."""
    if steps < EMA_STEPS:
        return None
    return Choice(0.999, f"{steps:,} steps; an average over about 1,000 of them is steadier")


def workers(data: DataFacts, machine: MachineFacts) -> Choice:
    """Return the worker processes that load images."""
    if data.train < 500:
        return Choice(0, "so few images load faster than processes start")
    most = 8 if machine.device == "gpu" else 2
    return Choice(min(most, machine.cpus), f"of {machine.cpus} processors")


def augmentation(data: DataFacts, flip: bool, size: int, interpolation: str, backend: str) -> list[tuple[dict, str]]:
    """Return the operators between decoding and normalisation, each with its reason."""
    strong = data.train >= MEDIUM
    crop = {"size": size, "scale": [0.3 if strong else 0.5, 1.0], "interpolation": interpolation, "backend": backend}
    amount = f"{data.train:,} training images"
    operators: list[tuple[dict, str]] = [
        ({"RandCropImage": crop}, f"{amount}: {'0.3' if strong else '0.5'} of the area at least")
    ]
    if flip:
        operators.append(({"RandFlipImage": {"flip_code": 1}}, "mirrored images keep their class; else --no_flip"))
    if strong:
        policy = {"config_str": "rand-m7-mstd0.5-inc1", "interpolation": interpolation, "img_size": size}
        operators.append(({"TimmAutoAugment": policy}, f"from {MEDIUM:,} training images on"))
    else:
        jitter = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.0}
        operators.append(({"ColorJitter": jitter}, f"below {MEDIUM:,} training images, mild"))
    return operators


def mixing(data: DataFacts) -> Optional[Choice]:
    """Return operators on batches; None for few images, which few epochs with mixed labels would not fit."""
    if data.train < LARGE:
        return None
    both = {"MixupOperator": {"alpha": 0.2, "prob": 0.5}, "CutmixOperator": {"alpha": 1.0, "prob": 0.5}}
    return Choice([{"OpSampler": both}], f"from {LARGE:,} training images on")
