"""The effective receptive fields of several models over the same images, as data and files."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional, Sequence

import numpy as np
import paddle
from pydantic import BaseModel

from ppcls_ext.analysis.benchmark.worker import reason
from ppcls_ext.analysis.receptive_field.areas import Area, Shape, high_contribution_areas, shape_of_field
from ppcls_ext.analysis.receptive_field.errors import ReceptiveFieldError
from ppcls_ext.analysis.receptive_field.field import RELU, contributions
from ppcls_ext.analysis.receptive_field.stages import LAST, find_taps
from ppcls_ext.analysis.resolution import transforms_at_resolution
from ppcls_ext.analysis.subjects import Network, open_network
from ppcls_ext.data.preprocess import build_transforms
from ppcls_ext.utils.files import write_atomically


@dataclass
class Options:
    """What is asked.

    Attributes:
        stages: numbers or names of layers, see :func:`~ppcls_ext.analysis.receptive_field.stages.find_taps`.
        resolution: height and width of the images; None means each model's own.
        overrides: ``key=value`` as after ``-o``.
        random_weights: accept models without weights.
        rectifier: of :data:`~ppcls_ext.analysis.receptive_field.field.RECTIFIERS`.
        batch: images at once.
        device: ``cpu``, ``gpu`` or ``gpu:<number>``.
    """

    stages: Sequence[str] = (LAST,)
    resolution: Optional[tuple[int, int]] = None
    overrides: Sequence[str] = ()
    random_weights: bool = False
    rectifier: str = RELU
    batch: int = 4
    device: str = "cpu"


class Field(BaseModel):
    """One stage of one model.

    Attributes:
        label: of the model.
        arch: name of the backbone.
        stage: name of the stage or layer.
        weights: ``random``, or that they were given.
        height: of the images.
        width: of the images.
        map_height: of the stage's map.
        map_width: of the stage's map.
        peak: largest value of the field, a sum over the images.
        areas: RepLKNet's area ratios.
        shape: shares in the bands through the centre.
    """

    label: str
    arch: str
    stage: str
    weights: str
    height: int
    width: int
    map_height: int
    map_width: int
    peak: float
    areas: list[Area]
    shape: Shape

    @property
    def key(self) -> str:
        """Name of its array."""
        return f"{self.label}|{self.stage}"


class Fields(BaseModel):
    """All that was found; the arrays stand beside it.

    Attributes:
        images: how many.
        rectifier: what became of the gradients.
        command: that was given.
        fields: by model, then by stage.
    """

    images: int
    rectifier: str
    command: str = ""
    fields: list[Field] = []


def receptive_fields(
    words: Sequence[str],
    images: Sequence[Path],
    options: Options,
    progress: Optional[Callable[[str], None]] = None,
) -> tuple[Fields, dict[str, np.ndarray]]:
    """Compute the field of each stage of each model, summed over the images.

    Args:
        words: each names a model, see :func:`~ppcls_ext.analysis.subjects.open_network`; their labels must differ.
        images: files.
        options: what is asked.
        progress: called with what is done next.

    Returns:
        The figures, and float64 ``[H, W]`` by :attr:`Field.key`.

    Raises:
        ReceptiveFieldError: an image cannot be read, a model has no such stage or does not take the size, no gradient
            reaches the image, or something is not finite; naming it.
        ResolutionError: see :func:`~ppcls_ext.analysis.resolution.transforms_at_resolution`.
        SubjectError, ConfigError, …: see :func:`~ppcls_ext.analysis.subjects.open_network`.
    """
    paddle.set_device(options.device)
    found = Fields(images=len(images), rectifier=options.rectifier)
    arrays: dict[str, np.ndarray] = {}
    for word in words:
        if progress is not None:
            progress(word)
        paddle.seed(0)  # so that random weights are the same ones again
        network = open_network(word, options.overrides, options.random_weights)
        if any(field.label == network.label for field in found.fields):
            raise ReceptiveFieldError(f"two models are called {network.label}; name them, such as a={word}")
        try:
            _add(network, images, options, found, arrays)
        except ReceptiveFieldError as error:
            raise ReceptiveFieldError(f"{network.label}: {error}") from None
        del network  # they may not fit into memory together
        gc.collect()
    return found, arrays


def _add(network: Network, images: Sequence[Path], options: Options, found: Fields, arrays: dict) -> None:
    size = options.resolution or network.size
    transforms = network.transforms
    if size != network.size:
        transforms = transforms_at_resolution(transforms, network.size, size)
    pipeline = build_transforms(transforms, from_bytes=True)
    taps = find_taps(network.model, network.arch, options.stages)
    sums: list = [0.0] * len(taps)
    sizes: list = [(0, 0)] * len(taps)
    for begin in range(0, len(images), options.batch):
        paths = images[begin : begin + options.batch]
        batch = np.stack([_read(pipeline, path) for path in paths])
        try:
            results = contributions(network.model, taps, batch, options.rectifier)
        except ReceptiveFieldError as error:
            raise ReceptiveFieldError(f"{error} (images {paths[0]} to {paths[-1]})") from None
        except ValueError as error:  # of PaddleClas's networks from Paddle's operators
            raise ReceptiveFieldError(f"it does not take images of {size[0]}x{size[1]}: {reason(error)}") from error
        for number, (values, map_size) in enumerate(results):
            sums[number] = sums[number] + values
            sizes[number] = map_size
    for tap, values, map_size in zip(taps, sums, sizes):
        if not values.any():
            raise ReceptiveFieldError(
                f"the gradient of {tap.name} is zero everywhere: nothing leads from the image to the centre of its map"
            )
        field = Field(
            label=network.label,
            arch=network.arch,
            stage=tap.name,
            weights="random" if options.random_weights and not _has_weights(network) else "given",
            height=values.shape[0],
            width=values.shape[1],
            map_height=map_size[0],
            map_width=map_size[1],
            peak=float(values.max()),
            areas=high_contribution_areas(values, len(images)),
            shape=shape_of_field(values, map_size),
        )
        found.fields.append(field)
        arrays[field.key] = values


def _has_weights(network: Network) -> bool:
    cfg = network.cfg
    return cfg is not None and bool(cfg.Global.pretrained_model or cfg.Arch.pretrained)


def _read(pipeline: Callable, path: Path) -> np.ndarray:
    """Return an image ``[C, H, W]`` as the network takes it.

    Raises:
        ReceptiveFieldError: it cannot be read.
    """
    try:
        return pipeline(Path(path).read_bytes())
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[-1]
        raise ReceptiveFieldError(f"{path} cannot be read: {reason}") from None


def write_files(found: Fields, arrays: dict[str, np.ndarray], folder: Path) -> None:
    """Write ``erf.json`` and, with an array ``[H, W]`` for each field, ``erf.npz`` into a folder."""
    text = found.model_dump_json(indent=1) + "\n"
    write_atomically(folder / "erf.json", lambda aside: aside.write_text(text, encoding="utf-8"))

    def write(aside: Path) -> None:
        with aside.open("wb") as stream:
            np.savez_compressed(stream, **{key: values.astype(np.float32) for key, values in arrays.items()})

    write_atomically(folder / "erf.npz", write)
