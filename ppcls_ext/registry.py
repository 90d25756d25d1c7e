"""The registry: every backbone of ours under its name, with the facts about it.

One model, one truth: reported parameter counts, MACs, accuracies, preprocessing and weights live here and nowhere
else; tests recompute them, documentation tables and ``tools/benchmark.py`` read them.
"""

from __future__ import annotations

import fnmatch
from dataclasses import asdict, dataclass, field
from typing import Callable, Optional

from ppcls_ext.utils.spelling import nearest

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input that the published figures were measured with.

    The short side is resized to ``resize_short`` pixels, the centre ``input_size`` is cropped, values in [0, 1] are
    normalised by ``mean`` and ``std`` (RGB).
    """

    input_size: tuple = (3, 224, 224)
    resize_short: int = 256
    interpolation: str = "bicubic"
    backend: str = "pil"
    mean: tuple = IMAGENET_MEAN
    std: tuple = IMAGENET_STD


@dataclass(frozen=True)
class Accuracy:
    """A *published* accuracy in percent, never one of ours; ``source`` says where it was published."""

    top1: float
    source: str
    top5: Optional[float] = None
    dataset: str = "ImageNet-1k"


@dataclass(frozen=True)
class Weights:
    """A published checkpoint: where it is, whose key names it has, and its licence.

    ``sha256`` is the published hash, whole or the first digits of it, which a file's name may carry.
    ``manual`` says that ``url`` is a page for people, such as a drive folder, and not the file itself.
    ``arguments`` are the constructor arguments of the model that it is of, where they are not the name's own.
    """

    url: str
    source: str
    licence: str
    sha256: Optional[str] = None
    manual: bool = False
    arguments: Optional[dict] = field(default=None, hash=False)
    ssld: bool = False

    @property
    def layout(self) -> str:
        """The older word for :attr:`source`."""
        return self.source


@dataclass(frozen=True)
class BackboneSpec:
    """One row of the registry."""

    name: str
    family: str
    factory: Callable = field(repr=False)
    paper: str  # "Title, arXiv id"
    params: int  # trainable elements, with the variant's own number of classes
    macs: int  # multiply-adds at preprocessing.input_size; norms, activations and biases are not counted
    preprocessing: Preprocessing = Preprocessing()
    accuracy: Optional[Accuracy] = None
    weights: tuple = ()
    notes: str = ""


_SPECS: dict[str, BackboneSpec] = {}
_GENERIC: dict[str, Callable] = {}


def add(spec: BackboneSpec) -> BackboneSpec:
    """Enter ``spec``.

    Raises:
        ValueError: if the name is taken.
    """
    if spec.name in factories():
        raise ValueError(f"backbone {spec.name!r} is registered already")
    _SPECS[spec.name] = spec
    return spec


def add_generic(name: str, factory: Callable) -> Callable:
    """Enter a family's generic factory: every hyper-parameter open, so there are no facts to state.

    Raises:
        ValueError: if the name is taken.
    """
    if name in factories():
        raise ValueError(f"backbone {name!r} is registered already")
    _GENERIC[name] = factory
    return factory


def factories() -> dict[str, Callable]:
    """Return every factory by name: the variants in the order in which they were entered, then the generic ones."""
    return {**{name: spec.factory for name, spec in _SPECS.items()}, **_GENERIC}


def specs() -> tuple[BackboneSpec, ...]:
    """Return all rows in the order in which they were entered."""
    return tuple(_SPECS.values())


def list_backbones(pattern: str = "*") -> list[str]:
    """Return the names of our variants that match the shell pattern, in registry order; case matters not.

    The generic names (``Sequencer2D`` …) are no variants; :func:`factories` has them too.
    """
    return [name for name in _SPECS if fnmatch.fnmatchcase(name.lower(), pattern.lower())]


def get_spec(name: str) -> BackboneSpec:
    """Return the row of ``name`` (``Name`` or ``ppcls_ext.Name``).

    Raises:
        KeyError: with the nearest names, if there is none.
    """
    bare = name[len("ppcls_ext.") :] if name.startswith("ppcls_ext.") else name
    if bare not in _SPECS:
        hint = nearest(bare, _SPECS)
        raise KeyError(f"unknown backbone {name!r}" + (f"; did you mean {', '.join(hint)}?" if hint else ""))
    return _SPECS[bare]


def backbone_info(name: str) -> dict:
    """Return what is known of a backbone as plain data.

    The keys are the fields of :class:`BackboneSpec` but ``factory``: ``params`` counts trainable elements, ``macs``
    multiply-adds at the native size, ``accuracy`` is as published, with its source.
    """
    spec = get_spec(name)
    info = {key: value for key, value in vars(spec).items() if key != "factory"}
    info["preprocessing"] = asdict(spec.preprocessing)
    info["accuracy"] = asdict(spec.accuracy) if spec.accuracy else None
    info["weights"] = [asdict(weights) for weights in spec.weights]
    return info
