"""``inference.yml``: what a predictor must know beside the exported graph, written at export and read at prediction.

Three sections are PaddleClas's own, in the form that PaddleX and FastDeploy read: ``Global.model_name``,
``PreProcess.transform_ops`` (decoding, which those do by themselves, is left out) and ``PostProcess.Topk`` with the
label names. The section ``Export`` is ours, and other readers pass over it: how images are decoded, the input's shape,
whether the graph ends in a softmax, and what it was made with.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Iterable, Optional, Union

import yaml

from ppcls_ext.data.preprocess import check_transform_ops
from ppcls_ext.utils.documents import DocumentError, check_yaml_bounds, read_text
from ppcls_ext.utils.files import sha256_of

FILE_NAME = "inference.yml"
#: How an image is decoded when the file does not say: an inference.yml that PaddleClas wrote never does, and its
#: readers take RGB.
PADDLECLAS_DECODE = {"to_rgb": True, "channel_first": False}


MAX_VALUES = 1_000_000  # ImageNet-21k has 21,841 labels
#: PyYAML without libyaml is ten times slower on long lists of labels.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: What PyYAML raises for a value that an explicit tag such as ``!!int`` misnames.
_YAML_ERRORS = (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


class InferenceConfigError(ValueError):
    """An ``inference.yml`` that cannot be used; the message names the file and the key."""


class DamagedExportError(ValueError):
    """A file of an export is not the one that was exported; the message names it."""


@dataclass
class InferenceConfig:
    """The content of an ``inference.yml``."""

    model_name: str
    transform_ops: list
    topk: int
    label_list: list
    decode: dict = field(default_factory=lambda: dict(PADDLECLAS_DECODE))
    softmax: bool = True  # whether the graph's output are probabilities
    facts: dict = field(default_factory=dict)

    def save(self, path: Union[str, Path]) -> None:
        """Write the file."""
        content = {
            "Global": {"model_name": self.model_name},
            "PreProcess": {"transform_ops": self.transform_ops},
            "PostProcess": {"Topk": {"topk": self.topk, "label_list": self.label_list}},
            "Export": {"softmax": self.softmax, "decode": self.decode, **self.facts},
        }
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
        Path(path).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: Union[str, Path]) -> InferenceConfig:
        """Read the file; nothing that decides a prediction is filled in from defaults.

        Raises:
            FileNotFoundError: there is no such file.
            InferenceConfigError: it is no YAML, or a section is missing or has another form.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is not there: it holds the preprocessing and the labels; write it with `ppcls_ext export`"
            )
        content = _read(path)
        ops = _section(path, content, "PreProcess", "transform_ops", kind=list)
        label_list = _section(path, content, "PostProcess", "Topk", "label_list", kind=list)
        topk = _section(path, content, "PostProcess", "Topk", "topk", kind=int)
        if topk < 1:
            raise InferenceConfigError(f"{path}: PostProcess.Topk.topk is {topk}; expected at least 1")
        if any(isinstance(label, (list, dict)) for label in label_list):
            raise InferenceConfigError(f"{path}: PostProcess.Topk.label_list holds more than names")
        facts = dict(_optional(path, content, "Export", {}, dict))
        config = cls(
            model_name=str(_optional(path, content, "Global", {}, dict).get("model_name", "")),
            transform_ops=ops,
            topk=topk,
            label_list=[str(label) for label in label_list],
            decode=_optional(path, facts, "decode", dict(PADDLECLAS_DECODE), dict, "Export."),
            softmax=_optional(path, facts, "softmax", True, bool, "Export."),
            facts={key: value for key, value in facts.items() if key not in ("decode", "softmax")},
        )
        problems = check_transform_ops(config.preprocessing, from_bytes=True)
        if problems:
            raise InferenceConfigError(f"{path}: PreProcess.transform_ops: {problems[0].message}")
        return config

    @classmethod
    def load_from(cls, folder: Union[str, Path]) -> InferenceConfig:
        """Read the file of an export; see :meth:`load`.

        Raises:
            FileNotFoundError: there is no such folder, or no such file in it.
        """
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"no such folder: {folder}")
        return cls.load(Path(folder, FILE_NAME))

    def record(self, files: Iterable[Path]) -> None:
        """Note size and checksum of each file of the export, for :meth:`verify`."""
        self.facts["files"] = {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in files}

    def verify(self, folder: Union[str, Path], needed: Iterable[Path]) -> None:
        """Compare files of an export with what was noted when it was made; do nothing if nothing was.

        Args:
            folder: of the export.
            needed: the files that are read; the graph of another engine may be left out of a copy. Files that were
                noted and belong to them are compared too, such as weights beside an ONNX graph.

        Raises:
            FileNotFoundError: a file is missing.
            DamagedExportError: a file has another size or checksum.
        """
        files = self.facts.get("files")
        if not isinstance(files, dict):
            return
        wanted = {path.name for path in needed}
        for name in sorted(wanted - {str(name) for name in files}):
            raise DamagedExportError(f"{folder}/{name} is not part of the export that {FILE_NAME} describes")
        for name, facts in files.items():
            path = Path(folder) / Path(str(name)).name
            if path.name not in wanted and path.name.removesuffix(".data") not in wanted:
                continue
            if not isinstance(facts, dict):
                raise DamagedExportError(f"{folder}/{FILE_NAME}: Export.files.{name} has no bytes and sha256")
            if not path.is_file():
                raise FileNotFoundError(f"{path} is not there; export the model again")
            size = path.stat().st_size
            if size != facts.get("bytes"):
                raise DamagedExportError(
                    f"{path} has {size} bytes, {facts.get('bytes')} when it was exported; copy it or export again"
                )
            if sha256_of(path) != facts.get("sha256"):
                raise DamagedExportError(
                    f"{path} is not the file that was exported (its SHA-256 differs); copy it or export again"
                )

    @property
    def preprocessing(self) -> list:
        """Return ``transform_ops`` with the decoding in front, for images as files."""
        return [{"DecodeImage": dict(self.decode)}, *copy.deepcopy(self.transform_ops)]

    def to_dict(self) -> dict:
        """Return all fields as plain data."""
        return asdict(self)


