"""The registry: every backbone of this package under its name, with the facts about it.

One model, one truth: reported parameter counts, MACs, accuracies, preprocessing and weights are stated in the family's
file, as one :class:`Family` with a :class:`Variant` for each name, and are looked up here. Tests recompute them;
``python -m ppcls_ext.analysis.model_table`` prints the documentation's tables from them.

Nothing here needs Paddle: a variant is plain data, and ``catalogue.json`` repeats all of them for those who only ask
what there is. The families' files, which need Paddle, are imported when a factory or a family is asked for.
"""

from __future__ import annotations

import fnmatch
import json
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Optional, Protocol

from ppcls_ext.utils.spelling import nearest

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
NAMESPACE = "ppcls_ext"


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
    """A *published* accuracy in percent, never one measured here; ``source`` says where it was published."""

    top1: float
    source: str
    top5: Optional[float] = None
    dataset: str = "ImageNet-1k"


@dataclass(frozen=True)
class Weights:
    """A published checkpoint: where it is, whose key names it has, and its licence.

    Attributes:
        url: Address of the file; with ``manual`` that of a page to download it from, such as a drive folder.
        source: Name of the form in which the publisher writes its keys, one of the family's ``sources``.
        licence: Of the weights.
        sha256: The published hash, whole or the first digits of it, which a file's name may carry.
        manual: Whether a person has to download it in a browser.
        arguments: Constructor arguments of the model that the weights belong to, where they are not the variant's own.
        ssld: Whether these are PaddleClas's weights distilled by SSLD, which ``use_ssld=True`` asks for.
        accuracy: Published with these weights, where it is not the variant's.
    """

    url: str
    source: str
    licence: str
    sha256: Optional[str] = None
    manual: bool = False
    arguments: Optional[dict] = field(default=None, hash=False)
    ssld: bool = False
    accuracy: Optional[Accuracy] = None

    @property
    def layout(self) -> str:
        """The older word for :attr:`source`."""
        return self.source


class Factory(Protocol):
    """A function that builds a model: a variant's, or that of a class of networks."""

    __name__: str
    arguments: dict  # of the constructor, that the name stands for
    weights: tuple[Weights, ...]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the model."""


@dataclass(frozen=True)
class Variant:
    """One named model of a family: a row of the registry.

    Attributes:
        name: Of its factory, as users write it.
        params: Trainable elements, with the variant's own number of classes.
        macs: Multiply-adds at ``preprocessing.input_size``; norms, activations and biases are not counted.
        arguments: Constructor arguments that make this variant, JSON's types only.
        accuracy: Published for the first of ``weights``, or in the paper.
        preprocessing: That of the published figures.
        weights: Published checkpoints; ``pretrained=True`` means the first that can be downloaded directly.
        notes: What a user should know besides.
        paper: "Title, arXiv id"; by default the family's.
        network: Name of the class that is built; by default the first of the family's.
        family: Name of the family; filled in when the family is added.
    """

    name: str
    params: int
    macs: int
    arguments: dict = field(default_factory=dict, hash=False)
    accuracy: Optional[Accuracy] = None
    preprocessing: Preprocessing = Preprocessing()
    weights: tuple = ()
    notes: str = ""
    paper: str = ""
    network: str = ""
    family: str = ""

    @property
    def factory(self) -> Factory:
        """The function that builds it, made by :mod:`ppcls_ext.factory`."""
        return factories()[self.name]


@dataclass(frozen=True)
class Family:
    """What one file of ``ppcls_ext/arch/backbone`` has to say of its models.

    Attributes:
        name: Of the family; files may share one (Res2Net has three).
        networks: The classes, all hyper-parameters open; each is also a backbone under its own name.
        paper: "Title, arXiv id".
        variants: The named models.
        sources: How publishers name the tensors, as :class:`ppcls_ext.utils.key_rules.Source`; the first is the one to
            write when PyTorch's names are asked for.
    """

    name: str
    networks: tuple
    paper: str
    variants: tuple
    sources: tuple = ()


#: The older name of :class:`Variant`.
BackboneSpec = Variant

#: The rows of all families, for what works without Paddle; ``python -m ppcls_ext.analysis.catalogue`` writes it.
CATALOGUE = Path(__file__).with_name("catalogue.json")

_FAMILIES: list[Family] = []
_SPECS: dict[str, Variant] = {}
_FACTORIES: dict[str, Factory] = {}

_load_families: Optional[Callable[[], object]] = None


def on_first_use(load: Callable[[], object]) -> None:
    """Have ``load`` add all families and factories, as soon as something asks for one. It is called again then."""
    global _load_families
    _load_families = load


def add(family: Family) -> None:
    """Add a family and its variants.

    Raises:
        ValueError: if the name of a variant is taken.
    """
    rows = [
        replace(
            variant,
            family=family.name,
            paper=variant.paper or family.paper,
            network=variant.network or family.networks[0].__name__,
        )
        for variant in family.variants
    ]
    for row in rows:
        if row.name in _SPECS or row.name in _FACTORIES:
            raise ValueError(f"backbone {row.name!r} is registered already")
    _FAMILIES.append(family)
    _SPECS.update({row.name: row for row in rows})


def add_factory(name: str, factory: Factory) -> None:
    """Add the function that builds the backbone ``name``.

    Raises:
        ValueError: if the name has one.
    """
    if name in _FACTORIES:
        raise ValueError(f"backbone {name!r} is registered already")
    _FACTORIES[name] = factory


def families() -> tuple[Family, ...]:
    """Return all families in the order in which they were added."""
    _load()
    return tuple(_FAMILIES)


def family_of(name: str) -> Family:
    """Return the family of a variant or of a class of networks (``Name`` or ``ppcls_ext.Name``).

    Raises:
        KeyError: with the nearest names, if there is none.
    """
    bare = bare_name(name)
    for family in families():
        if any(bare == variant.name for variant in family.variants):
            return family
        if any(bare == network.__name__ for network in family.networks):
            return family
    raise KeyError(_unknown(name, [*_SPECS, *_FACTORIES]))


def factories() -> dict[str, Factory]:
    """Return every factory by name: the variants in registry order, then the classes of networks."""
    _load()
    variants = {name: _FACTORIES[name] for name in _SPECS if name in _FACTORIES}
    return {**variants, **_FACTORIES}


def specs() -> tuple[Variant, ...]:
    """Return all variants in the order in which they were added."""
    return tuple(_rows().values())


def list_backbones(pattern: str = "*") -> list[str]:
    """Return the names of the variants that match the shell pattern, case-insensitively, in registry order.

    The names of classes (``Sequencer2D`` …) are no variants; :func:`factories` has them too.

    Raises:
        TypeError: if ``pattern`` is not a string.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"pattern must be a string such as 'resnet*', got {type(pattern).__name__} {pattern!r}")
    return [name for name in _rows() if fnmatch.fnmatchcase(name.lower(), pattern.lower())]


