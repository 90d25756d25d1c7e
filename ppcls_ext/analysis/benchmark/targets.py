"""What a name on the command line means: backbones of this package or of PaddleClas, or an exported folder."""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

from ppcls_ext import plugin, registry
from ppcls_ext.engine.deploy.engines.graphs import ONNX_FILE, PADDLE_SUFFIXES, PREFIX
from ppcls_ext.engine.deploy.inference_yml import FILE_NAME, InferenceConfig
from ppcls_ext.registry import NAMESPACE, Preprocessing
from ppcls_ext.utils.files import open_regular
from ppcls_ext.utils.spelling import nearest

PADDLECLAS, FOLDER = "paddleclas", "folder"
#: In the names of ONNX's operators on whole numbers.
_QUANTISATION = (b"QuantizeLinear", b"DynamicQuantize", b"MatMulInteger", b"ConvInteger")
#: Shell patterns hold one of these.
_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Target:
    """Something that can be measured.

    Attributes:
        name: as results show it.
        source: ``ppcls_ext``, ``paddleclas`` or ``folder``.
        size: height and width that it was made for.
        folder: of an export.
        precision: of an export; None for a backbone.
        top1: published accuracy at ``size``, in percent.
        preprocessing: that of the published figures.
    """

    name: str
    source: str
    size: tuple[int, int]
    folder: Optional[Path] = None
    precision: Optional[str] = None
    top1: Optional[float] = None
    preprocessing: Preprocessing = Preprocessing()

    @property
    def bare_name(self) -> str:
        """The name without the word for where it is from."""
        return self.name.rpartition(".")[2] if self.folder is None else self.name

    @property
    def full_name(self) -> str:
        """What :func:`ppcls_ext.factory.create_backbone` takes, whoever else has a model of that name."""
        return f"{self.source}.{self.bare_name}"

    @property
    def arch(self) -> str:
        """What ``Arch.name`` of a YAML file would be."""
        return self.bare_name if self.source == PADDLECLAS else self.full_name

    def transform_ops(self, height: int, width: int) -> list[dict]:
        """Return the preprocessing of published figures, scaled to another size."""
        facts = self.preprocessing
        short = round(facts.resize_short / facts.input_size[1] * max(height, width))
        return [
            {"DecodeImage": {"to_rgb": True, "channel_first": False}},
            {"ResizeImage": {"resize_short": short, "interpolation": facts.interpolation, "backend": facts.backend}},
            {"CropImage": {"size": [width, height]}},
            {"NormalizeImage": {"scale": "1.0/255.0", "mean": [*facts.mean], "std": [*facts.std], "order": ""}},
            {"ToCHWImage": None},
        ]


def find_targets(words: Sequence[str]) -> list[Target]:
    """Return what the words mean, in their order and each once.

    Args:
        words: ``Name``, ``ppcls_ext.Name`` or ``paddleclas.Name`` of a backbone, a shell pattern of names of this
            package such as ``sequencer2d_*``, or a folder that ``ppcls_ext export`` wrote.

    Raises:
        KeyError: with the nearest names, if there is no such backbone or folder.
        FileNotFoundError, InferenceConfigError: a folder is no export.
    """
    found: dict[str, Target] = {}
    for word in words:
        for target in _targets(word):
            found.setdefault(target.name, target)
    return list(found.values())


def _targets(word: str) -> list[Target]:
    bare = registry.bare_name(word)
    if Path(word).is_dir() and (Path(word, FILE_NAME).is_file() or bare not in registry.list_backbones()):
        return [_export(word)]
    if _PATTERN.search(word):
        names = registry.list_backbones(registry.bare_name(word))
        if not names:
            raise KeyError(f"no backbone matches {word!r}; `ppcls_ext list` shows all")
        return [_ours(name) for name in names]
    if bare in registry.list_backbones():
        return [_ours(bare, shown=word)]
    return [_from_factories(word)]


def _ours(name: str, shown: Optional[str] = None) -> Target:
    spec = registry.get_spec(name)
    _, height, width = spec.preprocessing.input_size
    return Target(
        shown or name,
        NAMESPACE,
        (height, width),
        top1=spec.accuracy.top1 if spec.accuracy and spec.accuracy.dataset == "ImageNet-1k" else None,
        preprocessing=spec.preprocessing,
    )


def _from_factories(word: str) -> Target:
    """Return a class of networks of ours, or a backbone of PaddleClas's; both are known only once Paddle is there."""
    bare = registry.bare_name(word)
    if bare in registry.factories():
        return Target(word, NAMESPACE, (224, 224))
    theirs = word.removeprefix(f"{PADDLECLAS}.")
    if bare != word or plugin.paddleclas_factory(theirs) is None:
        known = [
            *registry.factories(),
            *plugin.paddleclas_names(),
            *(f"{PADDLECLAS}.{n}" for n in plugin.paddleclas_names()),
        ]
        hint = nearest(word, known)
        looks_like_path = "/" in word or "\\" in word
        what = "no such folder" if looks_like_path else "no such backbone or exported folder"
        message = f"{what}: {word}" + (f"; did you mean {', '.join(hint)}?" if hint else "")
        missing = "" if plugin.trees() or looks_like_path else "; PaddleClas is not installed"
        raise KeyError(message + missing)
    # PaddleClas says the size of a model nowhere but, of some, in their names.
    size = re.search(r"_(\d{3})$", theirs)
    side = int(size[1]) if size else 224
    return Target(f"{PADDLECLAS}.{theirs}", PADDLECLAS, (side, side), preprocessing=Preprocessing((3, side, side)))


def _export(word: str) -> Target:
    folder = Path(word)
    config = InferenceConfig.load_from(folder)
    graphs = (ONNX_FILE, *(PREFIX + suffix for suffix in PADDLE_SUFFIXES))
    if not any((folder / name).is_file() for name in graphs):
        raise FileNotFoundError(f"{folder} holds {FILE_NAME} but no graph: neither {' nor '.join(graphs)}")
    shape = config.facts.get("image_shape")
    if not (isinstance(shape, list) and len(shape) == 3 and all(isinstance(size, int) for size in shape)):
        shape = [3, 224, 224]  # PaddleClas's own inference.yml does not say
    return Target(
        word.rstrip("/\\"),
        FOLDER,
        (shape[1], shape[2]),
        folder=folder,
        precision="int8" if _is_quantised(folder / ONNX_FILE) else "fp32",
    )


def _is_quantised(graph: Path) -> bool:
    """Return whether an ONNX file holds an operator of quantisation, by its name among the bytes."""
    if not graph.is_file() or not graph.stat().st_size:
        return False
    with open_regular(graph) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(name) >= 0 for name in _QUANTISATION)