def _read(path: Path) -> Any:
    try:
        text = read_text(path)
        check_yaml_bounds(text, MAX_VALUES)
        return _LOADER(text).get_single_data()
    except DocumentError as error:
        raise InferenceConfigError(str(error)) from None
    except _YAML_ERRORS as error:
        raise InferenceConfigError(f"{path} is not YAML: {error}") from error


def _optional(path: Path, content: dict, key: str, default: Any, kind: type, prefix: str = "") -> Any:
    value = content.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise InferenceConfigError(f"{path}: {prefix}{key} is a {type(value).__name__}; expected a {kind.__name__}")
    return value


def _section(path: Path, content: object, *keys: str, kind: type):
    for depth, key in enumerate(keys):
        if not isinstance(content, dict) or content.get(key) is None:
            raise InferenceConfigError(f"{path} has no {'.'.join(keys[: depth + 1])}; expected {'.'.join(keys)}")
        content = content[key]
    if not isinstance(content, kind) or isinstance(content, bool):
        raise InferenceConfigError(
            f"{path}: {'.'.join(keys)} is a {type(content).__name__}; expected a {kind.__name__}"
        )
    return content


def portable_transforms(transform_ops: list) -> tuple[list, dict]:
    """Return ``transform_ops`` in the form other readers take, and the arguments of the decoding that was in front.

    The scale of NormalizeImage becomes a number, channels-last its usual empty ``order``, ToCHWImage is added where the
    data set did that by itself; arguments that say what is done anyway are left out, since not every reader has them.

    Raises:
        ValueError: the scale of NormalizeImage is neither a number nor a fraction such as ``1.0/255.0``.
    """
    ops: list[dict] = []
    decode = dict(PADDLECLAS_DECODE)
    for op in copy.deepcopy(transform_ops):
        (name, arguments), *_ = op.items()
        if name == "DecodeImage":
            decode = {**decode, **(arguments or {})}
        elif name == "NormalizeImage":
            ops.append({name: _portable_normalize(arguments or {})})
        elif name == "ResizeImage":
            ops.append({name: _portable_resize(arguments or {})})
        else:
            ops.append({name: arguments})
    channels_first = decode["channel_first"] or any("ToCHWImage" in op for op in ops)
    if not channels_first:
        ops.append({"ToCHWImage": None})
    return ops, decode


def _portable_resize(arguments: dict) -> dict:
    """Leave out what is the default: PaddleX calls OpenCV's bilinear filter otherwise, and has no ``return_numpy``."""
    arguments = {key: value for key, value in arguments.items() if key != "return_numpy"}
    if arguments.get("interpolation") in (None, "bilinear") and arguments.get("backend", "cv2") == "cv2":
        arguments.pop("interpolation", None)
    return arguments


def _portable_normalize(arguments: dict) -> dict:
    # Without it, the image is float32; PaddleX does not know the argument.
    arguments = {key: value for key, value in arguments.items() if key != "output_fp16"}
    arguments = {**arguments, "scale": _number(arguments.get("scale"))}
    if arguments.get("order") in (None, "hwc") and "order" in arguments:
        arguments["order"] = ""
    arguments.setdefault("channel_num", 3)
    return arguments


def _number(scale: Optional[Union[str, float]]) -> float:
    if scale is None:
        return 1.0 / 255.0
    numerator, _, denominator = str(scale).partition("/")
    try:
        return float(numerator) / float(denominator or 1.0)
    except (ValueError, ZeroDivisionError):
        raise ValueError(
            f"NormalizeImage.scale is {scale!r}; expected a number or a fraction such as 1.0/255.0"
        ) from None