def get_spec(name: str) -> Variant:
    """Return the variant ``name`` (``Name`` or ``ppcls_ext.Name``).

    Raises:
        KeyError: with the nearest names, if there is none.
    """
    bare = bare_name(name)
    if bare not in _rows():
        raise KeyError(_unknown(name, _rows()))
    return _rows()[bare]


def bare_name(name: str) -> str:
    """Return ``Name`` of ``Name`` or ``ppcls_ext.Name``."""
    prefix = f"{NAMESPACE}."
    return name[len(prefix) :] if name.startswith(prefix) else name


def backbone_info(name: str) -> dict:
    """Return what is known of a backbone as plain data: the fields of :class:`Variant`."""
    return asdict(get_spec(name))


def _load() -> None:
    if _load_families is not None:
        _load_families()


def _rows() -> dict[str, Variant]:
    """Return the variants that the families have added; before any has, those of the catalogue."""
    return _SPECS or _catalogue()


@lru_cache(maxsize=1)
def _catalogue() -> dict[str, Variant]:
    return {row["name"]: _variant(row) for row in json.loads(CATALOGUE.read_text(encoding="utf-8"))}


def _variant(row: dict) -> Variant:
    """Return the variant whose :func:`dataclasses.asdict` went through JSON as ``row``."""

    def accuracy(given: Optional[dict]) -> Optional[Accuracy]:
        return Accuracy(**given) if given else None

    sizes = {key: tuple(value) for key, value in row["preprocessing"].items() if isinstance(value, list)}
    weights = [Weights(**{**item, "accuracy": accuracy(item["accuracy"])}) for item in row["weights"]]
    return Variant(
        **{
            **row,
            "accuracy": accuracy(row["accuracy"]),
            "preprocessing": Preprocessing(**{**row["preprocessing"], **sizes}),
            "weights": tuple(weights),
        }
    )


def _unknown(name: str, known) -> str:
    hint = nearest(bare_name(name), known)
    return f"unknown backbone {name!r}" + (f"; did you mean {', '.join(hint)}?" if hint else "")
