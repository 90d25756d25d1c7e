"""From a config to a folder that predicts: the static graph, its weights and ``inference.yml``.

Every graph is written aside, loaded again with the engine that it is for and compared with the dygraph model at two
batch sizes and, where the backbone takes any size, two resolutions. Only then do the new files take the places of the
old, so that a failed export leaves the previous one whole.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence, Union

import numpy as np
import paddle
from paddle import nn

from ppcls_ext.arch.backbone.base import Backbone
from ppcls_ext.config import Config
from ppcls_ext.engine.class_names import prediction_labels
from ppcls_ext.engine.deploy.comparison import CHECKED_BATCH_SIZES
from ppcls_ext.engine.deploy.engines.graphs import ONNX_FILE, PADDLE_SUFFIXES, PREFIX, paddle_graph
from ppcls_ext.engine.deploy.errors import ExportError
from ppcls_ext.engine.deploy.inference_yml import FILE_NAME, InferenceConfig, portable_transforms
from ppcls_ext.engine.deploy.onednn import try_onednn
from ppcls_ext.engine.deploy.onnx.normalization import Normalization
from ppcls_ext.engine.deploy.onnx.outputs import check_outputs
from ppcls_ext.engine.deploy.onnx.requirements import DEFAULT_OPSET, check_installed, check_opset
from ppcls_ext.engine.deploy.onnx.writing import OnnxWriter, named_outputs
from ppcls_ext.engine.deploy.paddle_writing import (
    PIR_FLAG,
    sample_of,
    samples_at_another_size,
    uses_pir,
    write_paddle_graph,
)
from ppcls_ext.engine.deploy.placing import move_into_place
from ppcls_ext.engine.deploy.triton import check_place, write_repository
from ppcls_ext.engine.evaluation_transforms import evaluation_transforms
from ppcls_ext.engine.logger import log_config, start_logging
from ppcls_ext.engine.model import load_trained, logits_of
from ppcls_ext.version import __version__

logger = logging.getLogger("ppcls_ext")

#: Files whose sizes and checksums inference.yml states.
RECORDED_SUFFIXES = (*PADDLE_SUFFIXES, ".pdiparams", ".onnx", ".data")
FORMATS = ("default", "legacy", "onnx", "triton")


class InferenceModel(nn.Layer):
    """A backbone as it is deployed: one output tensor, probabilities unless ``softmax`` is off.

    Args:
        backbone: gives a tensor, a list whose first item counts, or a mapping.
        output_key: which item of a mapping.
        softmax: whether to end in a softmax over the classes.
    """

    def __init__(self, backbone: nn.Layer, output_key: str = "logits", softmax: bool = True):
        super().__init__()
        self.backbone = backbone
        self.output_key = output_key
        self.softmax = softmax

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """``[N, C, H, W]`` -> ``[N, class_num]``."""
        output = logits_of(self.backbone(x), self.output_key)
        return nn.functional.softmax(output, axis=-1) if self.softmax else output


@dataclass(frozen=True)
class OnnxOptions:
    """What an ONNX graph is to be like.

    Attributes:
        opset: version of ONNX's operators.
        outputs: names of the results; None means what the Paddle graph gives.
        uint8_input: whether it takes images ``[N, H, W, C]`` of uint8 and normalises them itself.
    """

    opset: int = DEFAULT_OPSET
    outputs: Optional[Sequence[str]] = None
    uint8_input: bool = False


def export(
    cfg: Config,
    format: Union[str, Sequence[str]] = "default",
    onnx: Optional[OnnxOptions] = None,
    random_weights: bool = False,
    onednn: bool = True,
) -> Path:
    """Export the model that ``cfg`` describes into ``Global.save_inference_dir``.

    Args:
        cfg: the validated config; ``Global.pretrained_model`` names the weights.
        format: one or several. ``default`` is what this Paddle writes: ``inference.json`` (3.x) or
            ``inference.pdmodel`` (2.6). ``legacy`` is ``inference.pdmodel`` on both, which the predictor of PaddleClas
            2.6 reads. ``onnx`` is ``inference.onnx``. ``triton`` is that too, and a model repository for Triton with a
            copy of it, see :mod:`ppcls_ext.engine.deploy.triton`.
        onnx: options of the ONNX graph.
        random_weights: accept a config that names no weights; the model then has its initial ones.
        onednn: whether to find out if Paddle Inference may use oneDNN, see
            :mod:`ppcls_ext.engine.deploy.onednn`; otherwise it will not.

    Returns:
        The folder.

    Raises:
        ExportError: the model has another number of classes than the config or the label file, it cannot be traced, or
            the written files compute something else than the model.
        OnnxExportError: the packages that ONNX needs are missing, or the model cannot be written as ONNX.
        ValueError: a bad argument.
        MissingWeightsError, WeightMismatchError, NonFiniteWeightsError: see
            :func:`ppcls_ext.engine.model.load_trained`.
    """
    formats = check_formats(format, onnx)
    if "onnx" in formats:
        check_installed()
        onnx = onnx or OnnxOptions()
        check_opset(onnx.opset)
    folder = Path(cfg.Global.save_inference_dir)
    if int(os.environ.get("PADDLE_TRAINER_ID") or 0) != 0:
        return folder
    start_logging(True, Path(cfg.Global.output_dir) / "export.log")
    if formats == ["legacy"] and uses_pir():
        return _export_in_child(cfg, folder, random_weights, onednn)
    log_config(cfg)
    device = paddle.get_device()
    paddle.set_device("cpu")  # the files know no device
    try:
        _export(cfg, folder, formats, onnx, random_weights, onednn)
    finally:
        paddle.set_device(device)
    return folder


def check_formats(format: Union[str, Sequence[str]], onnx: Optional[OnnxOptions] = None) -> list[str]:
    """Return the formats as a list.

    Raises:
        ValueError: one is unknown or occurs twice, two cannot share a folder, or there are options of ONNX without it.
    """
    formats = [format] if isinstance(format, str) else list(format)
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"format is {name!r}; expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
        if formats.count(name) > 1:
            raise ValueError(f"format {name!r} is given twice")
    if "triton" in formats and "onnx" not in formats:
        formats.insert(formats.index("triton"), "onnx")  # it is a copy
    if not formats:
        raise ValueError(f"no format is given; expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if {"default", "legacy"} <= set(formats):
        raise ValueError("formats default and legacy cannot share a folder: both write inference.pdiparams")
    if onnx is not None and "onnx" not in formats:
        raise ValueError("opset, outputs and uint8_input are options of the format onnx, which is not given")
    return formats


def _export(
    cfg: Config,
    folder: Path,
    formats: list[str],
    onnx: Optional[OnnxOptions],
    random_weights: bool,
    onednn: bool,
) -> None:
    model = _load(cfg, random_weights)
    channels, height, width = cfg.Global.image_shape
    native = [sample_of(model, n, (channels, height, width)) for n in CHECKED_BATCH_SIZES]
    labels = _labels(cfg, class_num=native[0].output.shape[-1])
    if all(
        np.array_equal(sample.output, np.broadcast_to(native[0].output[0], sample.output.shape)) for sample in native
    ):
        logger.warning("the model gives the same output for every input, so comparing outputs proves little")
    other = samples_at_another_size(model, (channels, height, width))
    description = _describe(cfg, labels)
    if "triton" in formats:
        check_place(folder, description.model_name)
    if onnx is not None:
        writer = _onnx_writer(model, onnx, description.transform_ops)
        for_onnx = [[writer.sample(len(s.images), s.images.shape[1:]) for s in part] for part in (native, other)]
    _re_parameterize(model)
    if isinstance(model.backbone, Backbone):
        model.backbone.fold(height, width)

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as name:
        aside = Path(name)
        if "default" in formats or ("legacy" in formats and not uses_pir()):
            facts = write_paddle_graph(cfg.Arch.name, model, aside, (channels, height, width), native, other)
            description.facts.update(facts)
            graph = paddle_graph(aside) if onednn else None
            if graph is not None:
                tried = native + other if "height" in facts["dynamic"] else native
                description.facts["onednn"] = try_onednn(graph, tried)
        elif "legacy" in formats:
            description.facts.update(_legacy_from_child(cfg, aside, random_weights, onednn))
        if onnx is not None:
            facts = writer.write(aside / ONNX_FILE, channels, (height, width), *for_onnx)
            if not {"default", "legacy"} & set(formats):
                description.facts.update(graph=ONNX_FILE, dynamic=facts["dynamic"])
                description.softmax = facts["outputs"][0] == "probabilities"
            description.facts["onnx"] = facts
        if "triton" in formats:
            write_repository(aside, description.model_name, aside / ONNX_FILE, labels)
        description.record(sorted(path for path in aside.iterdir() if path.suffix in RECORDED_SUFFIXES))
        description.save(aside / FILE_NAME)
        move_into_place(aside, folder)
    logger.info('Export succeeded! The inference model exported has been saved in "%s".', folder / PREFIX)


def _onnx_writer(model: InferenceModel, onnx: OnnxOptions, transform_ops: list) -> OnnxWriter:
    scores = "probabilities" if model.softmax else "logits"
    outputs = check_outputs(list(onnx.outputs or [scores]), model.backbone)
    normalization = Normalization.of(transform_ops) if onnx.uint8_input else None
    return OnnxWriter(named_outputs(model.backbone, model.output_key, outputs), onnx.opset, normalization)


def _load(cfg: Config, random_weights: bool = False) -> InferenceModel:
    """Build the model with its weights, in evaluation mode."""
    if random_weights:
        paddle.seed(cfg.Global.seed or 0)  # the process that writes the legacy format must get the same ones
    model = InferenceModel(
        load_trained(cfg, "exported", random_weights),
        output_key=cfg.Arch.infer_output_key or "logits",
        softmax=cfg.Arch.infer_add_softmax is not False,
    )
    model.eval()
    return model


def _labels(cfg: Config, class_num: int) -> list[str]:
    """Return the label names; the widths of head, config and label file must be one number."""
    expected = cfg.Arch.class_num
    if expected is not None and class_num != expected:
        raise ExportError(f"the model has {class_num} outputs, but Arch.class_num is {expected}")
    try:
        return prediction_labels(cfg, class_num)
    except ValueError as error:
        raise ExportError(str(error)) from error


def _re_parameterize(model: nn.Layer) -> None:
    """Fold the branches of RepVGG-like layers; some have ``is_repped``, others fold once by themselves."""
    for layer in model.sublayers():
        if hasattr(layer, "re_parameterize") and not getattr(layer, "is_repped", False):
            layer.re_parameterize()


def _describe(cfg: Config, labels: list[str]) -> InferenceConfig:
    """Return the content of ``inference.yml``, without what is known of a graph only once it is written."""
    section, transforms = evaluation_transforms(cfg)
    transform_ops, decode = portable_transforms(transforms)
    post_process = cfg.Infer.PostProcess if cfg.Infer is not None else None
    topk = post_process.topk if post_process is not None else 5
    return InferenceConfig(
        model_name=cfg.Global.pdx_model_name or cfg.Arch.name.rpartition(".")[2],
        transform_ops=transform_ops,
        topk=min(topk, len(labels)),
        label_list=labels,
        decode=decode,
        softmax=cfg.Arch.infer_add_softmax is not False,
        facts={
            "graph": "",
            "image_shape": list(cfg.Global.image_shape),
            "dynamic": [],
            "class_num": len(labels),
            "transforms_from": section,
            "paddle": paddle.__version__,
            "ppcls_ext": __version__,
        },
    )


def _export_in_child(cfg: Config, folder: Path, random_weights: bool, onednn: bool, *overrides: str) -> Path:
    """Export in a process of its own: Paddle 3 reads the switch for the old format at import only."""
    environment = {**os.environ, PIR_FLAG: "0"}
    paths = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    with tempfile.TemporaryDirectory(prefix="ppcls_ext-export-") as scratch:
        config = Path(scratch) / "config.yaml"
        cfg.save(config)
        command = [sys.executable, "-m", "ppcls_ext.cli", "export", "-c", str(config)]
        command += ["--random_weights"] if random_weights else []
        command += [] if onednn else ["--no_onednn"]
        command += ["-o", *overrides] if overrides else []
        child = subprocess.run(command, env=environment, check=False)
    if child.returncode != 0:
        raise ExportError(f"the process that writes the legacy format ended with exit code {child.returncode}")
    return folder


def _legacy_from_child(cfg: Config, aside: Path, random_weights: bool, onednn: bool) -> dict:
    """Put the legacy format beside other files of this export and return what is known of it."""
    made = aside.parent / f"{aside.name}-legacy"
    try:
        _export_in_child(
            cfg, made, random_weights, onednn, f"Global.save_inference_dir={made}", f"Global.output_dir={made}"
        )
        facts = InferenceConfig.load(made / FILE_NAME).facts
        for path in made.glob(f"{PREFIX}.pd*"):
            os.replace(path, aside / path.name)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return {name: facts[name] for name in ("graph", "dynamic", "onednn") if name in facts}
