"""What the rules of fine-tuning decide by: the data, the network, the machine, and what the user wishes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class DataFacts:
    """A prepared data set.

    Attributes:
        folder: of the lists, as the configuration is to name it.
        image_root: as the configuration is to name it.
        delimiter: between path and class id; None for PaddleClas's.
        classes: number of classes.
        train: number of training images.
        val: number of validation images.
        short_side: median of the images' shorter sides, in pixels.
        imbalance: training images of the largest class, divided by those of the smallest.
    """

    folder: str
    image_root: str
    delimiter: Optional[str]
    classes: int
    train: int
    val: int
    short_side: float
    imbalance: float


@dataclass(frozen=True)
class NetworkFacts:
    """A network, measured on one image.

    Attributes:
        name: as ``Arch.name`` is to have it.
        size: height and width of its published weights' images.
        resize_short: to which their shorter side is resized before the crop.
        interpolation: of the resizing.
        backend: ``cv2`` or ``pil``.
        mean: of the normalisation, RGB in [0, 1].
        std: of the normalisation.
        multiple: sides of an image are to be multiples of this.
        has_img_size: whether the constructor takes ``img_size``.
        has_drop_path: whether the constructor takes ``drop_path_rate``.
        layer_norm: whether it has layer normalisation, as networks with tokens do.
        layer_groups: whether the learning rate can fall from layer to layer.
        parameters: number of weights.
        activations: numbers that the layers put out for one image of ``size``.
    """

    name: str
    size: int
    resize_short: int
    interpolation: str
    backend: str
    mean: tuple
    std: tuple
    multiple: int
    has_img_size: bool
    has_drop_path: bool
    layer_norm: bool
    layer_groups: bool
    parameters: int
    activations: int


@dataclass(frozen=True)
class MachineFacts:
    """A machine.

    Attributes:
        device: ``cpu`` or ``gpu``.
        free_bytes: memory of the device that is free; None if unknown.
        cpus: number of processors.
    """

    device: str
    free_bytes: Optional[int]
    cpus: int


@dataclass(frozen=True)
class Wishes:
    """What the user asks for; None leaves it to the rules.

    Attributes:
        output: folder of the run.
        epochs: number of epochs.
        batch_size: images per batch.
        img_size: height and width of the images.
        pretrained: True for published weights, the path of a file, or False to start from random weights.
        flip: whether mirrored images keep their class.
        seed: of weights, order and augmentation.
    """

    output: str
    epochs: Optional[int] = None
    batch_size: Optional[int] = None
    img_size: Optional[int] = None
    pretrained: object = True
    flip: bool = True
    seed: int = 0
